"""The release's steps that make pods, and operators of them as Airflow runs them."""

from datetime import UTC, datetime
from types import SimpleNamespace

from airflow.sdk import DAG

from lifecycle.operators.release_step import ScoringStepOperator
from tests.support.airflow import USE_CASE

DIGEST = "sha256:" + "ab" * 32


IMAGE = f"registry.example.com/attrition-scoring@{DIGEST}"


NOTHING = {"image": "", "version": ""}


SAID = '{"reason":"wrong data","by":"ann","since":"2026-11-26T10:00:00+00:00"}'


STEPS = {
    "attrition_release.deploy_staging": {"step": "deploy", "target": "staging"},
    "attrition_release.verify_staging": {"step": "verify", "target": "staging"},
    "attrition_release.deploy_canary": {"step": "canary", "target": "production"},
    "attrition_release.watch_canary": {"step": "watch", "target": "production"},
    "attrition_release.deploy_production": {"step": "deploy", "target": "production"},
    "attrition_release.verify_production": {"step": "verify", "target": "production"},
    "attrition_release.restore_production": {"step": "restore", "target": "production"},
    "attrition_release.restore_production.to_nothing": {"step": "restore", "target": "production", **NOTHING},
    "attrition_release.restore_staging": {"step": "restore", "target": "staging"},
    "attrition_release.restore_staging.to_nothing": {"step": "restore", "target": "staging", **NOTHING},
    "attrition_rollback.deploy_production": {"step": "deploy", "target": "production"},
    "attrition_rollback.verify_production": {"step": "verify", "target": "production"},
    "attrition_stop.stop_production": {"step": "stop", "target": "production", "image": "", "said": SAID},
    "attrition_resume.resume_production": {"step": "resume", "target": "production", "image": "", "said": SAID},
}
"""Every task of the DAGs that makes a pod: DAG, task, and where it matters, what it is given."""


class Instance(SimpleNamespace):
    """A task instance as operators see it."""

    def __init__(self, dag_id, task_id):
        super().__init__(dag_id=dag_id, run_id="run-1", task_id=task_id, map_index=-1, try_number=1)
        self.start_date = datetime(2026, 11, 21, tzinfo=UTC)
        self.pushed = {}

    def xcom_push(self, key, value):
        self.pushed[key] = value


def make(step, target, image=IMAGE, version="3", name="attrition_release.any_task", **arguments):
    dag_id, task_id, *_ = name.split(".")
    with DAG(dag_id, schedule=None):
        return ScoringStepOperator(
            task_id=task_id,
            use_case=USE_CASE,
            target=target,
            step=step,
            image=image,
            version=version,
            **arguments,
        )


def context(operator):
    instance = Instance(operator.dag.dag_id, operator.task_id)
    return {"ti": instance, "run_id": instance.run_id, "dag": operator.dag}
