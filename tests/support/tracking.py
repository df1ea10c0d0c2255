"""A real MLflow server for tests that stop and start it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import requests

from tests.support.machine import free_port
from tests.support.mlflow_store import empty_store
from tests.support.workspace import ROOT


class Tracking:
    """An MLflow server on SQLite that keeps its address and its store from one start to the next."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._store = ""
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._store = self._store or empty_store(self._folder)
        command = [
            sys.executable, "-m", "embedded.mlflow_server", "--host", "127.0.0.1", "--port", str(self._port),
            "--workers", "1", "--backend-store-uri", self._store,
            "--artifacts-destination", str(self._folder / "artifacts"), "--serve-artifacts",
        ]  # fmt: skip
        env = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 120
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            assert time.monotonic() < deadline, "MLflow did not answer within 120 s"
            time.sleep(0.2)

    def kill(self) -> None:
        """End it as a crash does; no harm where it does not run."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=2).ok
        except requests.RequestException:
            return False
