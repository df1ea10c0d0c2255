"""Airflow as the embedded stack runs it, alone and with DAG files of the test's choice."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import requests

from embedded import preflight, processes
from embedded.airflow_client import Airflow, AirflowError
from embedded.environment import ROOT, Stack
from tests.support.machine import eventually, own_ports


@contextmanager
def running(home: Path, dags: Path, more: Mapping[str, str]) -> Iterator[SimpleNamespace]:
    """Members ``client``, ``stack`` and ``kill_triggerer``; ``more`` is added to the environment."""
    stack = Stack.read({"PATH": os.environ["PATH"], **own_ports(), "LIFECYCLE_HOME": str(home)})
    preflight.prepare_folders(stack)
    log = stack.logs / "airflow.log"
    environment = {**stack.airflow_environment(), "AIRFLOW__CORE__DAGS_FOLDER": str(dags), **more}
    process = processes.start([sys.executable, "-m", "embedded.airflow_components"], env=environment, log=log, cwd=ROOT)

    def kill_triggerer() -> None:
        """The supervisor and its runner, at once."""
        # Forked, so they all have one command line: what tells them apart is where their output goes.
        (supervisor,) = [
            child
            for child in psutil.Process(process.pid).children()
            if any(file.path.endswith("airflow-triggerer.log") for file in child.open_files())
        ]
        for one in [*supervisor.children(recursive=True), supervisor]:
            one.kill()

    try:
        assert eventually(lambda: _answers(f"{stack.airflow_url}/api/v2/version"), 180), log.read_text()
        user = stack.credentials
        client = Airflow(stack.airflow_url, user.airflow_user, user.airflow_password)
        yield SimpleNamespace(client=client, stack=stack, kill_triggerer=kill_triggerer)
    finally:
        processes.stop([process.pid], grace=8)
        process.wait()
        assert processes.stop_leftovers(home) == 0


def unpause(client: Airflow, dag_id: str) -> None:
    """Wait until Airflow knows a DAG, and let it run."""

    def unpaused() -> Any:
        try:
            return client.patch(f"/dags/{dag_id}", {"is_paused": False})
        except AirflowError:
            return None

    assert eventually(unpaused, 120), f"Airflow does not find {dag_id}"


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False
