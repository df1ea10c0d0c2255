"""What came out of a training run: a registered version, or a verdict that let nothing be registered."""

from typing import Any

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from lifecycle.hooks import airflow_api, registry
from training.registry import tags


def announce(context: Any, asset: Asset, run_key: str) -> dict[str, str]:
    """The asset's extra for the version that the run with this key registered; skips where there is none."""
    run = context["dag_run"]
    training_run = registry.training_run(run_key)
    if training_run is None:
        raise AirflowFailException(
            f"no training run has the key {run_key}, although the job succeeded: "
            "does connection mlflow name the tracking server that the job writes to?"
        )
    version = registry.by_training_run(training_run)
    if version is None:
        evaluation = registry.training_artifact(training_run, tags.EVALUATION_FILE)
        reasons = "; ".join(evaluation["reasons"])
        airflow_api.set_run_note(run.dag_id, run.run_id, f"Nothing was registered: {reasons}")
        raise AirflowSkipException(f"nothing was registered: {reasons}")
    extra = {"name": version.name, "version": version.version, "run_id": version.run_id}
    context["outlet_events"][asset].extra = extra
    verdict = version.tags.get(tags.VERDICT, "")
    airflow_api.set_run_note(run.dag_id, run.run_id, f"Registered version {version.version} (verdict: {verdict})")
    return extra
