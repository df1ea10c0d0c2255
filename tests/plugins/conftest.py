"""Fixtures for the plugins' tests: a real MLflow server, and connections by name."""

import os
import signal
import subprocess
import sys
import time

import pytest
import requests
from airflow.models.connection import Connection
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from lifecycle.hooks import registry
from tests.support.machine import free_port


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory):
    """A real MLflow server on SQLite; its address."""
    home, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{home}/mlflow.db"]
    command += ["--artifacts-destination", str(home / "artifacts"), "--serve-artifacts"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    log = (home / "server.log").open("w")
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while True:
            assert server.poll() is None, (home / "server.log").read_text()
            assert time.monotonic() < deadline, "MLflow did not answer within 120 s"
            try:
                if requests.get(f"{url}/health", timeout=2).ok:
                    break
            except requests.ConnectionError:
                time.sleep(0.3)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.close()


@pytest.fixture
def connections(monkeypatch):
    """A dictionary of Airflow connections by id, used in place of the secrets backends."""
    known: dict[str, Connection] = {}

    def get_connection(conn_id: str) -> Connection:
        if conn_id not in known:
            raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")
        return known[conn_id]

    monkeypatch.setattr(BaseHook, "get_connection", staticmethod(get_connection))
    registry.client.cache_clear()
    yield known
    registry.client.cache_clear()


@pytest.fixture
def mlflow_connection(mlflow_server, connections):
    """Connection ``mlflow`` to the real server."""
    host, port = mlflow_server.removeprefix("http://").split(":")
    connections["mlflow"] = Connection(conn_id="mlflow", conn_type="http", host=host, port=int(port))
    return connections["mlflow"]
