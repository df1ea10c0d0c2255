"""The Databricks jobs of training and night, and the operator that starts each once."""

import json
import re
from datetime import UTC, datetime
from types import SimpleNamespace

import msgspec
import pytest
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.providers.databricks.exceptions import DatabricksApiError
from airflow.providers.databricks.hooks.databricks import RunState
from airflow.sdk.exceptions import AirflowFailException

from lifecycle import settings
from lifecycle.hooks import databricks
from lifecycle.operators.job_run import MAX_ATTEMPTS, JobRunOperator, job_tasks
from lifecycle.operators.nightly_run import NightlyRunOperator
from lifecycle.operators.preview_run import PreviewRunOperator
from lifecycle.operators.training_run import TrainingRunOperator
from lifecycle.task_ids import JOB_SECONDS
from lifecycle.task_links import MlflowRun
from lifecycle.tasks import publish
from tests.support.airflow import USE_CASE, make_settings
from tests.support.signing import make_key, required
from training.config import JobConfig
from training.drift.limits import Limits
from training.nightly_job import NightlyConfig
from training.preview_job import PreviewConfig
from training.use_case import load

CODE = {"path": "/Shared/lifecycle/code/0123", "code_hash": "0123", "git_revision": "abc"}


def configured(**training):
    return make_settings({"data": "default.csv"}, training=settings.Training(**training))


def config_of(monkeypatch, kind=TrainingRunOperator, params=None, **arguments):
    monkeypatch.setattr(settings, "load", configured)
    operator = kind(task_id="job", use_case=USE_CASE, code=CODE, **arguments)
    return operator.config({"params": params or {}})


def test_params_win_over_settings_and_settings_fill_what_is_empty(monkeypatch):
    config = config_of(monkeypatch, params={"data": "", "trials": 7, "seed": 0, "force": True})
    assert (config["data"], config["trials"], config["seed"], config["force"]) == ("default.csv", 7, 0, True)


def test_job_is_told_its_use_case_and_what_follows_from_it(monkeypatch):
    config = msgspec.convert(config_of(monkeypatch), JobConfig)
    found = load(USE_CASE)
    assert (config.use_case, config.model_name, config.trials) == (USE_CASE, found.model_name, found.trials)
    assert (config.data, config.code_hash) == ("default.csv", "0123")


def test_training_job_is_told_where_its_signing_key_is_and_never_the_key(monkeypatch, tmp_path):
    held = make_key(tmp_path, "training")
    signing = msgspec.structs.replace(required(held, held), bundle_credential="lifecycle-signing")
    monkeypatch.setattr(settings, "load", lambda: make_settings({"data": "d.csv"}, signing=signing))
    config = TrainingRunOperator(task_id="job", use_case=USE_CASE, code=CODE).config({"params": {}})
    assert (config["signing_key"], config["signing_credential"]) == (held.place, "lifecycle-signing")
    assert "PRIVATE" not in json.dumps(config)


def test_training_that_could_not_be_signed_is_not_started(monkeypatch):
    monkeypatch.setattr(settings, "load", lambda: make_settings({"data": "d.csv"}, signing=settings.Signing()))
    with pytest.raises(AirflowFailException, match=r"bundle_key of \[signing\] in the settings names no key"):
        TrainingRunOperator(task_id="job", use_case=USE_CASE, code=CODE).config({"params": {}})


def test_nightly_job_is_told_limits_and_places(monkeypatch):
    config = config_of(monkeypatch, NightlyRunOperator, {"retrain": True}, nights=["2026-11-02"])
    told = msgspec.convert(config, NightlyConfig)
    assert (told.use_case, told.nights, told.by_hand) == (USE_CASE, ("2026-11-02",), True)
    assert (told.limits, told.original) == (Limits(), "default.csv")


NOW = datetime(2026, 11, 3, 4, tzinfo=UTC)


def candidate(version, running):
    return {"version": version, "production": {"version": running, "image": ""}}


def previewed(monkeypatch, offered, tables="/tables"):
    """Run the preview's operator; returns the tasks that it submitted (or ``None``), and the key of the result."""
    monkeypatch.setattr(settings, "load", lambda: make_settings({"tables": tables, "job_tables": "/job"}))
    monkeypatch.setattr(publish, "publish", lambda hook, use_case, root: CODE)
    monkeypatch.setattr(databricks, "WorkspaceHook", lambda: None)
    operator = PreviewRunOperator(task_id="preview_impact", use_case=USE_CASE, candidate=offered)
    operator.__dict__["_hook"], submitted, pushed = Workspace(), [], {}
    monkeypatch.setattr(JobRunOperator.__mro__[1], "execute", lambda self, context: submitted.append(self.tasks))
    instance = SimpleNamespace(dag_id="attrition_release", run_id="r1", task_id="preview_impact",
                               xcom_push=lambda key, value: pushed.update({key: value}))  # fmt: skip
    operator.execute({"ti": instance, "params": {}, "dag_run": SimpleNamespace(run_after=NOW)})
    assert (operator.code == CODE) == bool(submitted), "nothing is published for nothing"
    return submitted[0] if submitted else None, pushed["run_key"]


def test_preview_job_is_told_both_versions_and_the_day_of_the_release(monkeypatch):
    (task,), key = previewed(monkeypatch, candidate("4", "3"))
    arguments = task["spark_python_task"]["parameters"]
    told = msgspec.json.decode(arguments[-1], type=PreviewConfig)
    assert (told.challenger, told.champion, told.today, told.tables) == ("4", "3", NOW.date(), "/job")
    assert arguments[:3] == ["preview", "--run-key", key]


def test_preview_of_another_version_in_the_same_run_is_another_job(monkeypatch):
    keys = {previewed(monkeypatch, candidate(*pair))[1] for pair in (("4", "3"), ("5", "3"), ("4", "2"), ("4", "3"))}
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("offered", "tables"),
    [(candidate("1", ""), "/tables"), (candidate("3", "3"), "/tables"), (candidate("4", "3"), "")],
    ids=["nothing runs", "the same version", "no tables"],
)
def test_no_job_is_started_where_nothing_can_be_compared(monkeypatch, offered, tables):
    job, key = previewed(monkeypatch, offered, tables)
    assert job is None
    assert key


def job(settings, arguments=("--config", "{}")):
    return job_tasks(settings, CODE["path"], TrainingRunOperator.entry, TrainingRunOperator.steps, arguments)


def test_tasks_run_one_after_the_other_from_the_hashed_path():
    tasks, environments = job(configured(), ("--run-key", "key-1"))
    assert [task["task_key"] for task in tasks] == ["prepare", "tune", "evaluate", "register"]
    assert [task.get("depends_on") for task in tasks] == [
        None,
        [{"task_key": "prepare"}],
        [{"task_key": "tune"}],
        [{"task_key": "evaluate"}],
    ]
    assert tasks[1]["spark_python_task"] == {
        "python_file": "/Shared/lifecycle/code/0123/training/training_job.py",
        "parameters": ["tune", "--run-key", "key-1"],
    }
    assert environments == []


def test_serverless_tasks_share_an_environment_with_the_pinned_requirements():
    tasks, environments = job(configured(compute="serverless"))
    assert {task["environment_key"] for task in tasks} == {"default"}
    assert environments[0]["spec"]["dependencies"] == [
        "-r /Workspace/Shared/lifecycle/code/0123/training/requirements.txt"
    ]


def test_job_cluster_tasks_carry_the_cluster_of_the_settings():
    cluster = {"spark_version": "16.4.x-scala2.13", "node_type_id": "Standard_D4ds_v5", "num_workers": 1}
    tasks, _ = job(configured(compute="job_cluster", new_cluster=cluster))
    assert all(task["new_cluster"] == cluster for task in tasks)
    assert tasks[0]["spark_python_task"]["python_file"].startswith("/Workspace/Shared/")


class Workspace:
    """The two calls of the hook that decide which run is used: a token names one run for ever."""

    def __init__(self, *ends):
        self.ends = list(ends)
        self.runs = {}
        self.tasks = []

    def submit_run(self, body):
        run_id = self.runs.setdefault(body["idempotency_token"], len(self.runs) + 1)
        if self.end_of(run_id) == DELETED:
            raise refused("RESOURCE_DOES_NOT_EXIST", "The run with the provided idempotency token is deleted.")
        return run_id

    def end_of(self, run_id):
        return self.ends[run_id - 1] if run_id <= len(self.ends) else ("RUNNING", "")

    def get_run_state(self, run_id):
        if self.end_of(run_id) in GONE:
            raise refused("INVALID_PARAMETER_VALUE", self.end_of(run_id)[1])
        life, result = self.end_of(run_id)
        return RunState(life_cycle_state=life, result_state=result)


class Instance(SimpleNamespace):
    """What an operator needs of its task instance; keeps what is pushed."""

    def __init__(self):
        super().__init__(dag_id="attrition_train", run_id="r1", task_id="train_and_register", pushed={})

    def xcom_push(self, key, value):
        self.pushed[key] = value

    def xcom_pull(self, task_ids, key):
        return self.pushed.get(key) if task_ids == self.task_id else None


FAILED = ("TERMINATED", "FAILED")
DELETED = ("DELETED", "")
GONE = (("GONE", "Run 2 does not exist."), ("GONE", "Run: 2 in job: 7 doesn't exist"))
"""Of a run that was deleted in the workspace: its token is refused, or answered and the run is not found, in the words
that Databricks' own SDK knows."""


def refused(code, message, status=400):
    """An error of the Databricks API as the provider raises it."""
    body = json.dumps({"error_code": code, "message": message})
    return DatabricksApiError(f"Response: {body}, Status Code: {status}", http_status_code=status)


@pytest.fixture
def start(monkeypatch):
    """Run the operator up to the point where it would wait, against a workspace; returns the token it used."""
    monkeypatch.setattr(settings, "load", configured)

    def run(workspace, instance=None):
        operator = TrainingRunOperator(task_id="train_and_register", use_case=USE_CASE, code=CODE)
        operator.__dict__["_hook"] = workspace
        monkeypatch.setattr(
            JobRunOperator.__mro__[1],
            "execute",
            lambda self, context: workspace.submit_run(self._prepare_submit_json(context)),
        )
        operator.execute({"ti": instance or Instance(), "params": {}})
        workspace.tasks.append(operator.tasks)
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


@pytest.mark.parametrize("gone", [DELETED, *GONE], ids=["token refused", "run not found", "not found in its job"])
def test_retry_after_a_run_that_was_deleted_in_the_workspace_starts_exactly_one_more(start, gone):
    """ "If a run with the provided token is deleted, an error is returned": clearing the task never helped."""
    workspace = Workspace(FAILED, gone)
    first = start(workspace)
    assert len(workspace.runs) == 3
    assert start(workspace) == first
    assert len(workspace.runs) == 3


@pytest.mark.parametrize(
    "error",
    [
        refused("INVALID_PARAMETER_VALUE", "Instance pool p does not exist, so the run cannot start."),
        refused("PERMISSION_DENIED", "The run with the provided idempotency token is deleted.", 403),
    ],
    ids=["another thing is missing", "not allowed"],
)
def test_other_refusal_of_a_run_is_raised_and_not_taken_for_a_deleted_one(start, monkeypatch, error):
    workspace = Workspace()
    tokens = []

    def submit(body):
        tokens.append(body["idempotency_token"])
        raise error

    monkeypatch.setattr(workspace, "submit_run", submit)
    with pytest.raises(DatabricksApiError):
        start(workspace)
    assert len(tokens) == 1


def test_ten_deleted_runs_are_enough_and_the_last_answer_is_told(start):
    workspace = Workspace(*[DELETED] * MAX_ATTEMPTS)
    with pytest.raises(AirflowFailException, match=r"last answer .*the provided idempotency token is deleted"):
        start(workspace)


def test_ten_failed_runs_are_enough(start):
    workspace = Workspace(*[FAILED] * MAX_ATTEMPTS)
    with pytest.raises(AirflowFailException, match="trigger a new run of attrition_train"):
        start(workspace)
    assert len(workspace.runs) == MAX_ATTEMPTS


def test_the_submitted_json_is_what_the_jobs_api_takes(start, monkeypatch):
    workspace = Workspace()
    start(workspace)
    (tasks,) = workspace.tasks
    assert msgspec.json.decode(msgspec.json.encode(tasks)) == tasks
    step, _, key, name, trace, _, config = tasks[0]["spark_python_task"]["parameters"]
    assert name == "--trace-parent"
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", trace)
    assert (step, key.startswith("attrition-train-training-")) == ("prepare", True)
    assert json.loads(config)["use_case"] == USE_CASE


def test_task_that_started_no_job_has_no_link_to_one(monkeypatch):
    """Beside ``preview_impact`` of a first release stood a link to ``None``."""
    (link,) = PreviewRunOperator.operator_extra_links
    monkeypatch.setattr("airflow.providers.databricks.operators.databricks.XCom.get_value", lambda **_: None)
    assert (link.name, link.get_link(None, ti_key=None)) == ("See Databricks Job Run", "")


@pytest.mark.parametrize(
    ("task_id", "asked"),
    [
        ("train_and_register", "announce_model_version"),
        ("curate_and_judge", "decide"),
        ("announce_model_version", "announce_model_version"),
        ("promote", "promote"),
    ],
)
def test_link_to_mlflow_beside_a_jobs_task_is_what_the_task_after_it_has_found(monkeypatch, task_id, asked):
    """The task of a job asks MLflow nothing: beside it there was no link to the run that it made."""
    monkeypatch.setattr(
        "airflow.serialization.definitions.operatorlink.XComOperatorLink.get_link",
        lambda self, operator, *, ti_key: f"{self.xcom_key} of {ti_key.task_id} in {ti_key.run_id}",
    )
    key = TaskInstanceKey("a_dag", task_id, "run-7", 2)
    assert MlflowRun().get_link(None, ti_key=key) == f"link_mlflow_run of {asked} in run-7"


def test_ended_job_leaves_what_it_has_written_in_the_log(monkeypatch, capsys):
    """Its task said 'succeeded', and nothing of trials, figures or verdict."""
    monkeypatch.setattr(settings, "load", configured)
    operator = TrainingRunOperator(task_id="train_and_register", use_case=USE_CASE, code=CODE)
    written = {1: "1470 employees\n", 2: "trial 1 of 2: ROC AUC 0.8\ntrial 2 of 2: ROC AUC 0.9\n"}
    operator.__dict__["_hook"] = SimpleNamespace(
        get_run=lambda run_id: {"tasks": [{"task_key": "prepare", "run_id": 1}, {"task_key": "tune", "run_id": 2}]},
        get_run_output=lambda run_id: {"logs": written[run_id]},
    )
    state = RunState(life_cycle_state="TERMINATED", result_state="SUCCESS")
    event = {"run_id": 6, "run_page_url": "http://run", "run_state": state.to_json(), "errors": []}
    operator.execute_complete({"ti": Instance()}, event)
    told = capsys.readouterr().out
    for line in ("prepare | 1470 employees", "tune | trial 1 of 2: ROC AUC 0.8", "tune | trial 2 of 2: ROC AUC 0.9"):
        assert line in told


def test_seconds_of_a_job_are_those_of_all_its_runs_the_failed_ones_too(start, monkeypatch):
    """Every one of them was paid for."""
    instance = Instance()
    start(Workspace(FAILED, ("RUNNING", "")), instance)
    operator = TrainingRunOperator(task_id="train_and_register", use_case=USE_CASE, code=CODE)
    runs = {
        1: [
            {"task_key": "prepare", "run_id": 11, "start_time": 1_000, "end_time": 5_000},
            {"task_key": "tune", "run_id": 12, "start_time": 5_000, "end_time": 0},
        ],
        2: [
            {
                "task_key": "prepare",
                "run_id": 21,
                "setup_duration": 500,
                "execution_duration": 1_500,
                "end_time": 9_999,
            },
            {"task_key": "tune", "run_id": 22, "start_time": 5_000, "end_time": 25_000, "execution_duration": 0},
        ],
    }
    operator.__dict__["_hook"] = SimpleNamespace(
        get_run=lambda run_id: {"tasks": runs[run_id]}, get_run_output=lambda run_id: {"logs": ""}
    )
    state = RunState(life_cycle_state="TERMINATED", result_state="SUCCESS")
    event = {"run_id": 2, "run_page_url": "http://run", "run_state": state.to_json(), "errors": []}
    operator.execute_complete({"ti": instance}, event)
    assert instance.pushed[JOB_SECONDS] == {"prepare": 6.0, "tune": 20.0}
