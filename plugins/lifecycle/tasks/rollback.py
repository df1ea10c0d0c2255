"""The first task of the rollback DAG: find what was approved before. It promotes as a release does."""

from typing import Any

from airflow.sdk import get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from lifecycle.evidence import document as evidence
from lifecycle.hooks import registry, targets
from lifecycle.hooks.registry import Version
from lifecycle.hooks.stop_switch import refuse_while_stopped
from lifecycle.signing import check
from lifecycle.task_ids import PROMOTE, RECORD_APPROVAL, RESTORE_PRODUCTION
from training import use_case as definitions
from training.registry import tags

_OVER = ("success", "failed", "upstream_failed", "skipped", "removed")


def release_in_production(use_case: str, instance: Any) -> str | None:
    """The run of the release that is changing production, if there is one."""
    release_dag, ends = definitions.load(use_case).release_dag, (PROMOTE, RESTORE_PRODUCTION)
    for run_id, states in instance.get_task_states(dag_id=release_dag, task_ids=[RECORD_APPROVAL, *ends]).items():
        if states.get(RECORD_APPROVAL) not in ("running", "success") or all(states.get(end) in _OVER for end in ends):
            continue
        if instance.get_dagrun_state(release_dag, run_id) == "running":
            return str(run_id)
    return None


def _before(use_case: str, running: str) -> Version:
    """The version that production ran before what it runs now.

    Where a release ended between its deployment and its promotion, that is the champion still.
    """
    champion, replaced = registry.by_alias(use_case, tags.CHAMPION), registry.before_champion(use_case)
    if champion and running not in ("", champion.version, replaced.version if replaced else ""):
        return champion
    if champion is None or replaced is None:
        raise AirflowFailException(
            "the registry knows no version that was in production before: give the number of one that was approved"
        )
    if running == replaced.version:
        raise AirflowFailException(
            f"production runs version {running}, and the registry's champion is version {champion.version}: a run "
            "that changes production has not come to its end. Clear the task of it that failed, or give the number of "
            "the version that production is to run"
        )
    return replaced


@task
def resolve_earlier_release(use_case: str) -> dict[str, Any]:
    """Find a version that was approved before and its image, which must be signed; and what production runs now.

    Refuses while production is stopped, or a release changes it.
    """
    context: Any = get_current_context()
    refuse_while_stopped(use_case)
    if release_run := release_in_production(use_case, context["ti"]):
        raise AirflowFailException(
            f"release {release_run} is changing production: try again when it has ended, "
            "or mark that run as failed first"
        )
    production = targets.known(use_case, "production")
    typed = context["params"].get("version")
    version = registry.resolve(use_case, typed) if typed else _before(use_case, production["version"])
    document = evidence.read_last_approved(use_case, version)
    try:
        check.image(use_case, document.image.content, version.version)
    except check.UnsignedError as error:
        raise AirflowFailException(f"production does not go back to version {version.version}: {error}") from error
    return {
        "name": version.name,
        "version": version.version,
        "run_id": version.run_id,
        "image": document.image.reference,
        "production": production,
        "standing": registry.standing(use_case),
    }
