"""A program in a pseudo-terminal of a test's own: what it shows, and the keys that it gets."""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Mapping

from embedded.environment import ROOT

_SIZE = (40, 100)


class Terminal:
    """Runs ``python -c PROGRAM ARGUMENTS``; call ``close`` at the end."""

    def __init__(self, program: str, *arguments: str, environ: Mapping[str, str] = os.environ) -> None:
        self.shown = ""
        self.pid, self._screen = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where a script runs the tests in the background
            variables = {**environ, "TERM": "xterm-256color"}
            os.execve(sys.executable, [sys.executable, "-c", program, *arguments], variables)  # noqa: S606 - the child
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", *_SIZE, 0, 0))

    def wait(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        """Read what is shown until a condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.shown
            if select.select([self._screen], [], [], 0.02)[0]:
                try:
                    self.shown += os.read(self._screen, 4096).decode()
                except OSError:  # the program has ended and closed its side
                    time.sleep(0.02)

    def see(self, text: str) -> None:
        self.wait(lambda: text in self.shown)

    def type(self, keys: str) -> None:
        os.write(self._screen, keys.encode())

    def exit_code(self, seconds: float = 20.0) -> int:
        """Wait for the end; negative for a signal."""
        ended: list[int] = []

        def reaped() -> bool:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            ended.extend([status] if pid else [])
            return bool(pid)

        self.wait(reaped, seconds)
        while select.select([self._screen], [], [], 0)[0]:  # what it wrote last
            try:
                self.shown += os.read(self._screen, 4096).decode()
            except OSError:
                break
        return os.waitstatus_to_exitcode(ended[0])

    def close(self) -> None:
        os.close(self._screen)
