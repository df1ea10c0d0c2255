"""Links beside a task in Airflow: to its run in MLflow, the model version, the evidence and the page *Releases*.

A task says where they lead (``show``). Airflow's API server asks for them beside every task, and shows those it gets.
A job's own task does not ask MLflow; the task after it does, and what that has found is shown beside both.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperatorLink

from lifecycle import settings
from lifecycle.evidence import links
from lifecycle.task_ids import ANNOUNCE_MODEL_VERSION, CURATE_AND_JUDGE, DECIDE, TRAIN_AND_REGISTER

if TYPE_CHECKING:
    from lifecycle.hooks.registry import Version

log = logging.getLogger(__name__)

FOUND_BY = {TRAIN_AND_REGISTER: ANNOUNCE_MODEL_VERSION, CURATE_AND_JUDGE: DECIDE}
"""By the task of a job, the task after it."""


class TaskLink(BaseOperatorLink):
    """A link that the task itself has left among its XComs."""

    key: ClassVar[str]

    @property
    def xcom_key(self) -> str:
        return self.key

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Where the task, or the one after a job's, said that it leads; empty where it said nothing."""
        # Imported here: it brings Airflow's database models, which a task's process has no use for.
        from airflow.serialization.definitions.operatorlink import XComOperatorLink

        asked = ti_key._replace(task_id=FOUND_BY.get(ti_key.task_id, ti_key.task_id))
        return XComOperatorLink(name=self.name, xcom_key=self.key).get_link(operator, ti_key=asked)


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
