"""Airflow on PostgreSQL, for real: the demo passes, and training runs go side by side (``make test-postgres``)."""

import os
import subprocess
import sys
import time
from datetime import datetime

import mlflow
import psutil
import pytest

from embedded.airflow_client import Airflow
from embedded.environment import MARKER, ROOT, Stack
from tests.support import postgres
from tests.support.machine import free_port, own_ports

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(900)]
MODEL = "employee_attrition"
DONE = ("success", "failed")


@pytest.fixture(scope="module")
def database():
    with postgres.server(free_port()) as running:
        yield running


@pytest.fixture(scope="module")
def stack(database, tmp_path_factory):
    """A stack of the tests' own whose Airflow uses the server; stopped at the end, and nothing left behind."""
    home = tmp_path_factory.mktemp("home")
    own = own_ports() | {"LIFECYCLE_HOME": str(home), "LIFECYCLE_AIRFLOW_DATABASE": database.url}
    made = Stack.read(dict(os.environ) | own)
    try:
        yield made
    finally:
        embedded(made, "down")
    left = [process.pid for process in psutil.process_iter() if marker_of(process) == str(home)]
    assert not left, f"processes left behind: {left}"


def marker_of(process):
    try:
        return process.environ().get(MARKER)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return None


def embedded(stack, *arguments):
    """One call of the embedded stack's command line; its exit code and output."""
    return subprocess.run(
        [sys.executable, "-m", "embedded", *arguments],
        env={**stack.shell, "PYTHONPATH": str(ROOT)}, cwd=ROOT, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def demo(stack, real_data):
    """The demo, approved; the stack stays up."""
    began = time.monotonic()
    about = ("--use-case", "attrition", "--data", str(real_data))
    done = embedded(stack, "demo", *about, "--approve", "yes", "--keep", "yes")
    print(done.stdout[-3000:], done.stderr[-3000:], f"\ndemo on PostgreSQL: {time.monotonic() - began:.0f} s")
    return done


def test_demo_on_postgres_brings_version_1_to_production(demo):
    assert demo.returncode == 0


def test_demo_on_postgres_keeps_its_runs_there_and_makes_no_sqlite_file(demo, stack, database):
    assert int(database.value("SELECT count(*) FROM dag_run WHERE state = 'success'")) >= 2
    assert not list((stack.home / "airflow").glob("*.db"))


def test_two_training_runs_on_postgres_go_side_by_side_and_register_a_version_each(demo, stack, real_data):
    secrets = stack.credentials
    airflow = Airflow(stack.airflow_url, secrets.airflow_user, secrets.airflow_password)
    airflow.patch("/dags/attrition_release", {"is_paused": True})  # what they register shall not be released
    registry = mlflow.MlflowClient(stack.mlflow_url)
    before = {version.version for version in registry.search_model_versions(f"name = '{MODEL}'")}
    names = ("side-by-side-1", "side-by-side-2")
    for seed, name in enumerate(names):
        airflow.trigger("attrition_train", name, {"data": str(real_data), "trials": 2, "seed": seed, "force": True})
    runs = [await_end(airflow, name) for name in names]
    assert [run["state"] for run in runs] == ["success", "success"]
    first, second = ([datetime.fromisoformat(run[key]) for key in ("start_date", "end_date")] for run in runs)
    assert first[0] < second[1], "one after the other"
    assert second[0] < first[1], "one after the other"
    new = [
        version.tags["lifecycle_run_key"]
        for version in registry.search_model_versions(f"name = '{MODEL}'")
        if version.version not in before
    ]
    assert len(new) == len(set(new)) == 2


def await_end(airflow, run_id, seconds=400.0):
    """The run when it has ended; a task that failed is shown with its log."""
    deadline = time.monotonic() + seconds
    while (run := airflow.run("attrition_train", run_id))["state"] not in DONE:
        assert time.monotonic() < deadline, airflow.tasks("attrition_train", run_id)
        time.sleep(1)
    if run["state"] == "failed":
        for task in airflow.tasks("attrition_train", run_id):
            print(
                task["task_id"],
                task["state"],
                airflow.log("attrition_train", run_id, task["task_id"], task["try_number"]),
            )
    return run
