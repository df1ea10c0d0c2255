"""Fixtures for the plugins' tests: MLflow, and connections by name."""

import pytest
from airflow.models.connection import Connection
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from lifecycle.hooks import registry
from tests.support.mlflow_here import served_here
from tests.support.tracking import Tracking


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory):
    """A real MLflow server on SQLite, for tests whose own processes ask it; its address."""
    server = Tracking(tmp_path_factory.mktemp("mlflow"))
    try:
        server.start()
        yield server.url
    finally:
        server.kill()


@pytest.fixture(scope="session")
def mlflow_here(tmp_path_factory):
    """MLflow's server application in this process; its address."""
    with served_here(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


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
def mlflow_connection(mlflow_here, connections):
    """Connection ``mlflow`` to MLflow."""
    host, port = mlflow_here.removeprefix("http://").split(":")
    connections["mlflow"] = Connection(conn_id="mlflow", conn_type="http", host=host, port=int(port))
    return connections["mlflow"]
