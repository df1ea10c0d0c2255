"""Process groups, where the kernel speaks of dead ones as of somebody else's: macOS does so until they are reaped."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from embedded import processes


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
