"""The Databricks job of a training run, and the operator that starts it once."""

import json
from types import SimpleNamespace

import msgspec
import pytest
from airflow.providers.databricks.hooks.databricks import RunState
from airflow.sdk.exceptions import AirflowFailException

from lifecycle import settings
from lifecycle.operators.training_run import MAX_ATTEMPTS, TrainingRunOperator
from lifecycle.tasks.training_job import job_config, job_tasks

CODE = {"path": "/Shared/attrition/code/0123", "code_hash": "0123", "git_revision": "abc"}


def configured(**training):
    return settings.Settings(
        environment="test", airflow_url="", mlflow_url="", training=settings.Training(data="default.csv", **training)
    )


def test_params_win_over_settings_and_settings_fill_what_is_empty():
    config = job_config(configured(), CODE, {"data": "", "trials": 7, "seed": 0, "force": True})
    assert (config["data"], config["trials"], config["seed"], config["force"]) == ("default.csv", 7, 0, True)
    assert config["floors"]["roc_auc"] == settings.Floors().roc_auc


def test_tasks_run_one_after_the_other_from_the_hashed_path():
    tasks, environments = job_tasks(configured(), CODE["path"], "key-1", {"trials": 3})
    assert [task["task_key"] for task in tasks] == ["prepare", "tune", "evaluate", "register"]
    assert [task.get("depends_on") for task in tasks] == [
        None,
        [{"task_key": "prepare"}],
        [{"task_key": "tune"}],
        [{"task_key": "evaluate"}],
    ]
    assert tasks[1]["spark_python_task"] == {
        "python_file": "/Shared/attrition/code/0123/training/training_job.py",
        "parameters": ["tune", "--run-key", "key-1", "--config", '{"trials": 3}'],
    }
    assert environments == []


def test_serverless_tasks_share_an_environment_with_the_pinned_requirements():
    tasks, environments = job_tasks(configured(compute="serverless"), CODE["path"], "key-1", {})
    assert {task["environment_key"] for task in tasks} == {"default"}
    assert environments[0]["spec"]["dependencies"] == [
        "-r /Workspace/Shared/attrition/code/0123/training/requirements.txt"
    ]


def test_job_cluster_tasks_carry_the_cluster_of_the_settings():
    cluster = {"spark_version": "16.4.x-scala2.13", "node_type_id": "Standard_D4ds_v5", "num_workers": 1}
    tasks, _ = job_tasks(configured(compute="job_cluster", new_cluster=cluster), CODE["path"], "key-1", {})
    assert all(task["new_cluster"] == cluster for task in tasks)
    assert tasks[0]["spark_python_task"]["python_file"].startswith("/Workspace/Shared/")


class Workspace:
    """The two calls of the hook that decide which run is used: a token names one run for ever."""

    def __init__(self, *ends):
        self.ends = list(ends)
        self.runs = {}

    def submit_run(self, body):
        return self.runs.setdefault(body["idempotency_token"], len(self.runs) + 1)

    def get_run_state(self, run_id):
        life, result = self.ends[run_id - 1] if run_id <= len(self.ends) else ("RUNNING", "")
        return RunState(life_cycle_state=life, result_state=result)


FAILED = ("TERMINATED", "FAILED")


@pytest.fixture
def start(monkeypatch):
    """Run the operator up to the point where it would wait, against a workspace; returns the token it used."""
    monkeypatch.setattr(settings, "load", configured)

    def run(workspace):
        operator = TrainingRunOperator(task_id="train_and_register", code=CODE)
        operator.__dict__["_hook"] = workspace
        monkeypatch.setattr(
            TrainingRunOperator.__mro__[1],
            "execute",
            lambda self, context: workspace.submit_run(self._prepare_submit_json(context)),
        )
        instance = SimpleNamespace(
            dag_id="attrition_train", run_id="r1", task_id="train_and_register", xcom_push=lambda key, value: None
        )
        operator.execute({"ti": instance, "params": {}})
        return operator.idempotency_token

    return run


def test_first_try_starts_one_run(start):
    workspace = Workspace()
    start(workspace)
    assert len(workspace.runs) == 1


def test_retry_while_the_run_goes_on_starts_no_second_one(start):
    workspace = Workspace(("RUNNING", ""))
    assert start(workspace) == start(workspace)
    assert len(workspace.runs) == 1


def test_retry_after_success_starts_no_second_one(start):
    workspace = Workspace(("TERMINATED", "SUCCESS"))
    start(workspace)
    start(workspace)
    assert len(workspace.runs) == 1


@pytest.mark.parametrize("end", [FAILED, ("TERMINATED", "CANCELED"), ("INTERNAL_ERROR", "")])
def test_retry_after_a_failed_run_starts_exactly_one_more(start, end):
    workspace = Workspace(end)
    first = start(workspace)
    assert len(workspace.runs) == 2
    assert start(workspace) == first
    assert len(workspace.runs) == 2
    assert all(len(token) <= 64 for token in workspace.runs)


def test_ten_failed_runs_are_enough(start):
    workspace = Workspace(*[FAILED] * MAX_ATTEMPTS)
    with pytest.raises(AirflowFailException, match="trigger attrition_train anew"):
        start(workspace)
    assert len(workspace.runs) == MAX_ATTEMPTS


def test_the_submitted_json_is_what_the_jobs_api_takes():
    tasks, _ = job_tasks(configured(), CODE["path"], "key-1", job_config(configured(), CODE, {}))
    decoded = json.loads(tasks[0]["spark_python_task"]["parameters"][-1])
    assert decoded["model_name"] == "employee_attrition"
    assert msgspec.json.encode(tasks)
