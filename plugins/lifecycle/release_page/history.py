"""What became of each release, rollback, stop and resume: the evidence in MLflow beside the runs in Airflow.

Evidence stays for good while runs get deleted, and a run that failed before its gate left no evidence: a
line of the history may come from either or from both.
"""

import msgspec

from lifecycle.evidence import headline, links
from lifecycle.evidence.document import Decision
from lifecycle.release_page.airflow_view import AirflowView, Run
from lifecycle.release_page.registry_view import Release
from training.use_case import UseCase

Kind = str
"""Colours the line: ``good``, ``bad``, ``open`` or ``quiet``."""


class Entry(msgspec.Struct, frozen=True):
    """One line of the history."""

    when: str
    what: str
    kind: Kind
    version: str = ""
    digest: str = ""
    asked_by: str = ""
    decided_by: str = ""
    unsigned: str = ""
    """Why the decision's signature does not count; empty where it does."""
    comment: str = ""
    run_url: str = ""
    """The DAG run in Airflow; empty where it is not known to be there any more."""
    evidence_url: str = ""
    """The page of its evidence."""
    answer_url: str = ""
    """Where to answer the gate, while it waits."""
    deadline: str = ""
    """Until when an answer counts, while the gate waits and the evidence says it; RFC 3339, UTC."""
    sentence: str = ""
    """What a person decides it by, while the gate waits."""


def compose(
    use_case: UseCase, releases: list[Release] | None, airflow: AirflowView | None, airflow_url: str
) -> list[Entry]:
    """All releases, rollbacks, stops and resumes of the use case, newest first; ``None`` for what could not be read."""
    runs = {(run.dag_id, run.dag_run_id): run for run in airflow.runs} if airflow else {}
    waiting = airflow.waiting if airflow else frozenset()
    entries = []
    for release in releases or []:
        asked = release.document.release
        run = runs.pop((asked.dag_id, asked.run_id), None)
        entries.append(_released(use_case, release, run, asked.run_id in waiting, airflow_url))
    gate = "the gate" if releases is not None else ""
    actions = {
        use_case.rollback_dag: _Action("rollback", "rolled back"),
        use_case.stop_dag: _Action("stop", "stopped"),
        use_case.resume_dag: _Action("resume", "resumed"),
    }
    for run in runs.values():
        entry = _without_evidence(run, actions.get(run.dag_id), run.dag_run_id in waiting, gate, airflow_url)
        if run.dag_id == use_case.rollback_dag and airflow and (found := airflow.produced.get(run.dag_run_id)):
            # Started without a version, it went to the previous champion, whichever that was then.
            entry = msgspec.structs.replace(entry, version=found.version, digest=found.digest)
        entries.append(entry)
    return sorted(entries, key=lambda entry: entry.when, reverse=True)


def _released(use_case: UseCase, release: Release, run: Run | None, waits: bool, airflow_url: str) -> Entry:
    document, decision = release.document, release.document.decision
    asked = document.release
    run_url = links.airflow_run(airflow_url, asked.dag_id, asked.run_id) if run else ""
    what, kind = ("waits for approval", "open") if waits else _outcome(decision, run.state if run else "")
    return Entry(
        when=decision.decided_at if decision else asked.requested_at,
        what=what,
        kind=kind,
        version=document.model.version,
        digest=document.image.content.digest,
        asked_by=asked.requested_by,
        decided_by=decision.decided_by if decision else "",
        unsigned=release.unsigned,
        comment=(decision.comment if decision else asked.note) or "",
        run_url=run_url,
        evidence_url=links.evidence_page(airflow_url, use_case.name, document.model.training_run_id, asked.key),
        answer_url=links.answer_page(airflow_url, asked.dag_id, asked.run_id) if waits else "",
        deadline=document.answer_by if waits else "",
        sentence=str(headline.headline(document)) if waits else "",
    )


def _outcome(decision: Decision | None, state: str) -> tuple[str, Kind]:
    """What a release has come to, from the decision and the state of its run (empty: unknown)."""
    if decision is None:
        return {
            "failed": ("failed before the gate", "bad"),
            "running": ("on its way to the gate", "open"),
            "queued": ("on its way to the gate", "open"),
        }.get(state, ("ended without a decision", "quiet"))
    if not decision.approved:
        return ("rejected", "bad") if decision.decided_by != "nobody" else ("not answered in time", "bad")
    return {
        "success": ("released", "good"),
        "failed": ("approved, but failed", "bad"),
        "running": ("approved, on its way to production", "open"),
    }.get(state, ("approved", "good"))


class _Action(msgspec.Struct, frozen=True):
    """What a DAG without a gate does, before and after."""

    name: str
    done: str


def _without_evidence(run: Run, action: _Action | None, waits: bool, gate: str, airflow_url: str) -> Entry:
    """An action, or a release that has not come to ``gate``; where that is empty, nobody knows how far it came."""
    conf = run.conf or {}
    reason = str(conf.get("reason") or "") if action else ""
    run_url = links.airflow_run(airflow_url, run.dag_id, run.dag_run_id)
    what, kind = ("waits for approval", "open") if waits else _state(run.state, action, gate)
    return Entry(
        when=run.end_date or run.run_after,
        what=what,
        kind=kind,
        version=str(conf.get("version") or ""),
        asked_by=run.triggering_user_name or "",
        decided_by=(run.triggering_user_name or "") if action else "",  # who starts it has decided it
        comment=". ".join(part for part in (reason if reason not in (run.note or "") else "", run.note) if part),
        run_url=run_url,
        answer_url=links.answer_page(airflow_url, run.dag_id, run.dag_run_id) if waits else "",
    )


def _state(state: str, action: _Action | None, gate: str) -> tuple[str, Kind]:
    if state == "queued":  # another one runs, or the DAG is paused
        return f"{action.name + ' ' if action else ''}waits to start", "open"
    if action:
        ended = {"success": (action.done, "good"), "failed": (f"{action.name} failed", "bad")}
        return ended.get(state, (f"{action.name} is under way", "open"))
    ended = {
        "success": (f"ended before {gate}" if gate else "run ended", "quiet"),
        "failed": (f"failed before {gate}" if gate else "run failed", "bad"),
    }
    return ended.get(state, (f"on its way to {gate}" if gate else "under way", "open"))
