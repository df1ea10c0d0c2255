"""The registered models as MLflow reads them: files of code."""

import runpy
import warnings
from pathlib import Path

import pytest

from training import forecasting, registry


@pytest.mark.parametrize("package", [registry, forecasting], ids=["classifier", "forecaster"])
def test_mlflow_has_nothing_to_warn_of(package):
    """Its warning stood in the log of every training, and no filter of the caller's stops it."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        runpy.run_path(str(Path(package.__path__[0]) / "pyfunc_model.py"))
    assert [str(one.message) for one in told] == []
