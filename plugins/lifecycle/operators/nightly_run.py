"""The operator that curates and judges nights on Databricks, once."""

from typing import Any

from airflow.providers.databricks.operators.databricks import DatabricksSubmitRunOperator

from lifecycle import settings
from lifecycle.idempotency import action_key
from lifecycle.operators.training_run import TrainingRunOperator
from lifecycle.retraining.nights import nightly_config
from lifecycle.tasks.training_job import job_tasks

ENTRY = "training/nightly_job.py"
STEPS = ("curate", "label", "judge")


class NightlyRunOperator(TrainingRunOperator):
    """Submit curate, label and judge as one Databricks run, and wait without a worker slot.

    Finds the run of an earlier try as ``TrainingRunOperator`` does.

    :param code: what ``lifecycle.tasks.publish.publish`` returned. (templated)
    :param nights: the nights to close, as ISO dates. (templated)
    """

    template_fields = (*TrainingRunOperator.template_fields, "nights")

    def __init__(self, *, nights: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.nights = nights

    def execute(self, context: Any) -> None:
        """Find or start this task's run, then wait for it in the triggerer."""
        configured = settings.load()
        instance = context["ti"]
        key = action_key(dag_id=instance.dag_id, run_id=instance.run_id, task_id=instance.task_id, purpose="retraining")
        config = nightly_config(configured, self.nights, by_hand=bool(context["params"].get("retrain")))
        tasks, environments = job_tasks(configured, self.code["path"], key, config, entry=ENTRY, steps=STEPS)
        self.tasks = [*tasks]
        self.environments = environments or None
        self.run_name = f"attrition nightly {instance.run_id}"
        self.polling_period_seconds = configured.training.poll_seconds
        self.idempotency_token = self._unfailed_token(context, key)
        DatabricksSubmitRunOperator.execute(self, context)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """None of its own: the training run that may follow names its data."""
        return None
