"""The registered MLflow model, as code: a table of records in, probabilities and outliers out.

With the parameter ``explain=True`` each row also has the reasons that the server gives: ``base`` and ``other`` in
log-odds, and ``reasons`` as JSON text, because a table's column has one type.

It loads the bundle and calls the same scoring package as the server, so batch and online answers are
equal. Drift is a property of a request as a whole and is answered by the server alone.
"""

from typing import Any

import mlflow
import msgspec
import pandas as pd
from mlflow.pyfunc.model import PythonModel

from serving.scoring.bundle import Bundle
from serving.scoring.encode import encode_checked
from serving.scoring.spelling import column_values


class ScoringModel(PythonModel):
    """Scores a ``DataFrame`` of request records, one row each."""

    def load_context(self, context: Any) -> None:
        self.bundle = Bundle.load(context.artifacts["bundle"])

    # MLflow takes other type hints for a schema of its own, and warns where there is none; the signature is written in
    # training/registry/register.py.
    def predict(self, context, model_input: pd.DataFrame, params=None):  # type: ignore[no-untyped-def]
        """One row for each record: probability, outlier flag and outlier score; with ``explain``, its reasons too.

        Raises ``EncodeError`` for a table with values that the server would refuse.
        """
        columns = {name: column_values(model_input[name]) for name in model_input.columns}
        fields = encode_checked(columns, self.bundle.contract)
        result = self.bundle.score_fields(fields)
        answer = {
            "classifier__predictions": result.classifier__predictions,
            "outliers__is_outlier": result.outliers__is_outlier,
            "outliers__score": result.outliers__score,
        }
        if params and params.get("explain"):
            explained = list(self.bundle.explain(fields, lambda record, name: columns[name][record]))
            answer |= {
                "base": [row.base for row in explained],
                "reasons": [msgspec.json.encode(row.reasons).decode() for row in explained],
                "other": [row.other for row in explained],
            }
        return pd.DataFrame(answer, index=model_input.index)


mlflow.models.set_model(ScoringModel())
