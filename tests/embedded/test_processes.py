"""Process groups, where the kernel speaks of dead ones as of somebody else's: macOS does so until they are reaped."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from embedded import processes
from embedded.environment import MARKER, ROOT
from tests.support.guardian import SESSION
from tests.support.machine import eventually, runs


@pytest.fixture
def group(monkeypatch):
    """A process that has ended, leads a group, and has not been reaped."""
    process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    deadline = time.monotonic() + 30
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)

    def killpg(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "killpg", killpg)
    yield process.pid
    process.wait()


def test_group_of_the_unreaped_is_not_alive(group):
    assert not processes.alive(group)


def test_signal_to_a_group_of_the_unreaped_is_no_error_and_stopping_it_takes_no_time(group):
    processes.signal_group(group, signal.SIGTERM)
    began = time.monotonic()
    processes.stop([group], grace=30)
    assert time.monotonic() - began < 10


def test_group_of_somebody_else_is_alive(monkeypatch):
    def killpg(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "killpg", killpg)
    assert processes.alive(os.getpgrp())


SERVERS = """
import os, subprocess, sys, time
from pathlib import Path
from tests.support.guardian import MARKER, SESSION, guarded

folder = Path(sys.argv[1])
os.environ[SESSION] = str(folder)
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
bare = {"PATH": os.environ["PATH"]}
with guarded(str(folder), folder):
    for environment in (None, bare | {MARKER: str(folder / "stack")}, bare | {MARKER: f"{folder}-of-another"}):
        print(subprocess.Popen(sleep, start_new_session=True, env=environment, stdout=subprocess.DEVNULL).pid)
    sys.stdout.flush()
    if (forked := os.fork()) == 0:  # holds the guardian's pipe open
        time.sleep(600)
    print(forked)
    print("started", flush=True)
    if sys.argv[2] == "killed":
        time.sleep(600)
"""


@pytest.mark.parametrize("end", ["killed", "normal"])
def test_servers_of_a_test_session_end_with_it_however_it_ends_and_those_of_others_stay(tmp_path, end):
    environment = {name: value for name, value in os.environ.items() if name not in (SESSION, MARKER)}
    session = subprocess.Popen(
        [sys.executable, "-c", SERVERS, str(tmp_path), end],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**environment, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert session.stdout
    pids = [int(line) for line in iter(session.stdout.readline, "started\n")]
    *own, others, forked = pids
    try:
        assert all(map(runs, pids))
        if end == "killed":
            session.kill()
        session.wait(30)
        assert eventually(lambda: not any(map(runs, own)))
        assert runs(others)
    finally:
        for pid in (others, forked):
            os.kill(pid, signal.SIGKILL)
        session.stdout.close()
