"""One smoke run: its steps in order, and taking everything down whatever becomes of them."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import requests

from delivery.smoke import bill
from delivery.smoke.cloud import Cloud
from delivery.smoke.compare import Difference, differences
from delivery.smoke.report import Report, as_json, as_markdown
from delivery.smoke.state import Home, SmokeError, State
from delivery.smoke.walk import Place, Record, Walk
from embedded.airflow_client import AirflowError
from embedded.stack import StackError
from lifecycle.settings import SettingsError
from training.use_case import UseCase

_TOLD = (SmokeError, AirflowError, SettingsError, StackError, requests.RequestException, OSError,
         subprocess.SubprocessError, msgspec.MsgspecError)  # fmt: skip
"""What ends a smoke run early and is told in the report. Anything else is a fault of ours, and is raised too."""
_HERE, _THERE = "embedded", "cloud"
"""The two walks: each has a file of its own, and runs of its own, so that none is compared with itself."""


class Stopped(KeyboardInterrupt):
    """Raised where somebody wants it to end: Ctrl-C, a terminal that is closed, a machine that shuts down."""


class Smoke:
    """Steps, their memory, and the report."""

    def __init__(
        self,
        *,
        home: Home,
        state: State,
        cloud: Cloud,
        use_case: UseCase,
        commit: str,
        embedded: Callable[[], Any],
        say: Callable[[str], None],
    ) -> None:
        """``commit``: what is tried. ``embedded``: opens the place on this machine, as a context."""
        self._commit = commit
        self._home, self._state, self._cloud, self._use_case = home, state, cloud, use_case
        self._embedded = embedded
        self._say = say
        self._limit = bill.limit(state.hours)
        self.steps: list[tuple[str, Callable[[], None]]] = [
            ("embedded results", lambda: self._walk(self._embedded, _HERE)),
            ("apply", self._apply),
            ("outputs", cloud.outputs),
            ("secrets", cloud.secrets),
            ("clusters", cloud.clusters),
            ("data", cloud.data),
            ("airflow", cloud.airflow),
            ("walk", lambda: self._walk(cloud.place, _THERE)),
            ("compare", self._compare),
        ]

    def run(self) -> int:
        """Exit code: 0 where nothing differs, and everything is gone again."""
        self._say(self._limit)
        with _unstoppable():
            try:
                with _stoppable():
                    self._all_steps()
            except _TOLD as error:
                self._state.fault = str(error) or repr(error)
                self._say(f"it ends early: {self._state.fault}")
            except Stopped:
                self._state.fault = "somebody stopped it"
            finally:
                report = self.finish()
        return 0 if report.passed else 1

    def finish(self) -> Report:
        """Take everything down, and write the report."""
        with _unstoppable():
            self._take_down()
            return self._report()

    def _take_down(self) -> None:
        """Destroy what was begun; where that fails, say how to try again."""
        try:
            if self._state.began:
                self._say("taking everything down, which cannot be stopped")
                self._cloud.take_down()
        except _TOLD as error:
            fault = f"what was made could not be taken down: {error}\nTry again: make azure-smoke DOWN=yes"
            self._state.fault = "\n".join(filter(None, [self._state.fault, fault]))
            self._say(fault)
        else:
            self._state.taken_down = True
            self._home.forget()
        self._home.keep(self._state)

    def _all_steps(self) -> None:
        if self._state.left() <= 0:
            raise SmokeError(f"its {self._state.hours:g} hours were over before this call")
        for name, step in self.steps:
            if name in self._state.done:
                self._say(f"{name}: done by an earlier call")
                continue
            self._say(f"{name} ({self._state.left() / 60:.0f} minutes left)")
            began = time.monotonic()
            step()
            self._state.done[name] = round(time.monotonic() - began, 1)
            self._home.keep(self._state)

    def _apply(self) -> None:
        # Before the first resource: a kill from here on leaves something to take down.
        self._state.began = self._state.began or time.time()
        self._home.keep(self._state)
        self._cloud.apply()

    def _walk(self, opened: Callable[[], Any], side: str) -> None:
        with opened() as place:
            found = self._way(place, side)
        self._home.write(f"{side}.json", msgspec.json.format(msgspec.json.encode(found)))

    def _way(self, place: Place, side: str) -> Record:
        return Walk(place, self._use_case, f"{self._state.prefix}__{side}", self._state.left, self._say).run()

    def _compare(self) -> None:
        found = self._differences()
        if found is None:
            raise SmokeError(f"{self._home.folder} has lost {_HERE}.json or {_THERE}.json, so nothing can be compared")
        self._say("nothing differs" if not found else f"differences: {len(found)}, see the report")

    def _differences(self) -> list[Difference] | None:
        here, there = self._record(_HERE), self._record(_THERE)
        return differences(here, there) if here and there else None

    def _record(self, name: str) -> Record | None:
        path = self._home.folder / f"{name}.json"
        return msgspec.json.decode(path.read_bytes(), type=Record) if path.exists() else None

    def _report(self) -> Report:
        report = Report(
            commit=self._commit,
            state=self._state,
            limit=self._limit,
            differences=self._differences(),
            here=self._record(_HERE),
            there=self._record(_THERE),
        )
        self._home.write("report.json", as_json(report))
        path = self._home.write("report.md", as_markdown(report).encode())
        self._say(f"report: {path}")
        return report


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Every way to be asked to end raises ``Stopped``."""

    def stop(number: int, frame: object) -> None:
        for one in _SIGNALS:  # once is enough: what follows is taking down
            signal.signal(one, _not_now)
        raise Stopped

    with _handled(stop):
        yield


def _not_now(number: int, frame: object) -> None:
    """Go on. A handler, and not the system's way to ignore a signal, which programs that we start would inherit."""


@contextmanager
def _unstoppable() -> Iterator[None]:
    """Nobody's Ctrl-C leaves half of an environment: what is asked to end meanwhile goes on."""
    with _handled(_not_now):
        yield


@contextmanager
def _handled(handler: Any) -> Iterator[None]:
    former = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, one in former.items():
            signal.signal(number, one)
