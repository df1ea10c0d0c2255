"""The registered MLflow model, as code: a table of records in, probabilities and outliers out.

It loads the bundle and calls the same scoring package as the server, so batch and online answers are
equal. Drift is a property of a request as a whole and is answered by the server alone.
"""

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel

from serving.scoring.bundle import Bundle
from serving.scoring.encode import encode_checked
from serving.scoring.spelling import column_values


class ScoringModel(PythonModel):
    """Scores a ``DataFrame`` of request records, one row each."""

    def load_context(self, context: Any) -> None:
        self.bundle = Bundle.load(context.artifacts["bundle"])

    # MLflow takes type hints for a schema of its own; the signature is written in training/registry/register.py.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """One row for each record: probability, outlier flag and outlier score.

        Raises ``EncodeError`` for a table with values that the server would refuse.
        """
        columns = {name: column_values(model_input[name]) for name in model_input.columns}
        result = self.bundle.score_fields(encode_checked(columns, self.bundle.contract))
        return pd.DataFrame(
            {
                "classifier__predictions": result.classifier__predictions,
                "outliers__is_outlier": result.outliers__is_outlier,
                "outliers__score": result.outliers__score,
            },
            index=model_input.index,
        )


mlflow.models.set_model(ScoringModel())
