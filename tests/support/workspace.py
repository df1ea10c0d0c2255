"""A real MiniLake process for tests, and the few calls that most of them make."""

import base64
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import requests

from tests.support.machine import free_port

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "token-of-a-test"
WAIT = """
import pathlib, sys, time
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.02)
"""
"""A script that ends once the file that it is given exists."""
ENDED = ("TERMINATED", "SKIPPED", "INTERNAL_ERROR")


class Workspace:
    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environ = environ
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop(signal.SIGTERM)

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        env = os.environ | {
            "MINILAKE_PORT": str(self.port),
            "MINILAKE_DATA_DIR": str(self.folder),
            "MINILAKE_DUCKDB_EXTENSION_DIR": str(self.folder / "extensions"),
            "MINILAKE_TOKEN": TOKEN,
            "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
            "PYTHONPATH": str(ROOT),
            **self.environ,
        }
        with (self.folder / "server.log").open("ab") as log:
            command = [sys.executable, "-m", "embedded.emulators.minilake"]
            self.process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline, "MiniLake did not answer within 60 s"
            try:
                if requests.get(f"{self.url}/_minilake/health", timeout=2).ok:
                    return
            except requests.ConnectionError:
                time.sleep(0.1)

    def stop(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, number)
            self.process.wait(20)

    def call(self, method: str, path: str, *, expect: int = 200, **arguments):
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = requests.request(method, f"{self.url}/api/{path}", headers=headers, timeout=30, **arguments)
        assert answer.status_code == expect, answer.text
        return answer.json() if answer.content else {}

    def put(self, path: str, text: str, form: str = "AUTO") -> str:
        """Publish a workspace file; returns its path."""
        body = {"path": path, "content": base64.b64encode(text.encode()).decode(), "format": form, "overwrite": True}
        if form == "SOURCE":
            body["language"] = "PYTHON"
        self.call("POST", "2.0/workspace/import", json=body)
        return path

    def submit(self, *tasks: dict, **body) -> int:
        content = {"run_name": "a test", "tasks": list(tasks), **body}
        return self.call("POST", "2.2/jobs/runs/submit", json=content)["run_id"]

    def run_script(self, text: str, *parameters: str, **task) -> dict:
        """Run a script as a job of one task to its end; returns the run."""
        path = self.put("/Shared/test/script.py", text)
        run_id = self.submit(python_task("main", path, *parameters, **task))
        return self.wait(run_id)

    def run(self, run_id: int) -> dict:
        return self.call("GET", "2.2/jobs/runs/get", params={"run_id": run_id})

    def output(self, run_id: int) -> dict:
        return self.call("GET", "2.2/jobs/runs/get-output", params={"run_id": run_id})

    def wait(self, run_id: int, seconds: float = 60) -> dict:
        deadline = time.monotonic() + seconds
        while (run := self.run(run_id))["state"]["life_cycle_state"] not in ENDED:
            assert time.monotonic() < deadline, run
            time.sleep(0.05)
        return run

    def wait_for(self, path: Path, seconds: float = 30) -> str:
        """Wait until a job has written a file."""
        deadline = time.monotonic() + seconds
        while not path.exists() or not path.read_text():
            assert time.monotonic() < deadline, f"{path} was not written"
            time.sleep(0.05)
        return path.read_text()


def python_task(key: str, path: str, *parameters: str, **fields) -> dict:
    return {"task_key": key, "spark_python_task": {"python_file": path, "parameters": list(parameters)}, **fields}


def result(run: dict) -> str | None:
    return run["state"].get("result_state")
