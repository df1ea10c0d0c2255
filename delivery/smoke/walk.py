"""The way through the DAGs, by Airflow's public API: the same in the cluster and on this machine.

The ids of its runs follow from the smoke run's prefix, so that a walk that is begun again finds what it had started.
"""

import itertools
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from delivery.smoke.state import SmokeError
from embedded.airflow_client import Airflow, AirflowError, Json
from embedded.demo.follow import log_lines
from lifecycle.task_ids import AWAIT_APPROVAL, GATHER_EVIDENCE, PROMOTE
from training.use_case import UseCase

TRIALS, SEED = 5, 20
"""A small training, and the same one everywhere: the same seed and data give the same model."""
_ENDED = ("success", "failed")
_DAGS_SECONDS = 900.0
_STARTED_SECONDS = 600.0
"""For the run that an asset starts."""
_LINES_POLL = 120.0
"""Between two looks for exported lines, where the first found none."""
_VERIFICATIONS = ("verify_staging", "verify_production")
_CELL = re.compile(r"\s*\|\s*")
_NUMBER = re.compile(r"-?\d+\.\d+")


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """One DAG run that has ended."""

    dag_id: str
    state: str
    tasks: dict[str, str]
    """State by task."""
    seconds: dict[str, float] = {}
    """Of each task's last try."""
    facts: dict[str, Any] = {}
    """What came of it, by what is compared."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """All of a walk."""

    where: str
    runs: dict[str, Ran]
    """By what was done: train, release, score, rollback, night. `before` ends those that prepare a way back."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One Airflow and its surroundings."""

    where: str
    airflow: Airflow
    approver: Airflow
    """Signed in as somebody who may approve what the other has asked for."""
    data: str
    """The training table as the job reaches it; it is scored in batch, too."""
    export_seconds: float
    """For how long exported log lines may not be there yet."""
    poll_seconds: float


class Walk:
    """Train, release, score, roll back, close a night: once, at one place."""

    def __init__(
        self, place: Place, use_case: UseCase, prefix: str, left: Callable[[], float], say: Callable[[str], None]
    ) -> None:
        """``left``: seconds that are left of the whole smoke run."""
        self._place = place
        self._airflow = place.airflow
        self._use_case = use_case
        self._prefix = prefix
        self._left = left
        self._say = say
        self._runs: dict[str, Ran] = {}

    def run(self) -> Record:
        """All of it; raises ``SmokeError`` with the cause where a run fails."""
        use_case = self._use_case
        self._await_dags(use_case.train_dag, use_case.release_dag, use_case.score_dag, use_case.rollback_dag)
        if not self._has_a_way_back():
            self._release(" before", SEED + 1)
        self._release("", SEED)
        self._score()
        self._roll_back()
        self._close_night()
        return Record(where=self._place.where, runs=self._runs)

    # --- what is done ---

    def _release(self, mark: str, seed: int) -> None:
        """Train a version and take it to production, approved by the other user."""
        dag_id, run_id = self._use_case.train_dag, self._id(f"train{mark.replace(' ', '-')}")
        # Whatever the verdict: the same data have been trained on before, and nothing is better by its seed alone.
        conf = {"data": self._place.data, "trials": TRIALS, "seed": seed, "force": True}
        self._runs[f"train{mark}"] = self._follow(dag_id, run_id, conf)
        release_dag = self._use_case.release_dag
        started = self._started_by(dag_id, run_id)
        ran = self._follow(release_dag, started)
        body = self._airflow.result(release_dag, started, GATHER_EVIDENCE)["body"]
        facts = {
            "figures": figures(body),
            **{f"checks of {task}": self._checks(release_dag, started, task) for task in _VERIFICATIONS},
        }
        self._runs[f"release{mark}"] = msgspec.structs.replace(ran, facts=facts)

    def _score(self) -> None:
        conf = {"input": self._place.data, "date": _today()}
        ran = self._follow(self._use_case.score_dag, run_id := self._id("score"), conf)
        found = self._airflow.result(ran.dag_id, run_id, "announce_scores")
        counts = {name: found[name] for name in ("rows", "rejected")}
        self._runs["score"] = msgspec.structs.replace(ran, facts=counts)

    def _roll_back(self) -> None:
        conf = {"reason": "azure-smoke puts the version before back"}
        ran = self._follow(self._use_case.rollback_dag, run_id := self._id("rollback"), conf)
        checks = {"checks of verify_production": self._checks(ran.dag_id, run_id, "verify_production")}
        self._runs["rollback"] = msgspec.structs.replace(ran, facts=checks)

    def _close_night(self) -> None:
        """Close today, again until exported lines have come: the export is late, and has nothing of before it began."""
        # Not before: its schedule begins when it is unpaused, and would close a night before there was a champion.
        self._await_dags(self._use_case.retrain_dag)
        deadline = time.time() + self._place.export_seconds
        number = 0
        while True:
            number += 1
            run_id = self._id(f"night-{number}")
            conf = {"night_from": _today(), "night_to": _today(), "retrain": False}
            ran = self._follow(self._use_case.retrain_dag, run_id, conf)
            landed = self._airflow.result(ran.dag_id, run_id, "land_logs")
            if landed["lines"] or time.time() > deadline:
                break
            self._say(f"no exported log line yet: looking again in {_LINES_POLL:g} s")
            self._pause(_LINES_POLL)
        self._runs["night"] = msgspec.structs.replace(ran, facts={"log lines have come": landed["lines"] > 0})

    # --- how ---

    def _id(self, what: str) -> str:
        return f"{self._prefix}__{what}"

    def _await_dags(self, *dag_ids: str) -> None:
        """Unpause the DAGs, as soon as Airflow has read them."""
        deadline = time.monotonic() + _DAGS_SECONDS
        for dag_id in dag_ids:
            while True:
                try:
                    self._airflow.patch(f"/dags/{dag_id}", {"is_paused": False})
                    break
                except AirflowError as error:
                    if error.status != 404 or time.monotonic() > deadline:
                        faults = self._airflow.get("/importErrors")["import_errors"]
                        told = "\n".join(fault["stack_trace"][-1000:] for fault in faults) or str(error)
                        raise SmokeError(f"Airflow does not offer the DAG {dag_id}: {told}") from error
                self._pause(self._place.poll_seconds)

    def _has_a_way_back(self) -> bool:
        """Whether a release that is not ours has reached production: a rollback has then somewhere to go."""
        dag_id = self._use_case.release_dag
        ours = self._ours()
        earlier = [run["dag_run_id"] for run in self._airflow.runs(dag_id, state="success")]
        return any(
            self._airflow.task(dag_id, run_id, PROMOTE)["state"] == "success"
            for run_id in earlier
            if run_id not in ours
        )

    def _ours(self) -> set[str]:
        """Releases that this smoke run has started, also before it was killed."""
        return {
            str(run["run_id"])
            for event in self._airflow.asset_events(source_dag_id=self._use_case.train_dag)
            if str(event["source_run_id"]).startswith(self._prefix)
            for run in event["created_dagruns"]
        }

    def _started_by(self, dag_id: str, run_id: str) -> str:
        """The release that a training run's new version has started."""
        deadline = time.monotonic() + _STARTED_SECONDS
        while time.monotonic() < deadline:
            events = self._airflow.asset_events(source_dag_id=dag_id, source_run_id=run_id)
            for run in (run for event in events for run in event["created_dagruns"]):
                if run["dag_id"] == self._use_case.release_dag:
                    return str(run["run_id"])
            self._pause(self._place.poll_seconds)
        raise SmokeError(
            f"no release was started by {run_id} within {_STARTED_SECONDS:g} s: see {self._airflow.url}/assets"
        )

    def _follow(self, dag_id: str, run_id: str, conf: Json | None = None) -> Ran:
        """Start a run unless it is there already, or ``conf`` is missing; answer its gate, and wait for its end."""
        if conf is not None:
            self._airflow.trigger(dag_id, run_id, conf)
        self._say(f"{self._place.where}: {dag_id} {run_id}")
        while (state := self._airflow.run(dag_id, run_id)["state"]) not in _ENDED:
            if any(asked["task_id"] == AWAIT_APPROVAL for asked in self._airflow.questions(dag_id, run_id)):
                self._place.approver.answer(dag_id, run_id, AWAIT_APPROVAL, "Approve", "azure-smoke")
            self._pause(self._place.poll_seconds)
        ran = self._ran(dag_id, run_id, str(state))
        if state == "failed":
            raise SmokeError(self._cause(ran, run_id))
        return ran

    def _ran(self, dag_id: str, run_id: str, state: str) -> Ran:
        tasks = self._airflow.tasks(dag_id, run_id)
        return Ran(
            dag_id=dag_id,
            state=state,
            tasks={task["task_id"]: str(task["state"]) for task in tasks},
            seconds={task["task_id"]: round(task["duration"], 1) for task in tasks if task["duration"]},
        )

    def _cause(self, ran: Ran, run_id: str) -> str:
        """Why a run failed: the last lines of its first red task."""
        failed = [task for task in self._airflow.tasks(ran.dag_id, run_id) if task["state"] == "failed"]
        if not failed:
            link = self._airflow.link(ran.dag_id, run_id)
            return f"run {run_id} of {ran.dag_id} failed, but none of its tasks: {link}"
        first = min(failed, key=lambda task: task["end_date"] or "")
        log = self._airflow.log(ran.dag_id, run_id, first["task_id"], first["try_number"])
        return f"{ran.dag_id}.{first['task_id']} failed at {self._place.where}:\n" + "\n".join(log_lines(log))

    def _checks(self, dag_id: str, run_id: str, task_id: str) -> dict[str, bool]:
        report = self._airflow.result(dag_id, run_id, task_id)
        return {check["name"]: check["passed"] for check in report["checks"]}

    def _pause(self, seconds: float) -> None:
        """Wait, or raise ``SmokeError`` where the time of the whole run is over."""
        if self._left() <= 0:
            raise SmokeError(f"the time was over at {self._place.where}")
        time.sleep(seconds)


def figures(body: str) -> dict[str, float]:
    """The challenger's figure by metric, of the gate's text: the first number of each row of its first table."""
    lines = iter(body.splitlines())
    rows = itertools.takewhile(_is_row, itertools.dropwhile(lambda line: not _is_row(line), lines))
    found = ((_CELL.split(row.strip("| "))[:2]) for row in rows)
    return {name: float(number[0]) for name, text in found if (number := _NUMBER.search(text))}


def _is_row(line: str) -> bool:
    return line.startswith("|")


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
