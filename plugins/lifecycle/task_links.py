"""Links beside a task in Airflow: to its run in MLflow, the model version, the evidence and the page *Releases*.

A task says where they lead (``show``). Airflow's API server asks for them beside every task, and shows those it gets.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperatorLink

from lifecycle import settings
from lifecycle.evidence import links

if TYPE_CHECKING:
    from lifecycle.hooks.registry import Version

log = logging.getLogger(__name__)


class TaskLink(BaseOperatorLink):
    """A link that the task itself has left among its XComs."""

    key: ClassVar[str]

    @property
    def xcom_key(self) -> str:
        return self.key

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Where the task said that it leads; empty where it said nothing."""
        # Imported here: it brings Airflow's database models, which a task's process has no use for.
        from airflow.serialization.definitions.operatorlink import XComOperatorLink

        return XComOperatorLink(name=self.name, xcom_key=self.key).get_link(operator, ti_key=ti_key)


class MlflowRun(TaskLink):
    name = "MLflow run"
    key = "link_mlflow_run"


class ModelVersion(TaskLink):
    name = "Model version"
    key = "link_model_version"


class Evidence(TaskLink):
    name = "Evidence"
    key = "link_evidence"


class ModelReleases(TaskLink):
    name = "Releases"
    key = "link_model_releases"


ALL = (MlflowRun, ModelVersion, Evidence, ModelReleases)


def show(instance: Any, found: Mapping[type[TaskLink], str]) -> None:
    """Leave these links beside the running task, and in its log.

    :param instance: the task instance of Airflow's context.
    """
    for link, url in found.items():
        instance.xcom_push(key=link.key, value=url)
        log.info("%s: %s", link.name, url)


def of_run(experiment_id: str, run_id: str) -> dict[type[TaskLink], str]:
    """To a run in MLflow."""
    return {MlflowRun: links.mlflow_run(settings.load().mlflow_url, experiment_id, run_id)}


def of_version(use_case: str, version: "Version", experiment_id: str) -> dict[type[TaskLink], str]:
    """To a version, its training run, and the page that says where it stands."""
    configured = settings.load()
    return {
        **of_run(experiment_id, version.run_id),
        ModelVersion: links.model_version(configured.mlflow_url, version.name, version.version),
        ModelReleases: links.releases_page(configured.airflow_url, use_case),
    }
