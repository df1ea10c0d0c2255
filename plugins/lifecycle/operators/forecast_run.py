"""The operators that write forecasts, and judge them, on Databricks, once."""

from typing import Any

import msgspec

from lifecycle import settings
from lifecycle.operators.batch_run import BatchRunOperator


class ForecastRunOperator(BatchRunOperator):
    """Write one date's forecasts with one pinned version, by the code that was approved with it.

    :param pinned: what ``lifecycle.tasks.forecasting.order_of`` returned. (templated)
    """

    purpose = "forecast"
    entry = "training/forecast_job.py"

    def check_approval(self) -> None:
        """Raise ``RegistryError`` unless bundle and code were approved together, and the code lies in its place."""
        from lifecycle import released_model
        from lifecycle.hooks.registry import RegistryError
        from lifecycle.tasks import publish

        found, code_hash = self.pinned, self.code["code_hash"]
        released_model.check_approved(self.use_case, found["version"], found["bundle_digest"], code_hash)
        place = publish.place_of(settings.load().training.code_root, code_hash)
        if self.code["path"] != place:
            raise RegistryError(f"its code {code_hash} lies at {place}, and not at {self.code['path']}")

    def config(self, context: Any) -> dict[str, Any]:
        """What was pinned, where the tables lie, and the limits of the settings."""
        limits = settings.load().of(self.use_case).forecast
        return {**super().config(context), "limits": msgspec.to_builtins(limits)}


class JudgeRunOperator(ForecastRunOperator):
    """Judge the weeks that have ended (see ``ForecastRunOperator``)."""

    purpose = "judging"
    steps = ("judge",)

    def check_approval(self) -> None:
        """Nothing: it writes a verdict and no forecasts, by the code that is installed."""

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Nothing of its own: the training run that may follow names its data."""
        return None
