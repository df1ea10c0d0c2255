"""Fixtures of the training tests: attrition with synthetic and real employees, and an MLflow store in a folder."""

from pathlib import Path

import pytest

# pandas, MLflow and what needs them are imported in the fixtures: the Spark environment has neither.


@pytest.fixture(scope="session")
def attrition():
    from training.use_case import load

    return load("attrition")


@pytest.fixture(scope="session")
def synthetic_frame():
    from use_cases.attrition.sample import make_sample

    return make_sample(600, 3)


@pytest.fixture(scope="session")
def synthetic_file(synthetic_frame, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "employees.csv"
    synthetic_frame.to_csv(path, index=False, encoding="utf-8-sig")
    return path


@pytest.fixture(scope="session")
def synthetic(attrition, synthetic_file):
    from training.data.dataset import read_table

    return read_table(attrition, str(synthetic_file))


@pytest.fixture(scope="session")
def real(attrition, real_data):
    from training.data.dataset import read_table

    return read_table(attrition, str(real_data))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """An MLflow store on SQLite, artifacts beside it, for this process."""
    import mlflow

    from tests.support.mlflow_store import store_in

    with store_in(tmp_path_factory.mktemp("mlflow")):
        yield mlflow.MlflowClient()
