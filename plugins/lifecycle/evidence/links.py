"""Addresses that people follow from a message or a page into MLflow and Airflow."""

from urllib.parse import quote


def mlflow_run(mlflow_url: str, experiment_id: str, run_id: str) -> str:
    """A run's page; ``/artifacts`` may follow.

    MLflow's own server keeps the page's path behind ``#``, a Databricks workspace (``https://.../ml``) does not.
    """
    base = mlflow_url if mlflow_url.endswith("/ml") else f"{mlflow_url}/#"
    return f"{base}/experiments/{quote(experiment_id)}/runs/{quote(run_id)}"


def airflow_run(airflow_url: str, dag_id: str, run_id: str) -> str:
    """A DAG run's page."""
    return f"{airflow_url}/dags/{quote(dag_id)}/runs/{quote(run_id, safe='')}"


def model_version(mlflow_url: str, name: str, version: str) -> str:
    """A registered version's page: in Unity Catalog where MLflow is a Databricks workspace's."""
    if mlflow_url.endswith("/ml"):
        path = "/".join(map(quote, name.split(".")))
        return f"{mlflow_url.removesuffix('/ml')}/explore/data/models/{path}/version/{quote(version)}"
    return f"{mlflow_url}/#/models/{quote(name)}/versions/{quote(version)}"


def evidence_page(airflow_url: str, use_case: str, run_id: str, key: str) -> str:
    """The page that shows the evidence of a release; ``run_id`` is the training run that keeps it."""
    return f"{airflow_url}/lifecycle/evidence/{quote(use_case)}/{quote(run_id)}/{quote(key)}"
