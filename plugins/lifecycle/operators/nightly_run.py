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
        """The nights, and where tables, outcomes and training data lie."""
        configured = settings.load()
        found = configured.of(self.use_case)
        return {
            **self.places(),
            "nights": list(self.nights),
            "outcomes": found.outcomes,
            "original": found.data,
            "limits": msgspec.to_builtins(found.drift),
            "by_hand": bool(context["params"].get("retrain")),
            "memory": configured.retraining.memory,
            "threads": configured.retraining.threads,
        }
