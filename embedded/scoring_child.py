"""One scoring server of the embedded stack: a gunicorn on sockets that the host keeps."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import requests

from embedded.processes import signal_group
from lifecycle.hooks.slot import STOP_FILE, Running, Unit

SLOT_MARKER = "LIFECYCLE_SCORING_SLOT"
"""Set for every scoring server, to its slot's folder."""
DRAIN_SECONDS = 0.5
"""For how long a server that is told to stop still accepts; its successor accepts on the same socket."""
_STOP_SECONDS = 20.0
_PROBE_SECONDS = 1.0
_TAIL_LINES = 20


class Child:
    """A gunicorn that runs one unit on its slot's public socket and on a private one of its own."""

    def __init__(
        self, *, name: str, unit: Unit, slot: Path, public: socket.socket, keys: Path, env: Mapping[str, str]
    ) -> None:
        self.name = name
        self.unit = unit
        self.since = datetime.now(UTC).isoformat(timespec="seconds")
        output = slot / "output"
        output.mkdir(parents=True, exist_ok=True)
        self._stderr = output / f"{name}.stderr.log"
        self._private = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._private.getsockname()[1]}"
        descriptors = (public.fileno(), self._private.fileno())
        image = unit.folder
        with (output / f"{name}.stdout.log").open("ab") as stdout, self._stderr.open("ab") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-B", "-m", "gunicorn", "-c", "python:serving.gunicorn_config", "serving.wsgi:app"],
                cwd=image,
                env={
                    **env,
                    SLOT_MARKER: str(slot),
                    # The image's code answers, not the clone's.
                    "PYTHONPATH": str(image),
                    "SCORING_BUNDLE": str(image / "bundle"),
                    "SCORING_RELEASE": str(image / "release.json"),
                    "SCORING_API_KEYS_FILE": str(keys),
                    "SCORING_STOP_FILE": str(slot / STOP_FILE),
                    "SCORING_BIND": f"fd://{public.fileno()}",
                    "SCORING_METRICS_BIND": f"fd://{self._private.fileno()}",
                    "SCORING_WORKERS": "1",
                    "SCORING_DRAIN_SECONDS": str(DRAIN_SECONDS),
                },
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=descriptors,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> Running:
        """As it stands in ``status.json``."""
        unit = self.unit
        return Running(unit.image, unit.version, pid=self.pid, since=self.since, url=self.url)

    def exit_code(self) -> int | None:
        """``None`` while it runs."""
        return self._process.poll()

    def await_ready(self, timeout: float, given_up: Callable[[], bool]) -> str | None:
        """Wait until it is ready; returns ``None`` then, otherwise why it is not (``given_up`` ends the wait)."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if (code := self.exit_code()) is not None:
                return f"the server ended with code {code} before it was ready"
            if given_up():
                return "something else was asked for meanwhile"
            try:
                if requests.get(f"{self.url}/readyz", timeout=_PROBE_SECONDS).ok:
                    return None
            except requests.RequestException:
                pass  # not listening yet, or busy loading: the deadline decides
            time.sleep(0.05)
        return f"the server was not ready within {timeout:g} s"

    def log_tail(self) -> list[str]:
        """The last lines that it wrote to stderr."""
        return self._stderr.read_text(errors="replace").splitlines()[-_TAIL_LINES:]

    def drain(self) -> None:
        """Let it finish what it has accepted, then end it; blocks."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        self.kill()

    def signal(self, number: signal.Signals) -> None:
        if self.exit_code() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it and its workers at once."""
        signal_group(self.pid, signal.SIGKILL)
        self._process.wait()
        self._private.close()
