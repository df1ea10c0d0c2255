"""The operator that runs the training job on Databricks, once."""

from typing import Any

from airflow.providers.databricks.hooks.databricks import RunState
from airflow.providers.databricks.operators.databricks import DatabricksSubmitRunOperator
from airflow.sdk.exceptions import AirflowFailException

from attrition import settings
from attrition.keys import action_key
from attrition.training_job import job_config, job_tasks

MAX_ATTEMPTS = 10
"""Databricks runs that one Airflow task instance may start, one after the other has failed."""


class TrainingRunOperator(DatabricksSubmitRunOperator):
    """Submit prepare, tune, evaluate and register as one Databricks run, and wait without a worker slot.

    The provider's operator, with two differences. The job follows from the settings file and the DAG's
    params when the task runs, so that the DAG file reads no settings. And the idempotency token counts
    failed runs instead of tries: a retry or a restarted scheduler gets the run that is under way, and
    only a run that has ended in failure is followed by a new one.

    :param code: what ``attrition.publish.publish`` returned. (templated)
    """

    template_fields = (*DatabricksSubmitRunOperator.template_fields, "code")

    def __init__(self, *, code: Any, **kwargs: Any) -> None:
        super().__init__(deferrable=True, **kwargs)
        self.code = code

    def execute(self, context: Any) -> None:
        """Find or start this task's run, then wait for it in the triggerer."""
        configured = settings.load()
        instance = context["ti"]
        run_key = self._run_key(instance)
        instance.xcom_push(key="run_key", value=run_key)
        config = job_config(configured, self.code, dict(context["params"]))
        tasks, environments = job_tasks(configured, self.code["path"], run_key, config)
        self.tasks = [*tasks]
        self.environments = environments or None
        self.run_name = f"attrition training {instance.run_id}"
        self.polling_period_seconds = configured.training.poll_seconds
        self.idempotency_token = self._unfailed_token(context, run_key)
        super().execute(context)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Data set, training run and model version, where OpenLineage is configured."""
        from attrition import lineage

        params = task_instance.get_template_context()["params"]
        return lineage.trained(params.get("data") or settings.load().training.data, self._run_key(task_instance))

    @staticmethod
    def _run_key(instance: Any) -> str:
        return action_key(dag_id=instance.dag_id, run_id=instance.run_id, task_id=instance.task_id, purpose="training")

    def _unfailed_token(self, context: Any, run_key: str) -> str:
        """The first token of this task whose run has not ended in failure.

        Submitting with the token of an existing run returns that run, so asking starts at most one.
        """
        token = run_key
        for attempt in range(1, MAX_ATTEMPTS + 1):
            token = f"{run_key[:61]}-{attempt}"
            self.idempotency_token = token
            run_id = self._hook.submit_run(self._prepare_submit_json(context))
            state: RunState = self._hook.get_run_state(run_id)
            if not state.is_terminal or state.is_successful:
                return token
            self.log.info("Databricks run %s of an earlier try ended as %s", run_id, state.result_state)
        raise AirflowFailException(
            f"{MAX_ATTEMPTS} Databricks runs of this task have failed (last token {token}): "
            "mend the cause that the last run's page shows, then trigger attrition_train anew"
        )
