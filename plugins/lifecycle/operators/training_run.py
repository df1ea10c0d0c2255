"""The operator that runs the training job on Databricks, once."""

import re
from typing import Any

from airflow.providers.databricks.hooks.databricks import RunState
from airflow.providers.databricks.operators.databricks import DatabricksSubmitRunOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from lifecycle import settings
from lifecycle.idempotency import action_key
from lifecycle.tasks.training_job import job_config, job_tasks

MAX_ATTEMPTS = 10
"""Databricks runs that one Airflow task instance may start, one after the other has failed."""
_OUTAGE_TRIES = 6
"""Calls before a Databricks that does not answer is a failure: after 1, 2, 4 ... s, one minute in all."""
_FOR_GOOD = re.compile(r"^(\w+\.)*(DataError|ConfigError): ", re.MULTILINE)
"""Errors of the job that the next run would meet again."""


class TrainingRunOperator(DatabricksSubmitRunOperator):
    """Submit prepare, tune, evaluate and register as one Databricks run, and wait without a worker slot.

    The provider's operator, with three differences. The job follows from the settings file and the DAG's
    params when the task runs, so that the DAG file reads no settings. The idempotency token counts failed
    runs instead of tries: a retry or a restarted scheduler gets the run that is under way, and only a run
    that has ended in failure is followed by a new one. And a failure shows the job's own traceback; bad
    data is not tried again.

    :param code: what ``lifecycle.tasks.publish.publish`` returned. (templated)
    """

    template_fields = (*DatabricksSubmitRunOperator.template_fields, "code")

    def __init__(self, *, code: Any, **kwargs: Any) -> None:
        super().__init__(deferrable=True, databricks_retry_limit=_OUTAGE_TRIES, **kwargs)
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

    def execute_complete(self, context: Any, event: dict[str, Any]) -> None:
        """Take the end of the run; raises with what the job itself said where that is a failure."""
        state = RunState.from_json(event["run_state"])
        if state.is_successful:
            self.log.info("Databricks run %s ended well: %s", event["run_id"], event["run_page_url"])
            return
        causes = []
        for failed in event["errors"]:
            output = self._hook.get_run_output(failed["run_id"])
            trace = str(output.get("error_trace") or failed["error"])
            self.log.error("task %s of the job failed:\n%s", failed["task_key"], trace)
            causes.append(f"{failed['task_key']}: {_cause(trace)}")
        told = "\n".join(causes) or state.state_message or "the run's page says why"
        message = f"Databricks run {event['run_id']} ended as {state.result_state}: {told}\n{event['run_page_url']}"
        if any(_FOR_GOOD.search(str(failed["error"])) for failed in event["errors"]):
            raise AirflowFailException(message)
        raise AirflowException(message)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Data set, training run and model version, where OpenLineage is configured."""
        from lifecycle.evidence import lineage

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
            # Kept at once: a kill between here and the wait has to cancel it.
            self.run_id = self._hook.submit_run(self._prepare_submit_json(context))
            state: RunState = self._hook.get_run_state(self.run_id)
            if not state.is_terminal or state.is_successful:
                return token
            self.log.info("Databricks run %s of an earlier try ended as %s", self.run_id, state.result_state)
        raise AirflowFailException(
            f"{MAX_ATTEMPTS} Databricks runs of this task have failed (last token {token}): "
            "mend the cause that the last run's page shows, then trigger attrition_train anew"
        )


def _cause(trace: str) -> str:
    """The last exception of a traceback with its whole message, whose later lines may be indented."""
    lines = trace.rstrip().splitlines()
    frame = max((number for number, line in enumerate(lines) if line.startswith("  File ")), default=-1)
    start = next((number for number in range(frame + 1, len(lines)) if not lines[number].startswith(" ")), 0)
    return "\n".join(lines[start:])
