"""Lines reach stdout whole, or the writer says that it cannot."""

import contextlib
import errno
import fcntl
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from serving.log_writer import LineWriter, LogUnavailable


@pytest.fixture(autouse=True, params=["linux", "elsewhere"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Linux offers, and what is left without it: no /proc to open the pipe again, no file in memory."""
    if request.param == "elsewhere":
        monkeypatch.delattr(os, "memfd_create", raising=False)
        monkeypatch.delattr(fcntl, "F_SETPIPE_SZ", raising=False)
        monkeypatch.setattr(os, "readlink", _no_proc)


def _no_proc(path: str) -> str:
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _write_many(writer: LineWriter, letter: str, blocks: int) -> None:
    for number in range(blocks):
        line = f"{letter}{number} {letter * 20_000}\n".encode()
        writer.write(line + line)


def test_lines_of_processes_and_threads_never_mix_in_a_pipe() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing, timeout=30)
    letters = "abcdef"
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_write_many, args=(writer, letter, 20)) for letter in letters[:3]]
    for worker in workers:
        worker.start()
    threads = [threading.Thread(target=_write_many, args=(writer, letter, 20)) for letter in letters[3:]]
    for thread in threads:
        thread.start()
    received = bytearray()
    expected = sum(2 * len(f"{letter}{number} {letter * 20_000}\n") for letter in letters for number in range(20))
    while len(received) < expected:
        received += os.read(reading, 1 << 16)
    for one in [*workers, *threads]:
        one.join()
    lines = received.decode().splitlines()
    assert len(lines) == 6 * 20 * 2
    for line in lines:
        name, _, filling = line.partition(" ")
        assert filling == name[0] * 20_000
    assert {line.partition(" ")[0] for line in lines} == {f"{x}{n}" for x in letters for n in range(20)}
    os.close(reading)
    os.close(writing)


def test_full_pipe_is_an_error_in_time_and_the_cut_line_is_ended_later() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing, timeout=0.2)
    began = time.monotonic()
    with pytest.raises(LogUnavailable, match=r"no line for 0\.2 s"):
        writer.write(b"x" * 2_000_000 + b"\n")
    assert time.monotonic() - began < 2
    cut = os.read(reading, 1 << 20)
    assert set(cut) == {ord("x")}
    writer.write(b"after\n")
    assert os.read(reading, 100) == b"\nafter\n"
    assert writer.lost == 1
    os.close(reading)
    os.close(writing)


def test_writer_without_patience_never_waits_and_processes_count_together() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing, timeout=0)
    line = b"z" * 1000 + b"\n"
    began = time.monotonic()
    while not writer.lost:
        with contextlib.suppress(LogUnavailable):
            writer.write(line)
    if (child := os.fork()) == 0:
        with contextlib.suppress(LogUnavailable):
            writer.write(line)
        os._exit(0)
    os.waitpid(child, 0)
    assert time.monotonic() - began < 5
    assert writer.lost == 2
    os.read(reading, 1 << 21)
    writer.write(b"after\n")
    os.close(reading)
    os.close(writing)


def test_each_line_of_a_block_that_is_not_taken_counts() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing, timeout=0)
    with pytest.raises(LogUnavailable):
        writer.write(b"x" * 2_000_000 + b"\nsecond\nthird\n")
    assert writer.lost == 3
    os.close(reading)
    os.close(writing)


def test_system_without_locks_is_an_error_that_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever logs expects ``LogUnavailable`` and nothing else: an access line must not end a worker."""
    reading, writing = os.pipe()
    writer = LineWriter(writing, timeout=0)

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with pytest.raises(LogUnavailable, match="No locks available"):
        writer.write(b"line\n")
    assert writer.lost == 1
    monkeypatch.undo()
    writer.write(b"line\n")
    assert os.read(reading, 100) == b"line\n"
    os.close(reading)


def test_closed_pipe_is_an_error() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing, timeout=0.2)
    os.close(reading)
    with pytest.raises(LogUnavailable, match="Broken pipe"):
        writer.write(b"line\n")
    os.close(writing)


def test_full_disk_is_an_error() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    with open("/dev/full", "wb") as full, pytest.raises(LogUnavailable, match="No space"):
        LineWriter(full.fileno(), timeout=0.2).write(b"line\n")


def test_killed_writer_leaves_the_lock_free_and_its_cut_line_is_ended() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing, timeout=60)
    child = os.fork()
    if child == 0:  # blocks in the middle of its line, holding the lock
        writer.write(b"y" * 2_000_000 + b"\n")
        os._exit(0)
    time.sleep(0.3)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.read(reading, 1 << 20)
    writer.write(b"after\n")
    assert os.read(reading, 100) == b"\nafter\n"
    os.close(reading)
    os.close(writing)


def test_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"before\n")
    with path.open("ab") as log:
        LineWriter(log.fileno(), timeout=1).write(b"line\n")
    assert path.read_bytes() == b"before\nline\n"
