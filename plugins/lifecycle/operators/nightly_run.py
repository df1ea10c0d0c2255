"""The operator that curates and judges nights on Databricks, once."""

from typing import Any

import msgspec

from lifecycle import settings
from lifecycle.operators.job_run import JobRunOperator


class NightlyRunOperator(JobRunOperator):
    """Submit curate, label and judge as one Databricks run (see ``JobRunOperator``).

    :param nights: the nights to close, as ISO dates. (templated)
    """

    template_fields = (*JobRunOperator.template_fields, "nights")
    purpose = "retraining"
    entry = "training/nightly_job.py"
    steps = ("curate", "label", "judge")

    def __init__(self, *, nights: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.nights = nights

    def config(self, context: Any) -> dict[str, Any]:
        """The nights, and where the settings say that tables, outcomes and training data lie."""
        configured = settings.load()
        found = configured.of(self.use_case)
        return {
            "use_case": self.use_case,
            "nights": list(self.nights),
            "tables": found.job_tables or found.tables,
            "outcomes": found.outcomes,
            "original": found.data,
            "model_name": found.model_name,
            "experiment": found.experiment,
            "limits": msgspec.to_builtins(found.drift),
            "by_hand": bool(context["params"].get("retrain")),
            "memory": configured.retraining.memory,
            "threads": configured.retraining.threads,
        }

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Nothing of its own: the training run that may follow names its data."""
        return None
