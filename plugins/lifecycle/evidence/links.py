"""Addresses that people follow from a message or a page into MLflow and Airflow."""

import json
from collections.abc import Sequence
from urllib.parse import quote, urlencode

from lifecycle.task_ids import AWAIT_APPROVAL

ARTIFACTS = "artifacts"
"""Below a run's page: its files."""
_VIEW = "workflowType=machine_learning"
"""Without it MLflow's own server opens the view for generative AI, which knows no models and no metrics."""


def _mlflow(mlflow_url: str, path: str) -> str:
    """A page of MLflow: its own server keeps the path behind ``#``, a Databricks workspace (``.../ml``) does not."""
    if mlflow_url.endswith("/ml"):
        return f"{mlflow_url}/{path}"
    return f"{mlflow_url}/#/{path}{'&' if '?' in path else '?'}{_VIEW}"


def mlflow_home(mlflow_url: str) -> str:
    """The list of experiments."""
    return _mlflow(mlflow_url, "experiments")


def mlflow_run(mlflow_url: str, experiment_id: str, run_id: str, below: str = "") -> str:
    """A run's page, or one ``below`` it: ``artifacts/model_card.md`` opens that file."""
    path = f"experiments/{quote(experiment_id)}/runs/{quote(run_id)}"
    return _mlflow(mlflow_url, f"{path}/{quote(below)}" if below else path)


def compared_runs(mlflow_url: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """Parameters and figures of several runs of an experiment, side by side."""
    asked = {"runs": json.dumps([*run_ids]), "experiments": json.dumps([experiment_id])}
    return _mlflow(mlflow_url, f"compare-runs?{urlencode(asked)}")


def airflow_run(airflow_url: str, dag_id: str, run_id: str) -> str:
    """A DAG run's page."""
    return f"{airflow_url}/dags/{quote(dag_id)}/runs/{quote(run_id, safe='')}"


def answer_page(airflow_url: str, dag_id: str, run_id: str) -> str:
    """Where the gate of a release is answered."""
    return f"{airflow_run(airflow_url, dag_id, run_id)}/tasks/{AWAIT_APPROVAL}/required_actions"


def model_version(mlflow_url: str, name: str, version: str) -> str:
    """A registered version's page: in Unity Catalog where MLflow is a Databricks workspace's."""
    if mlflow_url.endswith("/ml"):
        path = "/".join(map(quote, name.split(".")))
        return f"{mlflow_url.removesuffix('/ml')}/explore/data/models/{path}/version/{quote(version)}"
    return _mlflow(mlflow_url, f"models/{quote(name)}/versions/{quote(version)}")


def releases_page(airflow_url: str, use_case: str) -> str:
    """The page *Releases*, of one use case."""
    return f"{airflow_url}/lifecycle/releases?use_case={quote(use_case)}"


def glossary_page(airflow_url: str) -> str:
    """What the words at the gate and on the pages mean."""
    return f"{airflow_url}/lifecycle/glossary"


def evidence_page(airflow_url: str, use_case: str, run_id: str, key: str) -> str:
    """The page that shows the evidence of a release; ``run_id`` is the training run that keeps it."""
    return f"{airflow_url}/lifecycle/evidence/{quote(use_case)}/{quote(run_id)}/{quote(key)}"
