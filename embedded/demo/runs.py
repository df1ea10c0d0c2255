"""The runs that the demo started, and only those: what it may go on with, and what it leaves alone.

A file beside the stack's other state remembers the demo's last training run of each use case and the content that it
was given. A release is the demo's own if that training run's new version started it.
"""

import hashlib
import secrets
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from embedded.airflow_client import Airflow, Json
from lifecycle.events.feeds import TABLES, File
from lifecycle.events.files import local_version
from lifecycle.task_ids import AWAIT_APPROVAL
from serving.scoring.described import described
from training.use_case import UseCase

_ACTIVE = ("running", "queued")
_ASSET_SECONDS = 60.0
_DROP_SECONDS = 240.0
"""The watcher takes a while after the arrivals DAG was unpaused, and two runs have to be scheduled."""


class RunError(RuntimeError):
    """Raised when the demo cannot go on with its run; the message says what to do."""


@described
class Started(msgspec.Struct, frozen=True):
    """A training run that the demo started."""

    run_id: str
    data: str
    """The file that it was given."""
    digest: str
    """SHA-256 of that file's content."""


@dataclass(frozen=True)
class Stranger:
    """A release under way that this demo did not start."""

    run_id: str
    whose: str
    asks: bool
    """Whether it waits for an answer at the gate."""
    link: str

    def __str__(self) -> str:
        what = "waits for an answer at its gate" if self.asks else "is under way"
        return f"release {self.run_id}, {self.whose}, {what}: {self.link}"


class Runs:
    """One use case's runs in one Airflow; ``folder`` is where they are remembered."""

    def __init__(self, airflow: Airflow, use_case: UseCase, folder: Path) -> None:
        self._airflow = airflow
        self._train, self._release, self._score = use_case.train_dag, use_case.release_dag, use_case.score_dag
        self._arrivals = use_case.arrivals_dag
        self._file = folder / f"demo-{use_case.name}.json"

    def _last(self) -> Started | None:
        """The training run that the demo started last."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Started)
        except FileNotFoundError:
            return None

    def train(self, data: Path, **params: str) -> str:
        """Start a training run with these further params; returns its id."""
        run_id = f"demo__{_now()}"
        self._remember(run_id, data)
        self._airflow.trigger(self._train, run_id, {"data": str(data), **params})
        return run_id

    def data(self) -> str:
        """The file that the demo's last training run was given."""
        last = self._last()
        if last is None:
            raise RunError("no demo has trained a model here: run `make demo` again")
        return last.data

    def forecast(self, **params: str) -> str:
        """Start a run of the forecasts; returns its id."""
        run_id = f"demo__{_now()}"
        self._airflow.trigger(self._score, run_id, params)
        return run_id

    def drop(self, data: Path, bronze: Path) -> str:
        """Put a copy where new data arrives, and wait until the training run that it starts is there; returns its id.

        Raises ``RunError`` where no run comes, and for a file that would start none.
        """
        name = f"{_now()}{data.suffix}"
        if not name.endswith(TABLES):
            raise RunError(f"{data} would start nothing: what is dropped has to be named {' or '.join(TABLES)}")
        bronze.mkdir(parents=True, exist_ok=True)
        hidden = bronze / f".{name}"
        shutil.copyfile(data, hidden)
        run_id = File("data", name, local_version(hidden), "").run_id
        self._remember(run_id, data)
        hidden.replace(bronze / name)
        deadline = time.monotonic() + _DROP_SECONDS
        while time.monotonic() < deadline:
            if self._airflow.find_run(self._train, run_id):
                return run_id
            time.sleep(0.5)
        self._file.unlink()  # the next demo drops its file, instead of waiting for this run again
        raise RunError(f"{bronze / name} has started no training run within {_DROP_SECONDS:g} s: "
                       f"see {self._airflow.url}/dags/{self._arrivals}")  # fmt: skip

    def _remember(self, run_id: str, data: Path) -> None:
        """Before there is a run: a demo that is killed in between must know it again."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(Started(run_id, str(data), _digest(data))))
        part.replace(self._file)

    def under_way(self, data: Path) -> str | None:
        """The demo's training run on this content, as long as it or the release that follows has not ended."""
        started = self._last()
        if started is None or started.digest != _digest(data):
            return None
        run = self._airflow.find_run(self._train, started.run_id)
        if run is None or run["state"] == "failed":
            return None
        if run["state"] in _ACTIVE:
            return started.run_id
        if not self._events(started.run_id):
            return None  # its verdict let nothing be registered
        releases = self.releases(started.run_id)
        return started.run_id if not releases or any(map(self._is_active, releases)) else None

    def version(self, train_run: str) -> str:
        """The model version that a training run registered."""
        return str(self._events(train_run)[-1]["extra"]["version"])

    def releases(self, train_run: str) -> list[str]:
        """Runs of the release that a training run's new version has started."""
        started = [run for event in self._events(train_run) for run in event["created_dagruns"]]
        return [str(run["run_id"]) for run in started if run["dag_id"] == self._release]

    def await_release(self, train_run: str) -> str:
        """The release that the asset's update starts."""
        deadline = time.monotonic() + _ASSET_SECONDS
        while time.monotonic() < deadline:
            if started := self.releases(train_run):
                return started[0]
            time.sleep(0.5)
        self._file.unlink()  # the next demo trains, instead of waiting for this release again
        raise RunError(f"no release was started by the new model version within {_ASSET_SECONDS:g} s: "
                       f"see {self._airflow.url}/assets and start {self._release} by hand")  # fmt: skip

    def is_running(self, release_run: str) -> bool:
        return str(self._airflow.run(self._release, release_run)["state"]) == "running"

    def strangers(self, train_run: str | None) -> list[Stranger]:
        """Releases under way that the demo's training run did not start, oldest first."""
        own = self.releases(train_run) if train_run else []
        last = self._last()
        earlier = self.releases(last.run_id) if last else []
        demos = f"which a demo on {last.data} started" if last else ""
        active = self._airflow.runs(self._release, state=_ACTIVE)
        return [
            self._stranger(run, demos if run["dag_run_id"] in earlier else "which no demo started")
            for run in reversed(active)
            if run["dag_run_id"] not in own
        ]

    def other_trainings(self, train_run: str | None) -> list[str]:
        """Links to training runs under way that the demo did not start."""
        active = self._airflow.runs(self._train, state=_ACTIVE)
        others = [str(run["dag_run_id"]) for run in active if run["dag_run_id"] != train_run]
        return [self._airflow.link(self._train, run_id) for run_id in others]

    def _is_active(self, release_run: str) -> bool:
        run = self._airflow.find_run(self._release, release_run)
        return run is not None and run["state"] in _ACTIVE

    def _stranger(self, run: Json, whose: str) -> Stranger:
        run_id = str(run["dag_run_id"])
        asks = any(task["task_id"] == AWAIT_APPROVAL for task in self._airflow.questions(self._release, run_id))
        link = self._airflow.link(self._release, run_id, AWAIT_APPROVAL if asks else None)
        return Stranger(run_id, whose, asks, f"{link}/required_actions" if asks else link)

    def _events(self, train_run: str) -> list[Json]:
        """Updates of assets by a training run, oldest first."""
        return self._airflow.asset_events(source_dag_id=self._train, source_run_id=train_run)


def _now() -> str:
    """What tells one of the demo's runs from another."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}-{secrets.token_hex(2)}"


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
