"""Ends what a test session has started, when the session itself was killed and could not.

A process of its own waits until the session is gone, however it went, and then ends whoever carries the session's mark
in the environment, or the name of a stack's home below the session's folder. Servers of tests lead sessions of their
own, so that no signal to the tests reaches them; this reaches them after all.
"""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from embedded.environment import MARKER, ROOT

SESSION = "LIFECYCLE_TEST_SESSION"
"""Variable that everything started by a test session inherits; its value is the session's own folder."""
_LOOK_SECONDS = 1.0
_ROUNDS = 3
"""One that is being ended may have started another meanwhile."""


@contextmanager
def guarded(session: str, folder: Path) -> Iterator[None]:
    """Let nothing outlive this process that it has started: ``folder`` is where its stacks have their homes."""
    command = [sys.executable, "-m", "tests.support.guardian", str(os.getpid()), session, str(folder)]
    environment = {name: value for name, value in os.environ.items() if name != SESSION}
    guardian = subprocess.Popen(
        command, stdin=subprocess.PIPE, cwd=ROOT, start_new_session=True, env={**environment, "PYTHONPATH": str(ROOT)}
    )
    try:
        yield
    finally:
        guardian.communicate(b"ended\n")


def _wait(parent: int) -> None:
    """Until the session says that it has ended, or dies; a child that it forked may hold the pipe open for longer."""
    while os.getppid() == parent and not select.select([sys.stdin], [], [], _LOOK_SECONDS)[0]:
        pass


def _end_all(session: str, folder: str) -> None:
    for _ in range(_ROUNDS):
        found = [process for process in psutil.process_iter() if _is_of(process, session, folder)]
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:  # gone meanwhile
                continue
        if not found:
            return
        psutil.wait_procs(found, timeout=5)


def _is_of(process: psutil.Process, session: str, folder: str) -> bool:
    try:
        environ = process.environ()
        alive = process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:  # gone, or another user's
        return False
    mine = environ.get(SESSION) == session or environ.get(MARKER, "").startswith(f"{folder}{os.sep}")
    return alive and mine


if __name__ == "__main__":
    _wait(int(sys.argv[1]))
    _end_all(*sys.argv[2:])
