"""Processes by group: start them in one, stop all of it, and find what a killed stack left behind."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from embedded.environment import MARKER, PART_MARKER

_ROUNDS = 3
"""One that is being ended may have started another meanwhile."""


def start(argv: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path) -> subprocess.Popen[bytes]:
    """Start a program as leader of a session and process group of its own, its output appended to ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            argv,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def alive(group: int) -> bool:
    """Whether any process of the group still runs; one that has ended and waits to be reaped does not."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's; or, on macOS, one of which nobody is left but who waits to be reaped
    members = (process for process in psutil.process_iter(["status"]) if _group(process.pid) == group)
    return any(process.info["status"] != psutil.STATUS_ZOMBIE for process in members)


def stop(groups: Iterable[int], *, grace: float) -> None:
    """End process groups: SIGTERM, and SIGKILL to those that still run after ``grace`` seconds."""
    left = set(groups)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for group in left:
            signal_group(group, number)
        deadline = time.monotonic() + grace
        while (left := {group for group in left if alive(group)}) and time.monotonic() < deadline:
            time.sleep(0.05)
        if not left:
            return


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group that may have ended already.

    On macOS a group whose members all wait to be reaped answers as somebody else's would.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def leftovers(home: Path, part: str | None = None) -> list[psutil.Process]:
    """Processes that a stack with this home started (or one part of it) and that still run.

    The caller's own process group is not among them.
    """
    wanted = {MARKER: str(home)} | ({PART_MARKER: part} if part else {})
    found = []
    for process in psutil.process_iter():
        try:
            environ = process.environ()
            if environ.items() >= wanted.items() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return [process for process in found if _group(process.pid) not in (None, os.getpgrp())]


def stop_leftovers(home: Path, part: str | None = None, *, grace: float = 5.0) -> int:
    """End all leftovers and return how many there were."""
    total = 0
    for _ in range(_ROUNDS):
        if not (found := leftovers(home, part)):
            break
        total += len(found)
        stop({group for process in found if (group := _group(process.pid)) is not None}, grace=grace)
    return total


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
