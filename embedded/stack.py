"""The supervisor of the embedded stack: starts its parts, waits for each to answer, restarts, stops all."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from embedded import preflight, processes
from embedded.environment import PART_MARKER, ROOT, Stack
from embedded.parts import Part, parts
from embedded.stop_signal import StopSignal

Say = Callable[[str], None]

_GRACE = 8.0
"""Seconds between SIGTERM and SIGKILL. Airflow's API server would wait for its last client for minutes."""
_POLL = 0.1
_LOCK_PATIENCE, _LOCK_POLL = 1.0, 0.01
"""Seconds for which a supervisor tries to take the stack, and between two tries."""
_RESTARTS = 5
"""Within ``_RESTART_WINDOW`` seconds; a part that dies more often is not going to recover."""
_RESTART_WINDOW = 120.0
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT[\d:]{8}Z ")
"""The time before a line of the supervisor's log; on the terminal a line comes when it is written."""


class StackError(RuntimeError):
    """Raised when the stack does not come up or breaks; the message says what, why and what to do."""


class AlreadyUp(StackError):
    """Raised when another supervisor holds this stack."""


@dataclass
class _Running:
    part: Part
    process: subprocess.Popen[bytes]
    started: float
    log_offset: int
    """Size of the log when it was started: what follows is its own."""
    deaths: list[float] = field(default_factory=list)


def log_file(stack: Stack, name: str) -> Path:
    """Where a part's output goes."""
    return stack.logs / f"{name.replace(' ', '-')}.log"


def _state_file(stack: Stack) -> Path:
    return stack.home / "run" / "stack.json"


def read_state(stack: Stack) -> dict[str, Any]:
    """What the supervisor last wrote, or nothing; ask ``is_up`` whether it still lives."""
    try:
        state: dict[str, Any] = json.loads(_state_file(stack).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return state


def is_held(stack: Stack) -> bool:
    """Whether a supervisor lives; the kernel drops its lock with it, however it ends."""
    try:
        with _lock(stack):
            return False
    except AlreadyUp:
        return True


@contextmanager
def _lock(stack: Stack, patience: float = 0.0) -> Iterator[None]:
    """Hold the stack. ``patience``: seconds for somebody to let go of it, as whoever asks ``is_held`` does at once."""
    path = stack.home / "run" / "stack.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    message = f"the stack in {stack.home} is up already: `make status` shows it"
                    raise AlreadyUp(message) from None
            time.sleep(_LOCK_POLL)
        yield


class Supervisor:
    """Runs one stack until it is told to stop."""

    def __init__(self, stack: Stack, say: Say = print) -> None:
        self._stack = stack
        self._say = say
        self._stop = StopSignal()
        self._running: dict[str, _Running] = {}

    def run(self) -> None:
        """Start all parts, keep them running, and stop them on SIGINT, SIGTERM or SIGHUP."""
        with _lock(self._stack, _LOCK_PATIENCE):
            self._stop.listen(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            try:
                self._start()
                self._keep()
            except (StackError, preflight.PreflightError) as error:
                self._write_state("failed", str(error))
                raise
            finally:
                self._end()

    def _start(self) -> None:
        self._write_state("starting")
        if count := processes.stop_leftovers(self._stack.home):
            self._say(f"ended {count} processes that an earlier stack had left behind")
        preflight.check(self._stack)
        preflight.prepare_folders(self._stack)
        began = time.monotonic()
        for part in parts(self._stack):
            self._launch(part)
        self._await_ready(began)
        if not self._stop.given:
            self._write_state("up")
            self._say(f"the stack is up after {time.monotonic() - began:.0f} s")

    def _launch(self, part: Part) -> None:
        log = log_file(self._stack, part.name)
        offset = log.stat().st_size if log.exists() else 0
        started = time.time()
        process = processes.start(part.argv, env={**part.env, PART_MARKER: part.name}, log=log, cwd=ROOT)
        deaths = self._running[part.name].deaths if part.name in self._running else []
        self._running[part.name] = _Running(part, process, started, offset, deaths=deaths)

    def _await_ready(self, began: float) -> None:
        waiting = [(running, check) for running in self._running.values() for check in running.part.checks]
        while waiting and not self._stop.wait(_POLL):
            for running, check in list(waiting):
                if running.process.poll() is not None:
                    raise StackError(self._ended(running))
                seconds = time.monotonic() - began
                if check.ready(running.started):
                    waiting.remove((running, check))
                    # Short enough for 80 columns with the time before it, in the log.
                    self._say(f"{check.name:<21} up after {seconds:2.0f} s  {check.address}".rstrip())
                elif seconds > running.part.deadline:
                    tail = self._log_tail(running)
                    raise StackError(f"{check.name} does not answer after {seconds:.0f} s:\n{tail}")

    def _keep(self) -> None:
        """Start again whatever dies."""
        while not self._stop.wait(0.5):
            for running in list(self._running.values()):
                if running.process.poll() is None:
                    continue
                now = time.monotonic()
                running.deaths.append(now)
                recent = [death for death in running.deaths if now - death < _RESTART_WINDOW]
                if len(recent) > _RESTARTS:
                    raise StackError(f"{self._ended(running)}\nthis happened {len(recent)} times: giving up")
                self._say(f"{running.part.name} ended (code {running.process.returncode}): starting it again")
                processes.stop_leftovers(self._stack.home, running.part.name, grace=2.0)
                self._launch(running.part)
                self._write_state("up")

    def _end(self) -> None:
        if self._running:
            self._say("stopping")
            processes.stop([running.process.pid for running in self._running.values()], grace=_GRACE)
            processes.stop_leftovers(self._stack.home)
        for running in self._running.values():
            running.process.wait()
        state = read_state(self._stack)
        if state.get("state") != "failed":
            self._write_state("down")

    def _ended(self, running: _Running) -> str:
        return f"{running.part.name} ended with code {running.process.returncode}:\n{self._log_tail(running)}"

    def _log_tail(self, running: _Running, lines: int = 15) -> str:
        log = log_file(self._stack, running.part.name)
        with log.open("rb") as file:
            file.seek(running.log_offset)
            text = file.read().decode(errors="replace")
        return "\n".join([*text.splitlines()[-lines:], f"(all of it: {log})"])

    def _write_state(self, state: str, message: str = "") -> None:
        content = {
            "pid": os.getpid(),
            "state": state,
            "message": message,
            "use_cases": self._stack.shell.get("USE_CASES", ""),
            "parts": {
                name: {
                    "pid": running.process.pid,
                    "addresses": [check.address for check in running.part.checks if check.address],
                }
                for name, running in self._running.items()
            },
        }
        path = _state_file(self._stack)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(content, indent=1))
        part.replace(path)


def up_detached(stack: Stack, say: Say = print) -> None:
    """Start the stack in the background and return when it is up; returns at once when it is already."""
    if not is_held(stack):
        stack.logs.mkdir(parents=True, exist_ok=True)
        _state_file(stack).unlink(missing_ok=True)
        log = stack.logs / "supervisor.log"
        offset = log.stat().st_size if log.exists() else 0
        # Not marked as one of the stack's processes: it is the one that ends those.
        processes.start([sys.executable, "-m", "embedded", "up"], env={**stack.shell, "PYTHONPATH": str(ROOT)},
                        log=log, cwd=ROOT)  # fmt: skip
        _follow(stack, log, offset, say)
    state = read_state(stack)
    while state.get("state") == "starting" and is_held(stack):
        time.sleep(_POLL)
        state = read_state(stack)
    if state.get("state") != "up":
        raise StackError(state.get("message") or f"the supervisor ended: see {stack.logs / 'supervisor.log'}")


def _follow(stack: Stack, log: Path, offset: int, say: Say) -> None:
    """Repeat the supervisor's lines until it is up or gone."""
    deadline = time.monotonic() + 10  # by then it has taken the lock
    with log.open() as file:
        file.seek(offset)
        while True:
            state = read_state(stack).get("state")
            held = is_held(stack)
            for line in file.read().splitlines():
                say(_STAMP.sub("", line))
            if state in ("up", "failed", "down") or (not held and time.monotonic() > deadline):
                return
            time.sleep(_POLL)


def _supervisor(stack: Stack) -> int:
    """Process id of the supervisor, as it has written it down; 0 where that is by now one of another program.

    The file may be that of an earlier supervisor, which was killed.
    """
    pid = int(read_state(stack).get("pid", 0))
    try:
        return pid if pid and "embedded" in psutil.Process(pid).cmdline() else 0
    except psutil.Error:
        return 0


def down(stack: Stack, say: Say = print) -> None:
    """Stop the stack, its supervisor first, and end what a killed one has left behind."""
    was_up = is_held(stack)
    if was_up:
        deadline = time.monotonic() + 3 * _GRACE
        pid = 0
        while is_held(stack) and time.monotonic() < deadline:
            if not pid and (pid := _supervisor(stack)):  # 0: it has only just taken the lock
                os.kill(pid, signal.SIGTERM)
            time.sleep(_POLL)
        if pid and is_held(stack):
            os.kill(pid, signal.SIGKILL)
    left = processes.stop_leftovers(stack.home)
    if left:
        say(f"ended {left} processes that had been left behind")
    say("the stack is down" if was_up or left else "nothing to stop: the stack is not up")
