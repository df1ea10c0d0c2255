"""The nightly DAG in the embedded stack: from exported lines to a better challenger that waits at the gate."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import requests
from rich.console import Console

from embedded.airflow_client import Airflow, AirflowError
from embedded.demo.follow import Follower
from embedded.environment import Stack
from embedded.processes import leftovers
from lifecycle.task_ids import AWAIT_APPROVAL
from serving.scoring.bundle import Bundle
from tests.support.bundles import make_bundle
from tests.support.machine import eventually, own_ports
from tests.support.nightly import MODEL, export_answers, register_champion, write_outcomes
from tests.support.nights import fingerprint
from tests.support.simulate import Export
from training.data.dataset import holdout_rows, read_table
from training.drift.verdict import Verdict
from training.inference_log import layout
from training.registry import tags
from use_cases.attrition import USE_CASE as ATTRITION
from use_cases.attrition.sample import make_sample

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[3]
NIGHTLY, TRAIN, RELEASE = ATTRITION.retrain_dag, ATTRITION.train_dag, ATTRITION.release_dag
TICK = (datetime.now(UTC) - timedelta(hours=2)).date()
"""The day on which the DAG was last due, at 02:00."""
NIGHTS = [TICK - timedelta(days=number) for number in (3, 2, 1)]
EXPERIMENT = ATTRITION.experiment


@pytest.fixture
def stack(tmp_path):
    """A stack that is up, with a home and ports of its own, and three trials for a training."""
    configured = (
        (ROOT / "config" / "embedded.toml").read_text().replace("[every_use_case]\n", "[every_use_case]\ntrials = 3\n")
    )
    (tmp_path / "settings.toml").write_text(configured)
    own = {"LIFECYCLE_HOME": str(tmp_path / "home"), "LIFECYCLE_SETTINGS": str(tmp_path / "settings.toml")}
    made = Stack.read(dict(os.environ) | own_ports() | own)
    try:
        command(made, "up", "--detach")
        yield made
    finally:
        command(made, "down")
        assert leftovers(made.home) == []


def command(stack, *arguments):
    """Run ``python -m embedded`` on this stack."""
    done = subprocess.run(
        [sys.executable, "-m", "embedded", *arguments],
        cwd=ROOT, env=dict(stack.shell), capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def changed_world(rows, seed):
    """Other people, who earn twice as much and leave for another reason than those the champion knows."""
    people = make_sample(rows, seed)
    rng = np.random.default_rng(seed)
    far = people["DistanceFromHome"] > 12
    people["Attrition"] = np.where(rng.random(rows) < np.where(far, 0.7, 0.05), "Yes", "No")
    people["EmployeeNumber"] += 10_000
    people["MonthlyIncome"] *= 2
    return people


def make_champion(stack, folder):
    """Register a version that was trained on the stack's data, as the one in production; returns its bundle."""
    data = stack.data(ATTRITION.name)
    data.parent.mkdir(parents=True, exist_ok=True)
    make_sample(600, 1).to_csv(data, index=False)
    bundle = make_bundle(folder / "bundle", 1)
    mlflow.set_tracking_uri(stack.mlflow_url)
    register_champion(bundle, read_table(ATTRITION, str(data)), EXPERIMENT)
    mlflow.set_tracking_uri(None)
    return Bundle.load(bundle)


def export_nights(stack, champion):
    """The champion's answers, none of them judged: one night to people it knows, two to others; their outcomes."""
    before = NIGHTS[0] - timedelta(days=1)
    closed = layout.night_folder(stack.home / "tables" / ATTRITION.name, "nights", before) / layout.VERDICT
    layout.write_json(closed, msgspec.to_builtins(Verdict(before.isoformat(), "no records", "1")))
    export = Export(stack.home / "exports", half_written=0)
    asked = [make_sample(600, 1).head(300), changed_world(900, 50).head(600), changed_world(900, 50).tail(300)]
    for night, people in zip(NIGHTS, asked, strict=True):
        export_answers(export, champion, night, people)
    write_outcomes(stack.home / "outcomes" / ATTRITION.name, changed_world(900, 50), NIGHTS[-1])


def unpause(airflow, dag_id):
    def found():
        try:
            return airflow.patch(f"/dags/{dag_id}", {"is_paused": False})
        except AirflowError:
            return None

    assert eventually(found, 240), f"Airflow does not find {dag_id}"


def follow(airflow, follower, dag_id, run_id, **more):
    state = follower.wait(dag_id, run_id, **more)
    assert state != "failed", [failure.log_lines for failure in follower.failures(dag_id, run_id)]
    return state


def test_drift_and_outcomes_bring_a_better_challenger_to_the_gate(stack, tmp_path):
    airflow = Airflow(stack.airflow_url, stack.credentials.airflow_user, stack.credentials.airflow_password)
    export_nights(stack, make_champion(stack, tmp_path))
    for dag_id in (RELEASE, TRAIN, NIGHTLY):
        unpause(airflow, dag_id)
    # The scheduler's own run, the one that was due last: it closes the nights that were missed, too.
    assert eventually(lambda: airflow.runs(NIGHTLY), 60)
    (due,) = airflow.runs(NIGHTLY)
    nightly = due["dag_run_id"]
    follower = Follower(airflow, Console())
    assert follow(airflow, follower, NIGHTLY, nightly) == "success"

    tables = stack.home / "tables" / ATTRITION.name
    found = [pq.read_table(layout.day_folder(tables, "inference", night)).num_rows for night in NIGHTS]
    assert found == [300, 600, 300]
    verdicts = [layout.read_json(layout.night_folder(tables, "nights", night) / layout.VERDICT) for night in NIGHTS]
    assert [one["status"] for one in verdicts] == ["quiet", "drifted", "drifted"]
    assert "MonthlyIncome" in verdicts[-1]["confirmed"]
    note = airflow.run(NIGHTLY, nightly)["note"]
    assert note == verdicts[-1]["note"]
    assert "drift confirmed over 2 windows" in note
    assert "\n" not in note
    client = mlflow.MlflowClient(stack.mlflow_url)
    experiment = client.get_experiment_by_name(f"{EXPERIMENT}-monitoring")
    runs = {run.data.tags[tags.WINDOW]: run.info.run_id for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == [night.isoformat() for night in NIGHTS]
    for run_id in runs.values():
        assert {file.path for file in client.list_artifacts(run_id)} == {layout.REPORT, layout.VERDICT}

    training = "retrain__" + [one["night"] for one in verdicts if one["retrain"]][-1]
    newest = str(layout.night_folder(tables, "training", NIGHTS[-1]))
    # Every task once more: no second job, no other table, no second training.
    before = fingerprint(tables)
    again = {"dag_run_id": nightly, "only_failed": False, "dry_run": False}
    airflow.post(f"/dags/{NIGHTLY}/clearTaskInstances", again)
    assert follow(airflow, follower, NIGHTLY, nightly) == "success"
    assert {task["try_number"] for task in airflow.tasks(NIGHTLY, nightly)} == {2}
    assert airflow.task(NIGHTLY, nightly, "trigger_training")["state"] == "skipped"
    jobs = requests.get(
        f"{stack.minilake_url}/api/2.2/jobs/runs/list",
        headers={"Authorization": f"Bearer {stack.credentials.minilake_token}"},
        timeout=30,
    ).json()["runs"]
    assert [job["run_name"] for job in jobs if "retraining" in job["run_name"]] == [f"attrition retraining {nightly}"]
    assert fingerprint(tables) == before
    (started,) = airflow.runs(TRAIN)
    assert (started["dag_run_id"], started["conf"]["data"]) == (training, newest)

    assert follow(airflow, follower, TRAIN, training) == "success"
    challenger = client.get_model_version_by_alias(MODEL, tags.CHALLENGER)
    assert challenger.version == "2"
    evaluation = client.download_artifacts(challenger.run_id, tags.EVALUATION_FILE, str(tmp_path))
    judged = json.loads(Path(evaluation).read_text())
    assert judged["verdict"] == "passed"
    assert judged["comparison"]["champion_version"] == "1"
    table = read_table(ATTRITION, newest)
    held_out = table.take(holdout_rows(ATTRITION, table.groups))
    assert 100 < judged["comparison"]["rows"] == held_out.recent.sum() < len(held_out.y)
    assert judged["comparison"]["metrics"]["roc_auc"]["difference"]["low"] > 0

    assert eventually(lambda: airflow.runs(RELEASE), 60)
    (release,) = airflow.runs(RELEASE)
    assert follow(airflow, follower, RELEASE, release["dag_run_id"], question=AWAIT_APPROVAL) == "awaiting_input"
    assert airflow.result(RELEASE, release["dag_run_id"], "resolve_candidate")["version"] == "2"
    assert (
        f"- {NIGHTS[-1]}: {note} **Confirmed: "
        in airflow.question(RELEASE, release["dag_run_id"], AWAIT_APPROVAL)["body"]
    )
