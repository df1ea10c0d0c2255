"""The registered MLflow model, as code: a history and a plan in one table in, forecasts with intervals out."""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel

from training.forecasting.forecaster import Forecaster


class ForecastModel(PythonModel):
    """Forecasts the whole horizon from a ``DataFrame`` of the history's columns.

    Rows after the last week with a quantity are the plan: what is known of weeks to come, the quantity missing.
    """

    def load_context(self, context: Any) -> None:
        self.forecaster = Forecaster.load(Path(context.artifacts["bundle"]))

    # MLflow takes other type hints for a schema of its own, and warns where there is none; the signature is written in
    # training/forecasting/registered.py.
    def predict(self, context, model_input: pd.DataFrame, params=None):  # type: ignore[no-untyped-def]
        """A row for each series and week; raises ``TableError`` for a table that cannot be forecast from."""
        definition = self.forecaster.definition
        time = model_input[definition.time]
        ended = time <= time[model_input[definition.label.field].notna()].max()
        plan = model_input[list(definition.plan_columns)]
        return self.forecaster.forecast(model_input[ended], plan)


mlflow.models.set_model(ForecastModel())
