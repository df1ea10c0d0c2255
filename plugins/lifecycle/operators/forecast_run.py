"""The operators that write forecasts, and judge them, on Databricks, once."""

from typing import Any, ClassVar

import msgspec

from lifecycle import settings
from lifecycle.operators.job_run import JobRunOperator


class ForecastRunOperator(JobRunOperator):
    """Write one date's forecasts with one pinned version, by the code that was approved with it.

    :param order: what ``lifecycle.tasks.forecasting.order_of`` returned. (templated)
    """

    template_fields = (*JobRunOperator.template_fields, "order")
    purpose = "forecast"
    entry = "training/forecast_job.py"
    steps: ClassVar[tuple[str, ...]] = ("score",)

    def __init__(self, *, order: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.order = order

    def config(self, context: Any) -> dict[str, Any]:
        """What was ordered, and where the settings say that the tables lie."""
        found = settings.load().of(self.use_case)
        return {
            "use_case": self.use_case,
            **self.order,
            "tables": found.job_tables or found.tables,
            "model_name": found.model_name,
            "experiment": found.experiment,
            "limits": msgspec.to_builtins(found.forecast),
        }

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """The history and the version became the forecasts of a date, where OpenLineage is configured."""
        from lifecycle.evidence import lineage

        found = settings.load().of(self.use_case)
        return lineage.scored(self.use_case, self.order, found.job_tables or found.tables)


class JudgeRunOperator(ForecastRunOperator):
    """Judge the weeks that have ended (see ``ForecastRunOperator``)."""

    purpose = "judging"
    steps = ("judge",)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Nothing of its own: the training run that may follow names its data."""
        return None
