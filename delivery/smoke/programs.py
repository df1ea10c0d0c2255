"""The programs that a smoke run calls: ``tofu``, ``az``, ``kubectl`` and the scripts of this repository.

Each call is written into ``programs.log``, with its output. Secrets go in by files and standard input, never by
arguments, which other users of the machine see.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from delivery.smoke.state import SmokeError

ROOT = Path(__file__).resolve().parents[2]
_LAST_LINES = 15
_GRACE = 120.0
"""Seconds for a program that is told to stop: tofu writes its state and gives the lock back."""


class Programs:
    """Runs programs in this repository, one after the other, as long as there is time."""

    def __init__(self, log: Path, left: Callable[[], float], environment: Mapping[str, str]) -> None:
        """``left``: seconds that a program may take at most, asked before each, unless ``allow`` says other ones."""
        self._log = log
        self._left = left
        self.environment = dict(environment)

    def allow(self, seconds: float) -> None:
        """From now on all programs together get this many seconds, whatever is left of the run."""
        deadline = time.monotonic() + seconds
        self._left = lambda: deadline - time.monotonic()

    def run(self, *command: str, given: str = "", into: Mapping[str, str] | None = None, secret: bool = False) -> str:
        """What a program has written on its standard output; raises ``SmokeError`` where it fails or takes too long.

        :param given: its standard input.
        :param into: variables of its environment beside those of all programs.
        :param secret: keep its output out of the log.
        """
        if (left := self._left()) <= 0:
            raise SmokeError(f"the time is over, so {command[0]} is not called any more")
        environment = self.environment | dict(into or {})
        # A session of its own: Ctrl-C is for us, and we stop it in our own time.
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            output, told = process.communicate(given, timeout=left)
        except subprocess.TimeoutExpired:
            stop(process)
            raise SmokeError(f"`{_shown(command)}` had not ended when the time was over") from None
        except BaseException:
            stop(process)
            raise
        self._write(command, process.returncode, "(not shown)" if secret else output, told)
        if process.returncode:
            said = "\n".join((told or output).strip().splitlines()[-_LAST_LINES:])
            raise SmokeError(f"`{_shown(command)}` ended with code {process.returncode}:\n{said}")
        return output

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """A program that goes on beside us, until it is given to ``stop``."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env=self.environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def _write(self, command: tuple[str, ...], code: int, output: str, told: str) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a") as log:
            log.write(f"$ {_shown(command)}\n{output}{told}(code {code})\n")


def stop(process: "subprocess.Popen[str] | subprocess.Popen[bytes]", patience: float = _GRACE) -> None:
    """End a program and what it has started: as Ctrl-C does, and for good where that does not help in time."""
    for number, seconds in ((signal.SIGINT, patience), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=seconds)  # reads on, for it may be waiting for room in a pipe
            return


def _shown(command: tuple[str, ...]) -> str:
    return " ".join(command)
