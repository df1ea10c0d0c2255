"""A real scoring host for tests, images for it, and a client that never stops asking."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import requests

from embedded.environment import HEARTBEAT_FILE, TARGETS, Stack
from lifecycle.hooks.slot import Slot, Unit
from tests.support.image_names import digest
from tests.support.machine import eventually, free_ports
from training.use_case import Target

ROOT = Path(__file__).resolve().parents[2]


def make_image(folder: Path, bundle: Path, version: str, model: str = "employee_attrition") -> Unit:
    """A folder with the content of a serving image."""
    shutil.copytree(ROOT / "serving", folder / "serving", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(bundle, folder / "bundle")
    release = {"model_name": model, "model_version": version}
    (folder / "release.json").write_text(json.dumps(release))
    return Unit(image=f"{folder}@{digest(version)}", version=version)


class Host:
    """``python -m embedded.scoring_host`` with a home and ports of its own; ``use_cases`` is a folder of definitions.

    ``slot`` and ``url`` are of production of the use case that is released first.
    """

    def __init__(self, home: Path, use_case: str = "attrition", use_cases: Path | None = None) -> None:
        shell = {f"LIFECYCLE_{t.upper()}_PORT": str(port) for t, port in zip(TARGETS, free_ports(2), strict=True)}
        if use_cases:
            shell["USE_CASES"] = str(use_cases)
        self.stack = Stack.read({"LIFECYCLE_HOME": str(home), "PATH": os.environ["PATH"], **shell})
        self.key = self.stack.credentials.api_keys["production"]
        self.slot = self.slot_of(use_case)
        self.url = f"http://127.0.0.1:{self.stack.ports.production}"
        self.process: subprocess.Popen[bytes] | None = None

    def slot_of(self, use_case: str, target: Target = "production") -> Slot:
        """Any slot, as a task of a release sees it."""
        connection = SimpleNamespace(
            conn_id=f"scoring_{target}",
            password=self.stack.credentials.release_keys[target],
            extra_dejson={"home": str(self.stack.slots)},
        )
        return Slot(connection, use_case, target)

    def start(self) -> None:
        log = self.stack.home / "host.log"
        began = time.time()
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "embedded.scoring_host"],
                env=self.stack.environment(), cwd=ROOT, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        beat = self.stack.slots / HEARTBEAT_FILE
        assert eventually(lambda: beat.exists() and beat.stat().st_mtime >= began, 60), log.read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)

    def version(self, url: str = "") -> str:
        return str(requests.get(f"{url or self.url}/version", timeout=10).json()["model"]["version"])

    def predict(self, record: dict, request_id: str = "", url: str = "") -> requests.Response:
        headers = {"X-API-Key": self.key} | ({"X-Request-ID": request_id} if request_id else {})
        return requests.post(f"{url or self.url}/predict", json=[record], headers=headers, timeout=30)

    def exported(self) -> list[dict]:
        """All records of the export folder."""
        files = sorted((self.stack.home / "exports").rglob("*.json"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


class Load:
    """Clients that ask one after the other, each request on a new connection, and keep every fault."""

    def __init__(self, host: Host, record: dict, clients: int = 3) -> None:
        self.versions: list[str] = []
        self.faults: list[str] = []
        self._host, self._record = host, record
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self._host.predict(self._record)
                if answer.status_code != 200:
                    self.faults.append(answer.text)
                else:
                    self.versions.append(answer.json()["model"]["version"])
            except requests.RequestException as error:
                self.faults.append(repr(error))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()
