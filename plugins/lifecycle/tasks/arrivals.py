"""The tasks of the arrivals DAG: which files are new, what each starts, and that it was looked at."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from airflow.sdk import get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from lifecycle import settings
from lifecycle.events import feeds, files
from lifecycle.events.feeds import File
from lifecycle.four_eyes import STARTED_BY
from lifecycle.hooks import airflow_api
from lifecycle.tasks.retraining import tables_path
from training import use_case as definitions
from training.inference_log import layout
from training.use_case import UseCase

MOST_FILES = 200
"""New files that one run looks at, the oldest first; the next run goes on with the rest."""
_DATE = re.compile(r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)")


class Start(msgspec.Struct, frozen=True):
    """One run to start: arguments of ``TriggerDagRunOperator``."""

    trigger_dag_id: str
    trigger_run_id: str
    """``File.run_id``."""
    conf: dict[str, Any]


def told(context: Any) -> list[File] | None:
    """The files that the events of this run tell of; ``None`` where the folders are to be looked through.

    That is where a schedule or a person started the run, and where an event did not come from the queue: what somebody
    posts to Airflow's API says that there is something, and not what.
    """
    events = [event for several in context["triggering_asset_events"].values() for event in several]
    extras = [event.extra or {} for event in events]
    if not events or any(extra.get("from_rest_api") or not extra.get("from_trigger") for extra in extras):
        return None
    return [msgspec.convert(extra["payload"], File) for extra in extras]


def new_files(found: Iterable[File], known: set[str]) -> list[File]:
    """Each version of a file once, without those that were looked at before; oldest first."""
    unknown = {file.key: file for file in found if file.key not in known}
    return sorted(unknown.values(), key=lambda file: (file.age, file.key))


def plan(use_case: UseCase, found: Sequence[File]) -> list[Start]:
    """What new files start. Each is a whole table, so the newest of several counts: for the training, for each date
    that is scored (``YYYY-MM-DD`` in the file's name), and for the nightly run, which reads all outcomes anyway."""
    counts = settings.load().of(use_case)
    folder = (counts.job_bronze or counts.bronze).rstrip("/")
    ordered = sorted(found, key=lambda file: (file.age, file.key))
    data = [file for file in ordered if file.feed == "data"]
    outcomes = [file for file in ordered if file.feed == "outcomes"]
    starts = []
    if data and "train" in counts.start_on_data:
        starts.append(_start(use_case.train_dag, data[-1], {"data": f"{folder}/{data[-1].name}"}))
    if "score" in counts.start_on_data:
        newest = {_date(file.name): file for file in data}
        starts += [
            _start(use_case.score_dag, file, {"input": f"{folder}/{file.name}", "date": day})
            for day, file in newest.items()
        ]
    if outcomes:
        starts.append(_start(use_case.retrain_dag, outcomes[-1], {}))
    return starts


def _start(dag_id: str, file: File, conf: dict[str, Any]) -> Start:
    return Start(dag_id, file.run_id, conf)


def _date(name: str) -> str | None:
    """The date in a file's name; the last one where there are several, ``None`` where there is none."""
    for text in reversed(_DATE.findall(name)):
        try:
            return datetime.fromisoformat(text).date().isoformat()
        except ValueError:
            continue
    return None


def swept(use_case: UseCase) -> list[File]:
    """Every file that counts in the folders that a use case watches."""
    return [file for name, folder in feeds.folders(use_case).items() for file in files.listed(name, folder)]


def _known(tables: Any) -> set[str]:
    folder = tables / "arrivals"
    return {entry.name.removesuffix(".json") for entry in folder.iterdir()} if folder.exists() else set()


@task
def look_at_arrivals(use_case: str) -> list[dict[str, Any]]:
    """The new files: those that this run's events tell of, or all that lie in the folders and nobody has looked at."""
    context: Any = get_current_context()
    try:
        by_events = told(context)
    except (KeyError, msgspec.ValidationError) as error:
        raise AirflowFailException(f"an event of this run's assets does not tell of a file: {error}") from error
    found = swept(definitions.load(use_case)) if by_events is None else by_events
    new = new_files(found, _known(tables_path(use_case)))[:MOST_FILES]
    told_of = [] if by_events is None else by_events
    by = f"by {len(told_of)} event{'' if len(told_of) == 1 else 's'}" if told_of else "by looking through the folders"
    names = ", ".join(file.name for file in new) or "none"
    airflow_api.tell(context, f"New files, {by}: {names}")
    return [msgspec.to_builtins(file) for file in new]


@task
def plan_runs(use_case: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs that these files start, each named after its file."""
    context: Any = get_current_context()
    run = context["dag_run"]
    # Who is behind what is started is who is behind this run: new data, or the person who asked for it.
    by = {STARTED_BY: {"dag_id": run.dag_id, "run_id": run.run_id}}
    starts = plan(definitions.load(use_case), msgspec.convert(found, list[File]))
    return [{**msgspec.to_builtins(start), "conf": {**start.conf, **by}} for start in starts]


@task(trigger_rule="none_failed")
def remember_arrivals(use_case: str, found: list[dict[str, Any]], started: list[dict[str, Any]]) -> None:
    """Keep what was looked at, with what it started: nobody looks at it again."""
    tables = tables_path(use_case)
    for file in msgspec.convert(found, list[File]):
        dags = [start["trigger_dag_id"] for start in started if start["trigger_run_id"] == file.run_id]
        kept = {**msgspec.to_builtins(file), "started": dags, "looked_at": datetime.now(UTC).isoformat()}
        layout.write_json(tables / "arrivals" / f"{file.key}.json", kept)
