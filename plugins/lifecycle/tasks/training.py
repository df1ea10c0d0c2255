"""The tasks of the training DAG: publish the job's code, and say what came out of it."""

from typing import Any

import msgspec
from airflow.sdk import Asset, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from lifecycle import settings, task_links
from lifecycle.hooks import airflow_api, registry
from lifecycle.task_ids import JOB_SECONDS, TRAIN_AND_REGISTER
from training import use_case as definitions
from training.registry import tags


@task
def publish_code(use_case: str) -> dict[str, Any]:
    """Publish the code of the use case's jobs under its content hash."""
    from lifecycle.hooks.databricks import WorkspaceHook
    from lifecycle.tasks import publish

    return publish.publish(WorkspaceHook(), definitions.load(use_case), settings.load().training.code_root)


@task
def announce_model_version(use_case: str, run_key: str) -> dict[str, str]:
    """Update the asset with the version that was registered, or skip and say why there is none."""
    context: Any = get_current_context()
    training_run = registry.training_run(use_case, run_key)
    if training_run is None:
        raise AirflowFailException(
            f"no training run has the key {run_key}, although the job succeeded: "
            "does connection mlflow name the tracking server that the job writes to?"
        )
    version = registry.by_training_run(use_case, training_run, run_key)
    if version is None:
        task_links.show(context["ti"], task_links.of_run(registry.experiment_of(training_run), training_run))
        evaluation = registry.training_artifact(training_run, tags.EVALUATION_FILE)
        reasons = "; ".join(evaluation["reasons"])
        airflow_api.tell(context, f"Nothing was registered: {reasons}")
        raise AirflowSkipException(f"nothing was registered: {reasons}")
    if seconds := context["ti"].xcom_pull(task_ids=TRAIN_AND_REGISTER, key=JOB_SECONDS):
        registry.set_tags(version, {tags.JOB_SECONDS: msgspec.json.encode(seconds).decode()})
    extra = {"name": version.name, "version": version.version, "run_id": version.run_id}
    context["outlet_events"][Asset(definitions.load(use_case).version_asset)].extra = extra
    verdict = version.tags.get(tags.VERDICT, "")
    note = f"Registered version {version.version} (verdict: {verdict})"
    airflow_api.tell(context, note)
    task_links.show(context["ti"], task_links.of_version(use_case, version, registry.experiment_of(training_run)))
    return extra
