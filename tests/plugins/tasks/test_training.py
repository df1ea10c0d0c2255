"""After the job: the asset is updated for a registered version, and skipped with the reasons otherwise."""

from types import SimpleNamespace

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from lifecycle import settings
from lifecycle.hooks import airflow_api, registry
from lifecycle.hooks.registry import Version
from lifecycle.task_ids import TRAIN_AND_REGISTER
from lifecycle.tasks import training
from tests.support.airflow import USE_CASE, make_settings, run_task
from training.registry import tags

ASSET = Asset("attrition_model_version")


@pytest.fixture
def told(monkeypatch):
    notes = []
    monkeypatch.setattr(airflow_api, "set_run_note", lambda dag_id, run_id, note: notes.append(note))
    monkeypatch.setattr(registry, "training_run", lambda use_case, key: "run-1")
    monkeypatch.setattr(registry, "experiment_of", lambda run_id: "5")
    monkeypatch.setattr(settings, "load", make_settings)
    monkeypatch.setattr(registry, "set_tags", lambda version, values: version.tags.update(values))
    return notes


def context():
    event = SimpleNamespace(extra=None)
    pushed, seconds = {}, {"tune": 8.5}
    return {
        "dag_run": SimpleNamespace(dag_id="attrition_train", run_id="r"),
        "outlet_events": {ASSET: event},
        "ti": SimpleNamespace(
            pushed=pushed,
            xcom_push=lambda key, value: pushed.update({key: value}),
            xcom_pull=lambda task_ids, key: seconds if task_ids == TRAIN_AND_REGISTER else None,
        ),
    }


def test_registered_version_is_announced_with_name_version_and_run(told, monkeypatch):
    version = Version(name="m", version="3", run_id="run-1", tags={tags.VERDICT: "forced"})
    monkeypatch.setattr(registry, "by_training_run", lambda use_case, run_id, run_key: version)
    found = context()
    extra = run_task(training.announce_model_version, found, USE_CASE, "key")
    assert extra == found["outlet_events"][ASSET].extra == {"name": "m", "version": "3", "run_id": "run-1"}
    assert told == ["Registered version 3 (verdict: forced)"]
    assert version.tags[tags.JOB_SECONDS] == '{"tune":8.5}', "what its release counts among its cost"
    assert (
        found["ti"].pushed["link_model_version"] == "http://mlflow/#/models/m/versions/3?workflowType=machine_learning"
    )
    assert "experiments/5/runs/run-1" in found["ti"].pushed["link_mlflow_run"]


def test_failed_verdict_skips_the_asset_and_says_why(told, monkeypatch):
    monkeypatch.setattr(registry, "by_training_run", lambda use_case, run_id, run_key: None)
    monkeypatch.setattr(registry, "training_artifact", lambda run_id, path: {"reasons": ["roc_auc is 0.6"]})
    found = context()
    with pytest.raises(AirflowSkipException, match=r"roc_auc is 0\.6"):
        run_task(training.announce_model_version, found, USE_CASE, "key")
    assert found["outlet_events"][ASSET].extra is None
    assert told == ["Nothing was registered: roc_auc is 0.6"]
    assert "/runs/" in found["ti"].pushed["link_mlflow_run"], "where the evaluation is"


def test_job_that_wrote_to_another_mlflow_is_a_failure_that_names_the_connection(told, monkeypatch):
    monkeypatch.setattr(registry, "training_run", lambda use_case, key: None)
    with pytest.raises(AirflowFailException, match="connection mlflow"):
        run_task(training.announce_model_version, context(), USE_CASE, "key")
