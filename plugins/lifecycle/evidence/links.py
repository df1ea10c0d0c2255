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
