"""The registered model as a BentoML service, for the serving benchmark; only where BentoML is installed.

    bentoml serve benchmarks.serving_bentoml:Scoring

``BENCHMARK_MODEL`` names the folder of the MLflow model.
"""

import os
from typing import Any

import bentoml  # type: ignore[import-not-found, unused-ignore]
import mlflow
import pandas as pd


@bentoml.service(workers=1, traffic={"timeout": 60})
class Scoring:
    """Probabilities and outliers; drift is not tested, and nothing is logged."""

    def __init__(self) -> None:
        self._model = mlflow.pyfunc.load_model(os.environ["BENCHMARK_MODEL"])

    @bentoml.api  # type: ignore[untyped-decorator, unused-ignore]
    def predict(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        """``{"records": [...]}`` in, a list for each figure out."""
        answer: dict[str, Any] = self._model.predict(pd.DataFrame(records)).to_dict("list")
        return answer
