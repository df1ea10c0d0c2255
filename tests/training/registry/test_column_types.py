"""The columns that MLflow is told of: what the server takes passes MLflow's own check."""

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import validate_schema
from mlflow.types import ColSpec, Schema

from serving.scoring.contract import Contract, Field, OutlierRule
from training.registry.register import signature

COUNT = Field("rooms", "integer", "Rooms", 2, minimum=1, maximum=20)
SIZE = Field("size", "number", "Size", 54.5, minimum=5.0, maximum=1000.0)
WRITTEN = {
    "whole": [2, 3],
    "with a fraction": [2.0, 3.0],
    "one missing": [2, None],
    "all missing": [None, None],
}


def table(values):
    return pd.DataFrame({"rooms": values, "size": values})


@pytest.mark.parametrize("values", WRITTEN.values(), ids=WRITTEN)
def test_numbers_pass_however_pandas_keeps_them(values):
    contract = Contract(2, "flats", "Flats", "Finds flats.", (COUNT, SIZE), OutlierRule(1, 1.0, -0.5), 400)
    validate_schema(table(values), signature(contract).inputs)


@pytest.mark.parametrize(("kind", "values"), [("double", WRITTEN["whole"]), ("long", WRITTEN["one missing"])])
def test_no_type_of_mlflows_own_takes_both_so_that_inputs_are_of_any(kind, values):
    """Where this fails after an update of MLflow, the signature can name real types."""
    with pytest.raises(MlflowException, match="Can not safely convert"):
        validate_schema(table(values), Schema([ColSpec(kind, "rooms"), ColSpec(kind, "size")]))
