"""Real scoring servers on loopback for the tests, and a small client."""

import contextlib
import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple, Self

import psutil

from tests.support.machine import free_ports

ROOT = Path(__file__).resolve().parents[2]
KEY = "a-key-of-the-tests"
CLIENT = "hr-portal"


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def key_file(folder: Path, **keys: str) -> Path:
    """A file of key hashes."""
    path = folder / "keys.json"
    hashes = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in keys.items()}
    path.write_text(json.dumps(hashes))
    return path


class Server:
    """One gunicorn with its workers; stdout and stderr go to files of ``folder``, or to descriptors."""

    def __init__(
        self,
        folder: Path,
        bundle: Path,
        descriptor: int | None = None,
        errors: int | None = None,
        pythonpath: str = str(ROOT),
        before: tuple[str, ...] = (),
        config: str = "serving.gunicorn_config",
        **settings: Any,
    ) -> None:
        """``before``: a program that runs the server, such as ``prlimit`` with its options; ``config``: a module."""
        self.port, self.metrics_port = free_ports(2)
        self.stdout, self.stderr = folder / "stdout.log", folder / "stderr.log"
        defaults = {
            "BUNDLE": bundle,
            "BIND": f"127.0.0.1:{self.port}",
            "METRICS_BIND": f"127.0.0.1:{self.metrics_port}",
            "WORKERS": 1,
            "RELEASE": folder / "release.json",
        }
        if "AUTH" not in settings:
            defaults["API_KEYS_FILE"] = key_file(folder, **{CLIENT: KEY})
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SCORING_")}
        environ |= {f"SCORING_{name}": str(value) for name, value in (defaults | settings).items()}
        environ["PYTHONPATH"] = pythonpath
        command = [
            *before,
            sys.executable,
            "-m",
            "gunicorn",
            "-c",
            f"python:{config}",
            "serving.wsgi:app",
        ]
        with self.stdout.open("ab") as out, self.stderr.open("ab") as err:
            self.process = subprocess.Popen(
                command, env=environ, stdout=descriptor or out, stderr=errors or err, cwd=folder
            )

    def __enter__(self) -> Self:
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_ready(self, seconds: float = 30.0) -> None:
        """Until ``/readyz`` answers 200."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended: {self.stderr.read_text()[-3000:]}")
            try:
                if self.request("GET", "/readyz").status == 200:
                    return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"the server is not ready: {self.stderr.read_text()[-3000:]}")

    def stop(self) -> None:
        """SIGTERM, and the end of it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL to all that is left of it."""
        for pid in [*self.workers(), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):  # gone meanwhile
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        try:
            return [child.pid for child in psutil.Process(self.process.pid).children()]
        except psutil.NoSuchProcess:
            return []

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        port: int = 0,
        timeout: float = 20,
    ) -> Answer:
        """One request over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def predict(self, records: Any, timeout: float = 20, **headers: str) -> Answer:
        """``POST /predict`` with the tests' key; bytes are sent as they are."""
        body = records if isinstance(records, bytes) else json.dumps(records).encode()
        named = {"X-API-Key": KEY, "Content-Type": "application/json"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", "/predict", body, named, timeout=timeout)

    def metrics(self) -> str:
        """What Prometheus reads."""
        answer = self.request("GET", "/metrics", port=self.metrics_port)
        assert answer.status == 200, answer
        return answer.body.decode()

    def log_lines(self) -> list[dict[str, Any]]:
        """The inference log, parsed."""
        return [json.loads(line) for line in self.stdout.read_text().splitlines()]
