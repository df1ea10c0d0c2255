"""The training operator against a live workspace and a live MLflow, which fail and come back, and its own kill.

The job is the real one: published, and run by MiniLake as four processes.
"""

import asyncio
import signal
import threading
import time
from types import SimpleNamespace

import mlflow
import pytest
from airflow.models.connection import Connection
from airflow.providers.databricks.operators.databricks import DatabricksSubmitRunOperator
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from lifecycle import settings
from lifecycle.operators.training_run import TrainingRunOperator
from lifecycle.task_ids import JOB_SECONDS
from lifecycle.tasks import publish
from tests.support.machine import eventually
from tests.support.tracking import Tracking
from tests.support.workspace import TOKEN, Workspace
from training.data.synthetic import make_rows
from training.registry import tags
from training.use_case import load

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]
USE_CASE, MODEL, TRIALS = "attrition", "employee_attrition", 3
SETTINGS = """
environment = "test"
airflow_url = ""
mlflow_url = ""
[training]
parallel_trials = 1
poll_seconds = 1
[signing]
required = false
[use_cases.attrition]
data = "{data}"
trials = {trials}
"""


@pytest.fixture
def tracking(tmp_path):
    """MLflow, not started yet."""
    server = Tracking(tmp_path / "mlflow")
    yield server
    server.kill()


@pytest.fixture
def lake(tmp_path, tracking, monkeypatch):
    """A workspace of the test's own whose jobs use that MLflow; Airflow's connection names it."""
    environment = {
        "MLFLOW_TRACKING_URI": tracking.url,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",  # 28 s
        "OMP_NUM_THREADS": "1",
    }
    with Workspace(tmp_path / "minilake", **environment) as running:
        known = Connection(
            conn_id="databricks_default",
            conn_type="databricks",
            host="127.0.0.1",
            schema="http",
            port=running.port,
            password=TOKEN,
        )

        async def get_later(conn_id):
            return known

        monkeypatch.setattr(BaseHook, "get_connection", staticmethod(lambda conn_id: known))
        monkeypatch.setattr(BaseHook, "aget_connection", staticmethod(get_later), raising=False)
        yield running


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "employees.csv"
    make_rows(load(USE_CASE), 600, 3).to_csv(path, index=False)
    return path


@pytest.fixture
def task(lake, data, tmp_path, monkeypatch):
    """The Airflow task: a fresh operator for each try, as a worker makes it."""
    path = tmp_path / "settings.toml"
    path.write_text(SETTINGS.format(data=data, trials=TRIALS))
    configured = settings.read(path)
    monkeypatch.setattr(settings, "load", lambda: configured)
    return Task(publish.publish(publish.WorkspaceHook(), load(USE_CASE), configured.training.code_root))


class Task:
    """What Airflow does with the task: tries, the wait in the triggerer, and kills."""

    def __init__(self, code):
        self._code = code
        self.pushed = {}
        self.tries = []
        instance = SimpleNamespace(
            dag_id="attrition_train",
            run_id="manual__1",
            task_id="train_and_register",
            xcom_push=lambda key, value: self.pushed.update({key: value}),
            xcom_pull=lambda task_ids, key: self.pushed.get(key),
        )
        # A model from 600 rows may miss a floor: what is tested here is how often it is registered.
        self.context = {"ti": instance, "params": {"force": True}}

    def start(self):
        """One try up to its wait; returns the trigger, or ``None`` where the run had ended well already."""
        self.tries.append(TrainingRunOperator(task_id="train_and_register", use_case=USE_CASE, code=self._code))
        try:
            self.tries[-1].execute(self.context)
        except TaskDeferred as deferred:
            return deferred.trigger
        return None

    def finish(self, trigger):
        """Wait as the triggerer does, then resume the try with what came of it."""

        async def first_event():
            async for event in trigger.run():
                return event.payload
            return None

        event = asyncio.run(asyncio.wait_for(first_event(), 240))
        self.tries[-1].execute_complete(self.context, event)


def databricks_runs(lake):
    return lake.call("GET", "2.2/jobs/runs/list")["runs"]


def await_step(lake, run_id, step):
    """Wait until a step of the job runs; its processes then exist."""

    def running():
        state = {task["task_key"]: task["state"]["life_cycle_state"] for task in lake.run(run_id)["tasks"]}
        return state[step] == "RUNNING"

    assert eventually(running, 120), lake.run(run_id)


def assert_trained_once(url, run_key):
    """One parent run, each trial once, one model version."""
    client = mlflow.MlflowClient(url, registry_uri=url)
    experiment = client.get_experiment_by_name("/Shared/attrition")
    found = client.search_runs([experiment.experiment_id], f"tags.`{tags.RUN_KEY}` = '{run_key}'")
    assert len(found) == 1
    trials = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{found[0].info.run_id}'")
    assert len(trials) == TRIALS
    versions = client.search_model_versions(f"name = '{MODEL}'")
    assert [version.run_id for version in versions] == [found[0].info.run_id]


def test_killed_worker_and_mlflow_that_is_away_for_a_moment_leave_one_run_and_one_version(task, lake, tracking):
    tracking.start()
    first = task.start()
    await_step(lake, first.run_id, "tune")
    again = task.start()  # the worker was killed: Airflow tries again while the run goes on
    assert again.run_id == first.run_id
    tracking.kill()
    back = threading.Timer(3.0, tracking.start)
    back.start()
    task.finish(again)
    back.join()
    assert task.start() is None  # cleared after its success
    assert len(databricks_runs(lake)) == 1
    assert_trained_once(tracking.url, task.pushed["run_key"])


def test_run_that_was_cancelled_and_then_lost_with_its_workspace_is_followed_by_one_that_goes_on(task, lake, tracking):
    tracking.start()
    cancelled = task.start()
    await_step(lake, cancelled.run_id, "tune")
    asyncio.run(cancelled.on_kill())  # what Airflow calls when somebody ends the waiting task
    assert lake.wait(cancelled.run_id)["state"]["result_state"] == "CANCELED"
    with pytest.raises(AirflowException, match="CANCELED"):
        task.finish(cancelled)

    lost = task.start()
    assert lost.run_id != cancelled.run_id
    await_step(lake, lost.run_id, "tune")
    lake.stop(signal.SIGKILL)
    back = threading.Timer(3.0, lake.start)
    back.start()
    with pytest.raises(AirflowException, match="the workspace was restarted while this ran"):
        task.finish(lost)  # rides over the outage
    back.join()

    task.finish(task.start())
    assert len(databricks_runs(lake)) == 3
    last = {one["task_key"]: one for one in lake.run(task.tries[-1].run_id)["tasks"]}["tune"]
    assert task.pushed[JOB_SECONDS].keys() == {*TrainingRunOperator.steps}
    assert task.pushed[JOB_SECONDS]["tune"] > (last["end_time"] - last["start_time"]) / 1000, "all three were paid for"
    assert_trained_once(tracking.url, task.pushed["run_key"])


def test_task_killed_before_it_waits_cancels_the_run(task, lake, monkeypatch):
    monkeypatch.setattr(DatabricksSubmitRunOperator, "execute", lambda self, context: None)
    task.start()
    operator = task.tries[0]
    operator.on_kill()
    assert lake.wait(operator.run_id)["state"]["result_state"] == "CANCELED"


def test_bad_data_fails_at_once_with_the_jobs_traceback_and_the_page_of_its_run(task, lake, data, capsys):
    data.write_text(data.read_text().replace("Department,", "Section,", 1))
    trigger = task.start()
    page = task.pushed["run_page_url"]
    assert page in capsys.readouterr().out, "the link is told before the wait"
    with pytest.raises(AirflowFailException, match="has 2 faults; nothing is trained or registered") as failed:
        task.finish(trigger)
    assert "Department: the column is missing" in str(failed.value)
    assert page in str(failed.value)
    assert "Traceback (most recent call last)" not in str(failed.value)
    assert 'training/training_job.py", line' in capsys.readouterr().out


def test_mlflow_down_at_the_start_fails_with_its_address_and_the_cleared_task_goes_on(task, lake, tracking):
    with pytest.raises(AirflowException, match=rf"{tracking.url}.*refused") as failed:
        task.finish(task.start())
    assert not isinstance(failed.value, AirflowFailException), "it is tried again"
    tracking.start()
    trigger = task.start()
    await_step(lake, trigger.run_id, "tune")  # prepare has made its run in MLflow
    asyncio.run(trigger.on_kill())
    assert len(databricks_runs(lake)) == 2


def test_workspace_down_at_the_start_fails_after_retries_and_the_cleared_task_starts_one_run(task, lake, monkeypatch):
    monkeypatch.setattr("lifecycle.operators.job_run._OUTAGE_TRIES", 2)
    lake.stop(signal.SIGTERM)
    began = time.monotonic()
    with pytest.raises(AirflowException, match=r"API requests to Databricks failed 2 times .*refused"):
        task.start()
    assert time.monotonic() - began >= 1, "it was tried again after a moment"
    lake.start()
    trigger = task.start()
    assert len(databricks_runs(lake)) == 1
    asyncio.run(trigger.on_kill())
    assert eventually(lambda: lake.run(trigger.run_id)["state"]["life_cycle_state"] == "TERMINATED")
