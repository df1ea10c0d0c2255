"""The tasks of the DAGs that stop and resume scoring, around the step that does it."""

import logging
from typing import Any

import msgspec
from airflow.sdk import get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from lifecycle import four_eyes, task_links
from lifecycle.hooks import airflow_api, registry, stop_switch, targets
from lifecycle.hooks.stop_switch import Stop
from lifecycle.tasks.release import release_key
from training import use_case as definitions
from training.registry import tags

log = logging.getLogger(__name__)


def asked(context: Any, use_case: str) -> Stop:
    """Who asked for this run, when and why; the same in every try."""
    return Stop(
        reason=str(context["params"]["reason"]),
        by=four_eyes.behind(context, use_case).text,
        since=context["dag_run"].run_after.isoformat(timespec="seconds"),
    )


@task
def look_up_running(use_case: str) -> dict[str, str]:
    """What production runs (``image``, ``version``), and what its stop switch would say (``said``).

    Both are empty for what no release rolled out, and while only the canary of a first release runs: it is stopped all
    the same.
    """
    try:
        running = targets.current(use_case, "production")
    except targets.UnreleasedError as error:
        log.warning("%s", error)
        running = {"image": "", "version": ""}
    if running is None and targets.canary_runs(use_case, "production"):
        running = {"image": "", "version": ""}
    if running is None:
        raise AirflowFailException(
            f"nothing is deployed in production of {use_case}, so nothing can be stopped or resumed there: "
            f"release a version with {definitions.load(use_case).release_dag} first"
        )
    return {**running, "said": stop_switch.encode(asked(get_current_context(), use_case))}


@task
def record_stop(use_case: str, running: dict[str, str]) -> None:
    """Say on the version that runs, in its evidence, and in the run's note who stopped it, when and why."""
    _record(use_case, running, "stopped")


@task
def record_resume(use_case: str, running: dict[str, str]) -> None:
    """Take the mark off the version that runs, unless it is stopped again; its evidence keeps who ended the stop."""
    _record(use_case, running, "resumed")


def _mark(use_case: str) -> str:
    """What the switch says by now, whichever run set it: a task of an old run may be the one that records."""
    return str(stop_switch.stopped(use_case, "production") or "")


def _record(use_case: str, running: dict[str, str], action: str) -> None:
    context: Any = get_current_context()
    stop, run = asked(context, use_case), context["dag_run"]
    if not running["version"]:
        note = f"What no release rolled out was {action} in production by {stop.by}: {stop.reason}"
        airflow_api.tell(context, note)
        return
    version = registry.resolve(use_case, running["version"])
    document = {
        "action": action, "use_case": use_case, "target": "production", "version": version.version,
        "image": running["image"], "by": stop.by, "at": stop.since, "reason": stop.reason,
        "dag_id": run.dag_id, "run_id": run.run_id,
    }  # fmt: skip
    text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
    registry.client().log_text(version.run_id, text, f"{tags.SWITCH_FOLDER}/{release_key(context)}.json")
    registry.set_tags(version, {tags.STOPPED: _mark(use_case)})
    task_links.show(context["ti"], task_links.of_version(use_case, version, registry.experiment_of(version.run_id)))
    airflow_api.tell(context, f"Version {version.version} {action} in production by {stop.by}: {stop.reason}")
