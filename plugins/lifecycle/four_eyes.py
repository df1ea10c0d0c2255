"""Who asked for a release, and whose answer counts.

An auth manager gives a user an id and a name, and they differ in most: Airflow keeps the name of who triggers a run,
and id and name of who answers a question. So people are compared by all that is known of them.

A run that new files started has been asked for by whoever wrote them, and storage does not tell Airflow who that was,
neither in an event nor in a listing. So everybody who may write there (``data_writers``) counts as the one who asked.
That holds as well for what the nightly run on its schedule has led to: otherwise outcomes need only wait for it.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from airflow.sdk.exceptions import AirflowFailException

from lifecycle import settings
from lifecycle.hooks import airflow_api
from training import use_case as definitions

STARTED_BY = "started_by"
"""Member of a triggered run's ``conf``: ``{"dag_id", "run_id"}`` of the run whose task triggered it, and perhaps, in
words, ``why``."""
_LONGEST_CHAIN = 10
"""Runs that may have triggered each other; a run cannot trigger itself, so this only ends what is not ours."""


class Requester(msgspec.Struct, frozen=True):
    """Who is behind a release."""

    text: str
    """As the gate shows it."""
    people: tuple[str, ...] = ()
    """Names of Airflow's users; none where the schedule alone started it, and nobody wrote what it read."""
    unknown: str = ""
    """Why nobody can say which person it was; empty where that is known."""


class _Run(msgspec.Struct, frozen=True):
    """What Airflow knows of how a run began."""

    dag_id: str
    run_id: str
    run_type: str
    triggering_user_name: str | None = None
    conf: dict[str, Any] | None = None


def find(context: Any, use_case: str, version: str) -> Requester:
    """Who asked for this run of the release, which offers ``version``.

    A run that an asset started leads to the runs behind its events and, as it may offer a version that other events
    announced, to the run behind that one. Raises ``requests.RequestException`` where Airflow's API does not answer.
    """
    run = _run(context)
    if run.triggering_user_name or run.run_type != "asset_triggered":
        return _behind(run, use_case)
    events = [event for several in context["triggering_asset_events"].values() for event in several]
    sources = {(event.source_dag_id, event.source_run_id) for event in events}
    if version not in {str((event.extra or {}).get("version")) for event in events}:
        sources.add(_announcement(use_case, version))
    return _together([_source(*source, use_case) for source in sorted(sources, key=str)])


def behind(context: Any, use_case: str) -> Requester:
    """Who is behind this run, which no asset starts; raises ``requests.RequestException`` as ``find`` does."""
    return _behind(_run(context), use_case)


def same(one: Iterable[str | None], other: Iterable[str | None]) -> bool:
    """Whether two sets of ids and names have one in common; e-mail addresses whatever their case."""
    return bool(_folded(one) & _folded(other))


def objection(use_case: str, user: dict[str, Any], *, approves: bool, requester: Requester | None) -> str:
    """Why the answer of ``user`` (``id``, ``name``) does not count by the settings as they are now; empty if it does.

    :param requester: where the requester may not approve.
    """
    identities = (user.get("id"), user.get("name"))
    listed = settings.load().of(use_case).approvers
    if listed and not same(identities, listed):
        return f"{shown(user)} is not among the approvers ({', '.join(listed)})"
    if approves and requester and not any(identities):
        return "Airflow's record does not say who answered, so it may have been the one who asked"
    if approves and requester and same(identities, requester.people):
        return f"{shown(user)} asked for this release, and requester_may_approve is false"
    return ""


def forbidden_requester(context: Any, use_case: str, version: str) -> Requester | None:
    """The requester, where the settings keep them from approving; fails where nobody can tell who it was."""
    if settings.load().of(use_case).requester_may_approve:
        return None
    requester = find(context, use_case, version)
    if requester.unknown:
        raise AirflowFailException(
            f"nobody may answer: requester_may_approve is false, and who asked for this release cannot be told, for "
            f"{requester.unknown}. Trigger {definitions.load(use_case).release_dag} under your own name, with "
            f'{{"version": {version or "..."}}}, and let somebody else approve it'
        )
    return requester


def shown(user: dict[str, Any]) -> str:
    """A user as people read them: the name, and the id where it is another text."""
    name, number = str(user.get("name") or ""), str(user.get("id") or "")
    return f"{name} (id {number})" if name and number and name != number else name or number or "unknown"


def _folded(identities: Iterable[str | None]) -> set[str]:
    return {text.casefold() if "@" in text else text for text in identities if text}


def _run(context: Any) -> _Run:
    found = context["dag_run"]
    run_type = str(getattr(found.run_type, "value", found.run_type))
    return _Run(found.dag_id, found.run_id, run_type, found.triggering_user_name, getattr(found, "conf", None))


def _behind(run: _Run, use_case: str, chain: int = 1) -> Requester:
    """The person, the new data or the schedule at the beginning of a chain of runs."""
    if run.triggering_user_name:
        return Requester(run.triggering_user_name, (run.triggering_user_name,))
    if run.dag_id == definitions.load(use_case).arrivals_dag:
        return _new_data(use_case)
    if run.run_type == "scheduled":
        return Requester(f"the schedule ({run.dag_id})", _writers_for(run.dag_id, use_case))
    parent = (run.conf or {}).get(STARTED_BY) if run.run_type == "operator_triggered" else None
    # Only a task makes a run of this type, so nobody but a DAG's author can have written its conf.
    if isinstance(parent, dict) and chain < _LONGEST_CHAIN:
        found = _source(str(parent.get("dag_id")), str(parent.get("run_id")), use_case, chain + 1)
        return msgspec.structs.replace(found, text=_with_reason(found.text, str(parent.get("why") or "")))
    return _unknown(f"run {run.run_id} of {run.dag_id} ({run.run_type}) names no user")


def _writers_for(dag_id: str, use_case: str) -> tuple[str, ...]:
    """Who may have written what a DAG reads of itself: the outcomes of a nightly run."""
    definition, found = definitions.load(use_case), settings.load().of(use_case)
    reads_outcomes = dag_id == definition.retrain_dag and definition.online and found.outcomes
    return found.data_writers if reads_outcomes else ()


def _with_reason(text: str, why: str) -> str:
    """Who it was, and in the same brackets why; only the former where nobody said why."""
    if not why:
        return text
    return f"{text[:-1]}: {why})" if text.endswith(")") else f"{text} ({why})"


def _new_data(use_case: str) -> Requester:
    """Everybody who may have written the files, whether an event told of them or the sweep found them."""
    writers = settings.load().of(use_case).data_writers
    if writers:
        return Requester("new data", writers)
    missing = f"data_writers of [use_cases.{use_case}] in the settings file does not say who may write there"
    return Requester("new data", unknown=f"new data asked for it, and {missing}")


def _source(dag_id: str | None, run_id: str | None, use_case: str, chain: int = 1) -> Requester:
    if not dag_id or not run_id:
        return _unknown("an asset event was posted to Airflow's API and not made by a task")
    found = airflow_api.dag_run(dag_id, run_id)
    if found is None:
        return _unknown(f"Airflow has no run {run_id} of {dag_id} any more")
    run = _Run(dag_id, run_id, found["run_type"], found["triggering_user_name"], found["conf"])
    return _behind(run, use_case, chain)


def _announcement(use_case: str, version: str) -> tuple[str | None, str | None]:
    """DAG and run of the newest event by which the use case's training announced a version; or ``None`` twice."""
    for event in airflow_api.asset_events(definitions.load(use_case).train_dag):
        if str((event["extra"] or {}).get("version")) == version:
            return event["source_dag_id"], event["source_run_id"]
    return None, None


def _unknown(reason: str) -> Requester:
    return Requester("somebody whom Airflow cannot name", unknown=reason)


def _together(found: list[Requester]) -> Requester:
    texts = list(dict.fromkeys(one.text for one in found))
    people = tuple(dict.fromkeys(name for one in found for name in one.people))
    return Requester(" and ".join(texts), people, "; ".join(filter(None, dict.fromkeys(one.unknown for one in found))))
