"""What came out of a training run: a registered version, or a verdict that let nothing be registered."""

from typing import Any

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from attrition import airflow_api, registry, settings
from training import tags


def announce(context: Any, asset: Asset, run_key: str) -> dict[str, str]:
    """The asset's extra for the version that the run with this key registered; skips where there is none."""
    run = context["dag_run"]
    version = registry.by_run_key(run_key)
    if version is None:
        reasons = _reasons(run_key)
        airflow_api.set_run_note(run.dag_id, run.run_id, f"Nothing was registered: {reasons}")
        raise AirflowSkipException(f"nothing was registered: {reasons}")
    extra = {"name": version.name, "version": version.version, "run_id": version.run_id}
    context["outlet_events"][asset].extra = extra
    verdict = version.tags.get(tags.VERDICT, "")
    airflow_api.set_run_note(run.dag_id, run.run_id, f"Registered version {version.version} (verdict: {verdict})")
    return extra


def _reasons(run_key: str) -> str:
    """Why the evaluation failed, from the training run's tags and ``evaluation.json``."""
    mlflow_client = registry.client()
    experiment = mlflow_client.get_experiment_by_name(settings.load().model.experiment)
    found = (
        mlflow_client.search_runs([experiment.experiment_id], f"tags.`{tags.RUN_KEY}` = '{run_key}'")
        if experiment
        else []
    )
    if not found:
        raise AirflowFailException(
            f"no training run has the key {run_key}, although the job succeeded: "
            "does connection mlflow name the tracking server that the job writes to?"
        )
    evaluation = registry.training_artifact(found[0].info.run_id, tags.EVALUATION_FILE)
    return "; ".join(evaluation["reasons"]) or f"verdict {evaluation['verdict']}"
