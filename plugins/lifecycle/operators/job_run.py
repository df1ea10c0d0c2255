"""The base of the operators that run a job of this project on Databricks, once."""

import json
import re
from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn

from airflow.providers.databricks.exceptions import DatabricksApiError
from airflow.providers.databricks.hooks.databricks import RunState
from airflow.providers.databricks.operators.databricks import DatabricksJobRunLink, DatabricksSubmitRunOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from lifecycle import settings
from lifecycle.idempotency import action_key
from lifecycle.operators.job_trigger import JobTrigger
from lifecycle.settings import Settings
from lifecycle.task_ids import JOB_SECONDS
from lifecycle.trace import trace_parent

_JOB_RUNS = "job_runs"
"""XCom: the Databricks runs of a task, the ones that have failed before included."""
MAX_ATTEMPTS = 10
"""Databricks runs that one Airflow task instance may start, one after the other has failed."""
_OUTAGE_TRIES = 6
"""Calls before a Databricks that does not answer is a failure: after 1, 2, 4 ... s, one minute in all."""
_SHOWN_LINES = 300
"""Lines of a job's output that the task's log repeats, the last of each of its tasks."""
_PERMANENT = re.compile(
    r"^(\w+\.)*(DataError|TableError|ConfigError|UseCaseError|SignatureError|FeaturesError|ParityError): ", re.MULTILINE
)
"""Errors of the job that the next run would meet again."""
_TOKEN_OF_DELETED = re.compile(r"\b(run|idempotency.token)\b.*\bdeleted\b", re.IGNORECASE | re.DOTALL)
"""How Databricks refuses a token whose run somebody deleted in the workspace. Its reference of the Jobs API says that
"an error is returned" and not with which words, so any refusal that speaks of a run and of deletion counts."""
_NO_SUCH_RUN = re.compile(
    r"\bRun .*\bdoes not exist\b|\bRun: .* in job: .* doesn't exist\b|\brun\b.*\bdeleted\b", re.DOTALL
)
"""How Databricks answers a question about such a run: the first two are those that its SDK for Python knows
(``databricks/sdk/errors/overrides.py``), both with status 400."""


class JobRunLink(DatabricksJobRunLink):
    """The provider's link, which leads to a page named ``None`` where a task has started no job."""

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The run's page in the workspace; empty where there is no run."""
        return super().get_link(operator, ti_key=ti_key) or ""


class JobRunOperator(DatabricksSubmitRunOperator):
    """Submit the steps of one file of ``training/`` as one Databricks run, and wait without a worker slot.

    The provider's operator, with three differences. The job follows from the settings file and the DAG's
    params when the task runs. The idempotency token counts failed
    runs instead of tries: a retry or a restarted scheduler gets the run that is under way, and only a run
    that has ended in failure is followed by a new one. And a failure shows the job's own traceback; bad
    data is not tried again.

    A job says its ``purpose``, its ``entry`` and ``steps``, and what it is told (``config``).

    :param use_case: name of the use case.
    :param code: what ``lifecycle.tasks.publish.publish`` returned. (templated)
    """

    template_fields = (*DatabricksSubmitRunOperator.template_fields, "code")
    operator_extra_links = (JobRunLink(),)
    purpose: ClassVar[str]
    """In the run's name and its key."""
    entry: ClassVar[str]
    """The Python file that does the steps, below the published code."""
    steps: ClassVar[tuple[str, ...]]
    """Its tasks, one after the other."""

    def __init__(self, *, use_case: str, code: Any, **kwargs: Any) -> None:
        super().__init__(deferrable=True, databricks_retry_limit=_OUTAGE_TRIES, **kwargs)
        self.use_case = use_case
        self.code = code
        self._runs: list[int] = []

    def config(self, context: Any) -> dict[str, Any]:
        """What the job is told as ``--config``."""
        raise NotImplementedError

    def execute(self, context: Any) -> None:
        """Find or start this task's run, then wait for it in the triggerer."""
        configured = settings.load()
        run_key = self.run_key(context["ti"])
        context["ti"].xcom_push(key="run_key", value=run_key)
        config = json.dumps(self.config(context), sort_keys=True)
        arguments = ["--run-key", run_key, "--trace-parent", trace_parent(context["ti"]), "--config", config]
        tasks, environments = job_tasks(configured, self.code["path"], self.entry, self.steps, arguments)
        self.tasks = [*tasks]
        self.environments = environments or None
        self.run_name = f"{self.use_case} {self.purpose} {context['ti'].run_id}"
        self.polling_period_seconds = configured.training.poll_seconds
        self.idempotency_token = self._unfailed_token(context, run_key)
        context["ti"].xcom_push(key=_JOB_RUNS, value=self._runs)
        super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> None:
        """Take the end of the run; raises with what the job itself said where that is a failure."""
        state = RunState.from_json(event["run_state"])
        if state.is_successful:
            self._tell_output(event["run_id"])
            self._tell_seconds(context["ti"])
            self.log.info("Databricks run %s succeeded: %s", event["run_id"], event["run_page_url"])
            return
        causes = []
        for failed in event["errors"]:
            output = self._hook.get_run_output(failed["run_id"])
            trace = str(output.get("error_trace") or failed["error"])
            self.log.error("task %s of the job failed:\n%s", failed["task_key"], trace)
            causes.append(f"{failed['task_key']}: {_cause(trace)}")
        reason = "\n".join(causes) or state.state_message or "the run's page says why"
        message = f"Databricks run {event['run_id']} ended as {state.result_state}: {reason}\n{event['run_page_url']}"
        if any(_PERMANENT.search(str(failed["error"])) for failed in event["errors"]):
            raise AirflowFailException(message)
        raise AirflowException(message)

    def defer(self, *, trigger: Any, **kwargs: Any) -> NoReturn:
        """Wait with a trigger that says what changes, and nothing twice."""
        super().defer(trigger=JobTrigger.like(trigger), **kwargs)

    def _tell_output(self, run_id: int) -> None:
        """Repeat in this task's log what the job has written: trials, verdict, version. It is a courtesy."""
        try:
            for task in self._hook.get_run(run_id).get("tasks") or []:
                lines = str(self._hook.get_run_output(task["run_id"]).get("logs") or "").splitlines()
                for line in lines[-_SHOWN_LINES:]:
                    self.log.info("%s | %s", task["task_key"], line)
        except (DatabricksApiError, AirflowException) as error:
            self.log.warning("what the job has written cannot be read: %s", error)

    def _tell_seconds(self, instance: Any) -> None:
        """Add up the time of the job's tasks, of every run that Databricks made of it. It is a courtesy."""
        seconds: dict[str, float] = {}
        try:
            for run_id in instance.xcom_pull(task_ids=self.task_id, key=_JOB_RUNS) or []:
                for task in self._hook.get_run(run_id).get("tasks") or []:
                    seconds[task["task_key"]] = seconds.get(task["task_key"], 0.0) + _task_seconds(task)
        except (DatabricksApiError, AirflowException) as error:
            self.log.warning("how long the job took cannot be read, so its cost counts without it: %s", error)
            return
        instance.xcom_push(key=JOB_SECONDS, value=seconds)

    def places(self) -> dict[str, Any]:
        """What every job on the tables is told: the use case, and where the settings say that tables and models lie."""
        found = settings.load().of(self.use_case)
        return {
            "use_case": self.use_case,
            "tables": found.job_tables or found.tables,
            "model_name": found.model_name,
            "experiment": found.experiment,
        }

    def action(self) -> str:
        """What the run key names beside the task."""
        return self.purpose

    def run_key(self, instance: Any) -> str:
        """The action key of this task's job, which the job puts on what it makes."""
        return action_key(
            dag_id=instance.dag_id, run_id=instance.run_id, task_id=instance.task_id, purpose=self.action()
        )

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Nothing, unless the job makes a table or a model."""
        from lifecycle.evidence import lineage

        return lineage.nothing()

    def _unfailed_token(self, context: Any, run_key: str) -> str:
        """The first token of this task whose run has not ended in failure and was not deleted.

        Submitting with the token of an existing run returns that run, so asking starts at most one.
        """
        token, refusal = run_key, ""
        self._runs.clear()
        for attempt in range(1, MAX_ATTEMPTS + 1):
            token = f"{run_key[:61]}-{attempt}"
            self.idempotency_token = token
            state = self._submitted(context)
            if isinstance(state, DatabricksApiError):
                self.run_id, refusal = None, f", last answer {state}"
                self.log.info("the Databricks run of token %s was deleted in the workspace: %s", token, state)
                continue
            self._runs.append(int(self.run_id or 0))
            if not state.is_terminal or state.is_successful:
                return token
            self.log.info("Databricks run %s of an earlier try ended as %s", self.run_id, state.result_state)
        raise AirflowFailException(
            f"{MAX_ATTEMPTS} Databricks runs of this task have failed or were deleted (last token {token}{refusal}): "
            f"mend the cause that the last run's page shows, then trigger a new run of {context['ti'].dag_id}"
        )

    def _submitted(self, context: Any) -> RunState | DatabricksApiError:
        """State of the run with this token, started if there is none; what Databricks says where it was deleted."""
        gone = _TOKEN_OF_DELETED
        try:
            # Kept at once: a kill between here and the wait has to cancel it.
            self.run_id = self._hook.submit_run(self._prepare_submit_json(context))
            gone = _NO_SUCH_RUN
            state: RunState = self._hook.get_run_state(self.run_id)
        except DatabricksApiError as error:
            if error.http_status_code not in (400, 404) or not gone.search(str(error)):
                raise
            return error
        return state


def job_tasks(
    configured: Settings, code_path: str, entry: str, steps: Sequence[str], arguments: Sequence[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The steps of file ``entry`` as the Jobs API wants them, each after the one before, and their environments."""
    compute, environments = _compute(configured, code_path)
    # MiniLake resolves workspace paths as they are; Databricks shows workspace files below /Workspace.
    prefix = "" if configured.training.compute == "minilake" else "/Workspace"
    tasks = []
    for number, step in enumerate(steps):
        task: dict[str, Any] = {
            "task_key": step,
            "timeout_seconds": configured.training.task_timeout,
            "spark_python_task": {
                "python_file": f"{prefix}{code_path}/{entry}",
                "parameters": [step, *arguments],
            },
            **compute,
        }
        if number:
            task["depends_on"] = [{"task_key": steps[number - 1]}]
        tasks.append(task)
    return tasks, environments


def _compute(configured: Settings, code_path: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What each task runs on, and the run's environments: (task fields, environments)."""
    requirements = f"/Workspace{code_path}/training/requirements.txt"
    if configured.training.compute == "serverless":
        spec = {"environment_version": "4", "dependencies": [f"-r {requirements}"]}
        return {"environment_key": "default"}, [{"environment_key": "default", "spec": spec}]
    if configured.training.compute == "job_cluster":
        return {
            "new_cluster": configured.training.new_cluster,
            "libraries": [{"requirements": requirements}],
        }, []
    return {}, []


def _task_seconds(task: dict[str, Any]) -> float:
    """What Databricks says of a task's time, in milliseconds: its parts, or where it has none, beginning and end."""
    parts = [task.get(f"{part}_duration") or 0 for part in ("setup", "execution", "cleanup")]
    passed = (task.get("end_time") or 0) - (task.get("start_time") or 0)
    return round((sum(parts) or max(passed, 0)) / 1000, 1)


def _cause(trace: str) -> str:
    """The last exception of a traceback with its whole message, whose later lines may be indented."""
    lines = trace.rstrip().splitlines()
    frame = max((number for number, line in enumerate(lines) if line.startswith("  File ")), default=-1)
    start = next((number for number in range(frame + 1, len(lines)) if not lines[number].startswith(" ")), 0)
    return "\n".join(lines[start:])
