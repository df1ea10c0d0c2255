"""Whole lines to stdout and stderr, from many processes and threads, or an error in time.

A pipe keeps writes together only up to ``PIPE_BUF`` bytes (4 KiB on Linux, 512 on macOS), so writers take turns:
threads by a lock, processes by a POSIX record lock on a file without a name, which the kernel releases when its
holder dies.
"""

import fcntl
import logging
import mmap
import os
import select
import stat
import threading
import time

from serving.system import unnamed_file

_CLEAN, _BROKEN = 0, 1
_TURN_SECONDS = 0.1  # what a writer who does not wait for the reader takes at most
_PIPE_BYTES = 1 << 20  # the most that Linux gives everybody: room for the lines of a thousand records
_log = logging.getLogger(__name__)


class LogUnavailable(OSError):
    """Raised when a descriptor does not take a line: it is closed, full, or nobody reads it."""


class LineWriter:
    """Writes blocks of lines to a file descriptor. Make it before forking: workers share its lock."""

    def __init__(self, descriptor: int, timeout: float) -> None:
        """``timeout``: seconds that the descriptor may refuse to take a block; 0: it must take it at once."""
        self._timeout = timeout
        self._thread_lock = threading.Lock()
        self._process_lock = unnamed_file()
        # What all processes see: whether the last block was cut off in the middle of a line, and the lines lost.
        self._memory = mmap.mmap(-1, 16)
        self._state, self._lost = memoryview(self._memory)[:1], memoryview(self._memory)[8:].cast("Q")
        own = _own_pipe(descriptor)
        self._descriptor = os.dup(descriptor) if own is None else own
        # A pipe that we share with others may block: once it has room, it still takes this much at once.
        shared_pipe = own is None and stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        self._piece = select.PIPE_BUF if shared_pipe else None

    def ready(self) -> bool:
        """Whether a block is most likely taken at once: the last one was, or there is room again."""
        return not self._thread_lock.locked() and (self._state[0] == _CLEAN or bool(self._room().poll(0)))

    def write(self, lines: bytes) -> None:
        """Write complete lines, or raise ``LogUnavailable``; never interleaved with another block."""
        if not self._thread_lock.acquire(timeout=max(self._timeout, _TURN_SECONDS)):
            self._lost[0] += lines.count(b"\n")
            raise LogUnavailable("the log takes no lines")
        try:
            fcntl.lockf(self._process_lock, fcntl.LOCK_EX)
            try:
                self._write(lines)
            finally:
                fcntl.lockf(self._process_lock, fcntl.LOCK_UN)
        except LogUnavailable:
            self._lost[0] += lines.count(b"\n")
            raise
        except OSError as error:  # the kernel has no locks left, or the like
            self._lost[0] += lines.count(b"\n")
            raise LogUnavailable(f"the log cannot be written: {error.strerror}") from error
        finally:
            self._thread_lock.release()

    @property
    def lost(self) -> int:
        """Lines that were not taken, of all processes."""
        return self._lost[0]

    def _write(self, lines: bytes) -> None:
        if self._state[0] == _BROKEN:
            lines = b"\n" + lines  # ends the line that was cut off
        self._state[0] = _BROKEN
        written = 0 if self._piece else self._take(lines)
        if written < len(lines):
            self._write_rest(memoryview(lines)[written:])
        self._state[0] = _CLEAN

    def _take(self, lines: bytes | memoryview) -> int:
        """How many bytes the descriptor took."""
        try:
            return os.write(self._descriptor, lines)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise LogUnavailable(f"the log cannot be written: {error.strerror}") from error

    def _write_rest(self, rest: memoryview) -> None:
        """What a full pipe did not take at once, within the time limit."""
        deadline = time.monotonic() + self._timeout
        room = self._room()
        while rest:
            remaining = deadline - time.monotonic()
            if not room.poll(max(remaining, 0) * 1000):
                raise LogUnavailable(f"the log took no line for {self._timeout:g} s")
            rest = rest[self._take(rest[: self._piece]) :]

    def _room(self) -> select.poll:
        """What waits until the descriptor can be written; for one thread."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return poll


def _own_pipe(descriptor: int) -> int | None:
    """Our own non-blocking end of the pipe: the flag must not reach others who write to it.

    ``None`` for what is not a pipe, which does not block for long, and where a pipe cannot be opened again:
    systems without /proc, or a pipe of another user.
    """
    path = f"/proc/self/fd/{descriptor}"
    try:
        if not os.readlink(path).startswith("pipe:"):
            return None
        own = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        _log.info("descriptor %d is written as others share it: %s", descriptor, error)
        return None
    try:
        fcntl.fcntl(own, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError as error:  # a large request then waits for the reader more than once
        _log.info("the pipe of descriptor %d keeps its size: %s", descriptor, error)
    return own
