"""Fixtures for the embedded stack's tests: real processes with homes and ports of their own."""

import mlflow
import pytest

from embedded.airflow_client import Airflow
from tests.support.desk import running_stack
from tests.support.workspace import Workspace


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A stack that the tests of a module share."""
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
def airflow(stack):
    return Airflow(stack.airflow_url, stack.credentials.airflow_user, stack.credentials.airflow_password)


@pytest.fixture
def client(stack):
    """MLflow's client."""
    mlflow.set_tracking_uri(stack.mlflow_url)
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(None)


@pytest.fixture
def workspace(tmp_path):
    """A MiniLake of this test alone, started through our launcher."""
    with Workspace(tmp_path / "minilake") as running:
        yield running


@pytest.fixture(scope="module")
def shared_workspace(tmp_path_factory):
    """A MiniLake that the tests of a module share."""
    with Workspace(tmp_path_factory.mktemp("minilake")) as running:
        yield running
