"""What runs have measured of themselves, for ``lifecycle.evidence.cost``: of a release, a night, a batch.

Every try counts, for every try was paid: Airflow's record of tries has the time of tasks, and a job's operator adds up
all runs that Databricks made of it. What cannot be asked for is said, and ends no task.
"""

import logging
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import msgspec
import requests
import yaml
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from msgspec import UnsetType

from lifecycle import settings
from lifecycle.evidence import cost
from lifecycle.evidence.cost import Cost, Measured
from lifecycle.hooks import airflow_api, connections, targets
from lifecycle.task_ids import CURATE_AND_JUDGE, JOB_SECONDS, TRY_IMAGE
from serving.scoring.described import described
from training.impact.record import Preview
from training.registry import tags
from training.use_case import Target

log = logging.getLogger(__name__)

TRAINING = "training"
"""What the training job is called among the stages of a release."""
BUILDS, STEPS = "BuildImageOperator", "ScoringStepOperator"
_DAY_SECONDS = 86_400


@described
class _Try(msgspec.Struct, frozen=True):
    """One try of a task, of Airflow's record."""

    task_id: str
    operator: str | None = None
    duration: float | None = None
    """Seconds; none of a try that has not ended."""


def of_release(
    context: Any,
    version_tags: dict[str, str],
    reports: Iterable[dict[str, Any] | UnsetType],
    preview: Preview | None,
) -> Cost:
    """What a release has used up to its gate, and the training of its version.

    :param version_tags: of the model version.
    :param reports: what verifications found; each of their requests has scored a record at least.
    :param preview: whose records were scored by two versions.
    """
    tries, missing = _tries(context)
    trained = msgspec.json.decode(version_tags.get(tags.JOB_SECONDS, "{}"), type=dict[str, float])
    measured = [
        *_steps(TRAINING, trained),
        *_steps("preview_impact", _job_seconds(context, "preview_impact")),
        *_timed(tries),
    ]
    asked = sum(int(report.get("requests", 0)) for report in reports if not isinstance(report, UnsetType))
    previewed = 2 * preview.impact.records if preview and preview.impact else 0
    return cost.count(measured, settings.load().prices, records=asked + previewed, missing=missing)


def of_nights(context: Any, use_case: str, nights: int, records: int) -> Cost:
    """What closing nights and answering in them has used: jobs, log lines, and what the servers ask for meanwhile."""
    landed = context["ti"].xcom_pull(task_ids="land_logs") or {}
    measured = [
        *_steps(CURATE_AND_JUDGE, _job_seconds(context, CURATE_AND_JUDGE)),
        Measured("land_logs", "log", float(landed.get("bytes", 0))),
        Measured("scoring servers", "pod", nights * _DAY_SECONDS * _serving_vcpus(use_case)),
    ]
    return cost.count(measured, settings.load().prices, records=records, served=True)


def of_batch(context: Any, records: int, tasks: Iterable[str] = ("score",)) -> Cost:
    """What scoring a table, or forecasting, has used: the jobs that ``tasks`` of this run have started."""
    measured = [one for task_id in tasks for one in _steps(task_id, _job_seconds(context, task_id))]
    return cost.count(measured, settings.load().prices, records=records, served=True)


def _job_seconds(context: Any, task_id: str) -> dict[str, float]:
    """Seconds of the job that a task of this run has started, by step; empty where it started none."""
    found = context["ti"].xcom_pull(task_ids=task_id, key=JOB_SECONDS)
    return dict(found or {})


def _steps(stage: str, seconds: dict[str, float]) -> Iterator[Measured]:
    return (Measured(f"{stage}: {step}", "job", spent) for step, spent in seconds.items())


def _tries(context: Any) -> tuple[list[_Try], str]:
    """The tries of this run's tasks that have ended, and what of them is not known."""
    run = context["dag_run"]
    try:
        return msgspec.convert(airflow_api.tries(run.dag_id, run.run_id), list[_Try]), ""
    except (requests.RequestException, AirflowNotFoundException, connections.AddressError) as error:
        log.warning("the tries of run %s cannot be read (connection airflow_api): %s", run.run_id, error)
    crumbs = context["ti"].get_task_breadcrumbs(dag_id=run.dag_id, run_id=run.run_id)
    return msgspec.convert(list(crumbs), list[_Try]), "each task's last try alone: Airflow's API did not tell of others"


def _timed(tries: list[_Try]) -> Iterator[Measured]:
    """Builds and the pods of steps. A job's task only waits: its seconds come from Databricks."""
    seconds: dict[tuple[str, str], float] = {}
    for one in tries:
        if one.operator in (BUILDS, STEPS):
            key = (one.task_id, one.operator)
            seconds[key] = seconds.get(key, 0.0) + (one.duration or 0.0)
    for (task_id, operator), spent in seconds.items():
        if operator == BUILDS:
            yield Measured(task_id, "build", spent)
        elif task_id == TRY_IMAGE:
            yield Measured(task_id, "container", spent * _container_vcpus())
        else:
            yield Measured(task_id, "pod", spent * _step_vcpus())


def _step_vcpus() -> float:
    """What the pod of a step at staging asks for; nothing where steps do not run in pods."""
    if not _is_cluster("staging"):
        return 0.0
    from lifecycle.operators import pods  # imported here: the Kubernetes client takes seconds

    return pods.vcpus()


def _container_vcpus() -> float:
    from lifecycle.operators import group_step

    return group_step.VCPUS


def _serving_vcpus(use_case: str) -> float:
    """What a use case's servers in production ask for, by the settings' replicas and the manifest."""
    if not _is_cluster("production"):
        return 0.0
    return settings.load().of(use_case).production.replicas * _server_vcpus()


@cache
def _server_vcpus() -> float:
    from kubernetes.utils import parse_quantity

    from lifecycle.builders.context import ROOT

    deployment = yaml.safe_load((ROOT / "k8s" / "base" / "deployment.yaml").read_text())
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return float(sum(parse_quantity(one["resources"]["requests"]["cpu"]) for one in containers))


def _is_cluster(target: Target) -> bool:
    conn_id = targets.CONNECTIONS[target]
    try:
        return BaseHook.get_connection(conn_id).conn_type == "kubernetes"
    except AirflowNotFoundException as error:
        log.warning("what pods at %s ask for is not counted: connection %s: %s", target, conn_id, error)
        return False
