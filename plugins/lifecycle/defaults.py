"""What the DAGs share: owner, retries, the failure callback, and what people read of a DAG, in the use case's words."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from string import Template
from typing import Any

from airflow.sdk import CronTriggerTimetable, TaskGroup

from lifecycle import settings
from lifecycle.hooks import airflow_api
from training.use_case import UseCase

log = logging.getLogger(__name__)

START_DATE = datetime(2026, 1, 1, tzinfo=UTC)
_BESIDE_THE_GATE = timedelta(days=5)
"""What a release may take beside the time for an answer: before its gate, when that is cleared, and after it."""
_BESIDE_A_JOB = timedelta(hours=2)
"""What a run may take beside its job: to publish code, land logs and wait for a machine."""

TRAINING, RELEASE, RETRAINING, SCORING, ARRIVALS = KINDS = ("training", "release", "retraining", "scoring", "arrivals")
"""What a DAG is for: its tag beside the use case's name."""


def notify_failure(context: Any) -> None:
    """The one failure callback: DAG, task, run, exception and log link in one message, and the run's note."""
    instance = context["ti"]
    base = settings.load().airflow_url
    link = f"{base}/dags/{instance.dag_id}/runs/{instance.run_id}/tasks/{instance.task_id}"
    reason = str(context.get("exception") or "no exception was given").strip()
    log.error(
        "%s.%s failed in run %s: %s\nLog: %s",
        instance.dag_id,
        instance.task_id,
        instance.run_id,
        reason,
        link,
    )
    airflow_api.set_run_note(instance.dag_id, instance.run_id, f"{instance.task_id} failed: {reason[:800]}")


def default_args(use_case: UseCase) -> dict[str, Any]:
    """For every task of a use case's DAGs."""
    return {
        "owner": use_case.owner,
        "retries": 2,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": True,
        "execution_timeout": timedelta(hours=2),
        "on_failure_callback": notify_failure,
    }


def shown(docstring: str | None, use_case: UseCase) -> dict[str, Any]:
    """What Airflow shows of a DAG: a name that people read, one paragraph in the list, and the runbook.

    All three follow from the file's docstring, whose heading is ``# What it does: $title``. Ids stay as they are.
    """
    text = runbook(docstring, use_case)
    heading, summary = text.strip().split("\n\n", 2)[:2]
    action = heading.removeprefix("# ").removesuffix(f": {use_case.title}")
    return {
        "dag_display_name": f"{use_case.title}: {action[:1].lower()}{action[1:]}",
        "description": " ".join(summary.replace("`", "").replace("*", "").split()),
        "doc_md": text,
    }


def by_the_clock(cron: str) -> CronTriggerTimetable:
    """A schedule in UTC, whose runs are dated by the moment at which they are due.

    A plain text would follow ``default_timezone`` and ``create_cron_data_intervals`` of Airflow's configuration, and a
    night that is closed would be another day's.
    """
    return CronTriggerTimetable(cron, timezone="UTC")


def release_timeout() -> timedelta:
    """How long a run of a release may take. It has to outlast its gate: what Airflow ends here puts nothing back."""
    return settings.load().release.response_timeout + _BESIDE_THE_GATE


def job_timeout(steps: Sequence[str]) -> timedelta:
    """How long a run around a Databricks job of these steps may take.

    Each may use its whole time, and the job may be begun again.
    """
    return 2 * len(steps) * timedelta(seconds=settings.load().training.task_timeout) + _BESIDE_A_JOB


def stage(name: str) -> TaskGroup:
    """A stage that the graph can fold; ids of its tasks do not carry its name."""
    return TaskGroup(name, prefix_group_id=False)


def runbook(docstring: str | None, use_case: UseCase) -> str:
    """A DAG file's docstring with the use case's ids in place of ``$train_dag`` and its like.

    Raises ``KeyError`` for a name that is not listed here.
    """
    return Template(docstring or "").substitute(
        use_case=use_case.name,
        title=use_case.title,
        train_dag=use_case.train_dag,
        release_dag=use_case.release_dag,
        rollback_dag=use_case.rollback_dag,
        stop_dag=use_case.stop_dag,
        resume_dag=use_case.resume_dag,
        retrain_dag=use_case.retrain_dag,
        score_dag=use_case.score_dag,
        scores_asset=use_case.scores_asset,
        version_asset=use_case.version_asset,
        data_asset=use_case.data_asset,
        outcomes_asset=use_case.outcomes_asset,
        key=f"`{use_case.key}`" if use_case.key else "a key, and this use case has none: no outcome can be joined",
    )
