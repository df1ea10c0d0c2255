"""Two use cases in one embedded stack at the same time: both are released, one is retrained at night, one rolled back.

Attrition's exported answers and outcomes lead to a better challenger that waits at the gate. Progression lives in
tests alone; it is released twice and rolled back. Nothing of the one touches the other.

Then forecasts, in the same stack: a second version runs beside the first one, takes over, and is rolled back.
"""

import io
import json
import os
import re
import secrets
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

from embedded.addresses import Addresses
from embedded.airflow_client import Airflow, AirflowError
from embedded.demo.follow import Follower
from embedded.demo.runs import Runs
from embedded.demo.scoring import Scoring, ScoringError
from embedded.environment import TARGETS, Stack
from embedded.processes import leftovers
from lifecycle.evidence import markdown
from lifecycle.task_ids import AWAIT_APPROVAL
from serving.scoring.bundle import Bundle
from tests.support.every_use_case import OWN, found_in
from tests.support.machine import eventually, own_ports
from tests.support.nightly import export_answers, write_outcomes
from tests.support.nights import fingerprint
from tests.support.simulate import Export
from training.data.dataset import holdout_rows, read_table
from training.drift.verdict import Verdict
from training.inference_log import layout
from training.registry import tags
from training.registry.versions import fetch_bundle
from training.use_case import load
from use_cases.attrition import USE_CASE as ATTRITION
from use_cases.attrition.sample import make_sample
from use_cases.demand import USE_CASE as DEMAND
from use_cases.demand.sample import make_shops

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
TICK = (datetime.now(UTC) - timedelta(hours=2)).date()
"""The day on which the nightly DAG was last due, at 02:00."""
NIGHTS = [TICK - timedelta(days=number) for number in (3, 2, 1)]
ROWS = 600
"""Of attrition's first training; the nights' requests come from others."""
FIRST_PATIENTS, ALL_PATIENTS = 220, 442
"""Progression is trained on a part of its study first, and on all of it then: more to learn from, same hold-out."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A stack that is up, with a home and ports of its own, a second use case, and three trials for a training."""
    tmp_path = tmp_path_factory.mktemp("stack")
    configured = (
        (ROOT / "config" / "embedded.toml").read_text().replace("[every_use_case]\n", "[every_use_case]\ntrials = 3\n")
    )
    (tmp_path / "settings.toml").write_text(configured)
    own = {
        "LIFECYCLE_HOME": str(tmp_path / "home"),
        "LIFECYCLE_SETTINGS": str(tmp_path / "settings.toml"),
        "USE_CASES": str(OWN),
    }
    made = Stack.read(dict(os.environ) | own_ports() | own)
    try:
        command(made, "up", "--detach")
        yield made
    finally:
        command(made, "down")
        assert leftovers(made.home) == []


@pytest.fixture
def airflow(stack):
    return Airflow(stack.airflow_url, stack.credentials.airflow_user, stack.credentials.airflow_password)


@pytest.fixture
def client(stack):
    """MLflow's client."""
    mlflow.set_tracking_uri(stack.mlflow_url)
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(None)


@pytest.fixture
def progression():
    with found_in(OWN):
        yield load("progression")


def command(stack, *arguments):
    """Run ``python -m embedded`` on this stack."""
    done = subprocess.run(
        [sys.executable, "-m", "embedded", *arguments],
        cwd=ROOT, env=dict(stack.shell), capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


class Desk:
    """One use case of a stack, as its owner works with it: by Airflow's API and the servers' addresses."""

    def __init__(self, stack, airflow, use_case):
        self.stack, self.airflow, self.use_case = stack, airflow, use_case
        self.runs = Runs(airflow, use_case, stack.home / "run")
        for dag_id in (use_case.train_dag, use_case.release_dag):
            unpause(airflow, dag_id)

    def train(self, rows, **params):
        """Start a training run on these rows; returns it."""
        data = self.stack.data(self.use_case.name)
        data.parent.mkdir(parents=True, exist_ok=True)
        rows.to_csv(data, index=False)
        return self.runs.train(data, **params)

    def release(self, train_run):
        """Take what a training run registers to production, with a yes at the gate; returns the version."""
        run_id = self.offer(train_run)
        self.airflow.answer(self.use_case.release_dag, run_id, AWAIT_APPROVAL, "Approve", "looked at")
        assert self.follow(self.use_case.release_dag, run_id) == "success"
        return self.runs.version(train_run)

    def offer(self, train_run):
        """Wait until what a training run registers is offered at the gate; returns the release."""
        assert self.follow(self.use_case.train_dag, train_run) == "success"
        announced = self.airflow.task(self.use_case.train_dag, train_run, "announce_model_version")
        assert announced["state"] == "success", self.airflow.run(self.use_case.train_dag, train_run)["note"]
        run_id = self.runs.await_release(train_run)
        assert self.follow(self.use_case.release_dag, run_id, question=AWAIT_APPROVAL) == "awaiting_input"
        return run_id

    def roll_back(self, reason):
        self.airflow.trigger(self.use_case.rollback_dag, "back", {"reason": reason})
        assert self.follow(self.use_case.rollback_dag, "back") == "success"

    def score(self, table, day):
        """Score a table in batch with the champion; returns what the run announced, and its asset event's extra."""
        dag_id = self.use_case.score_dag
        unpause(self.airflow, dag_id)
        self.airflow.trigger(dag_id, "batch", {"input": str(table), "date": day.isoformat()})
        assert self.follow(dag_id, "batch") == "success"
        (event,) = self.airflow.listed("/assets/events", "asset_events", source_dag_id=dag_id)
        return self.airflow.result(dag_id, "batch", "announce_scores"), event["extra"]

    def forecast(self, day):
        """Write the forecasts of a date; returns the run's note."""
        dag_id, run_id = self.use_case.score_dag, f"forecast_{secrets.token_hex(4)}"
        self.airflow.trigger(dag_id, run_id, {"date": day.isoformat()})
        assert self.follow(dag_id, run_id) == "success"
        return self.airflow.run(dag_id, run_id)["note"]

    def follow(self, dag_id, run_id, **more):
        follower = Follower(self.airflow, Console(file=io.StringIO()))
        state = follower.wait(dag_id, run_id, **more)
        assert state != "failed", [failure.log_lines for failure in follower.failures(dag_id, run_id)]
        return state

    def server(self, target):
        url = Addresses(self.stack).url(self.use_case.name, target)
        return Scoring(url, self.stack.credentials.api_keys[target])

    def answers(self):
        """By target, name and version of the model that answers the use case's own sample."""
        servers = {target: self.server(target) for target in TARGETS}
        said = {target: server.predict(server.sample())["model"] for target, server in servers.items()}
        return {target: (model["name"], model["version"]) for target, model in said.items()}


def unpause(airflow, dag_id):
    def found():
        try:
            return airflow.patch(f"/dags/{dag_id}", {"is_paused": False})
        except AirflowError:
            return None

    assert eventually(found, 240), f"Airflow does not find {dag_id}"


def changed_world(rows, seed):
    """Other people, who earn twice as much and leave for another reason than those the champion knows."""
    people = make_sample(rows, seed)
    rng = np.random.default_rng(seed)
    far = people["DistanceFromHome"] > 12
    people["Attrition"] = np.where(rng.random(rows) < np.where(far, 0.7, 0.05), "Yes", "No")
    people["EmployeeNumber"] += 10_000
    people["MonthlyIncome"] *= 2
    return people


def assert_batch_scores_as_the_server_does(desk, folder):
    """A table with one bad row in, a partition of scores and one of rejected rows out."""
    people = make_sample(ROWS, 3).head(40).drop(columns=[ATTRITION.label.field])
    people.loc[7, "Age"] = 1_000
    people.to_parquet(folder / "people.parquet", index=False)
    announced, extra = desk.score(folder / "people.parquet", TICK)
    assert announced == extra
    assert extra == {"day": TICK.isoformat(), "version": "1", "rows": 40, "rejected": 1}
    tables = desk.stack.home / "tables" / ATTRITION.name
    scores = pq.read_table(layout.day_folder(tables, "scores", TICK))
    rejected = pq.read_table(layout.day_folder(tables, "rejected_rows", TICK))
    assert (scores.num_rows, rejected.num_rows) == (39, 1)
    assert rejected["reasons"][0].as_py().startswith("Age: ")
    online = desk.server("production").predict(json.loads(people.drop(index=7).to_json(orient="records")))
    np.testing.assert_allclose(scores["prediction"], online["classifier__predictions"], rtol=0, atol=1e-6)


def export_nights(stack, champion):
    """The champion's answers, none of them judged: one night to people it knows, two to others; their outcomes."""
    before = NIGHTS[0] - timedelta(days=1)
    closed = layout.night_folder(stack.home / "tables" / ATTRITION.name, "nights", before) / layout.VERDICT
    layout.write_json(closed, msgspec.to_builtins(Verdict(before.isoformat(), "no records", "1")))
    export = Export(stack.home / "exports", half_written=0)
    asked = [make_sample(ROWS, 1).head(300), changed_world(900, 50).head(600), changed_world(900, 50).tail(300)]
    for night, people in zip(NIGHTS, asked, strict=True):
        export_answers(export, champion, night, people)
    write_outcomes(stack.home / "outcomes" / ATTRITION.name, changed_world(900, 50), NIGHTS[-1])


def close_nights(desk, client):
    """Close the nights that are due, twice; returns the training run that this starts, its table and the note."""
    airflow, tables = desk.airflow, desk.stack.home / "tables" / ATTRITION.name
    nightly_dag, train_dag = ATTRITION.retrain_dag, ATTRITION.train_dag
    unpause(airflow, nightly_dag)
    # The scheduler's own run, the one that was due last: it closes the nights that were missed, too.
    assert eventually(lambda: airflow.runs(nightly_dag), 60)
    (due,) = airflow.runs(nightly_dag)
    nightly = due["dag_run_id"]
    assert desk.follow(nightly_dag, nightly) == "success"

    found = [pq.read_table(layout.day_folder(tables, "inference", night)).num_rows for night in NIGHTS]
    assert found == [300, 600, 300]
    verdicts = [layout.read_json(layout.night_folder(tables, "nights", night) / layout.VERDICT) for night in NIGHTS]
    assert [one["status"] for one in verdicts] == ["quiet", "drifted", "drifted"]
    assert "MonthlyIncome" in verdicts[-1]["confirmed"]
    note = verdicts[-1]["note"]
    assert "drift confirmed over 2 windows" in note
    assert airflow.run(nightly_dag, nightly)["note"].splitlines() == [one["note"] for one in reversed(verdicts)]
    experiment = client.get_experiment_by_name(f"{ATTRITION.experiment}-monitoring")
    runs = {run.data.tags[tags.WINDOW]: run.info.run_id for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == [night.isoformat() for night in NIGHTS]
    for run_id in runs.values():
        assert {file.path for file in client.list_artifacts(run_id)} == {layout.REPORT, layout.VERDICT}

    training = "retrain__" + [one["night"] for one in verdicts if one["retrain"]][-1]
    newest = str(layout.night_folder(tables, "training", NIGHTS[-1]))
    # Every task once more: no second job, no other table, no second training.
    before = fingerprint(tables)
    again = {"dag_run_id": nightly, "only_failed": False, "dry_run": False}
    airflow.post(f"/dags/{nightly_dag}/clearTaskInstances", again)
    assert desk.follow(nightly_dag, nightly) == "success"
    assert {task["try_number"] for task in airflow.tasks(nightly_dag, nightly)} == {2}
    assert airflow.task(nightly_dag, nightly, "trigger_training")["state"] == "skipped"
    assert fingerprint(tables) == before
    assert [name for name in job_names(desk.stack) if "retraining" in name] == [f"attrition retraining {nightly}"]
    started, _ = airflow.runs(train_dag)
    assert (started["dag_run_id"], started["conf"]["data"]) == (training, newest)
    return training, newest, note


def job_names(stack):
    jobs = requests.get(
        f"{stack.minilake_url}/api/2.2/jobs/runs/list",
        headers={"Authorization": f"Bearer {stack.credentials.minilake_token}"},
        timeout=30,
    )
    return [job["run_name"] for job in jobs.json()["runs"]]


def assert_challenger_is_better(client, newest, folder):
    """Version 2 beats the champion on the newest records whose outcomes came with the feed."""
    challenger = client.get_model_version_by_alias(ATTRITION.model_name, tags.CHALLENGER)
    evaluation = client.download_artifacts(challenger.run_id, tags.EVALUATION_FILE, str(folder))
    judged = json.loads(Path(evaluation).read_text())
    assert (challenger.version, judged["verdict"], judged["comparison"]["champion_version"]) == ("2", "passed", "1")
    table = read_table(ATTRITION, newest)
    held_out = table.take(holdout_rows(ATTRITION, table.groups))
    assert 100 < judged["comparison"]["rows"] == held_out.recent.sum() < len(held_out.y)
    assert judged["comparison"]["metrics"]["roc_auc"]["difference"]["low"] > 0


def read_release_page(stack):
    """The text of the page Releases, by use case."""
    user = {"username": stack.credentials.airflow_user, "password": stack.credentials.airflow_password}
    token = requests.post(f"{stack.airflow_url}/auth/token", json=user, timeout=60).json()["access_token"]
    page = requests.get(
        f"{stack.airflow_url}/lifecycle/releases", headers={"Authorization": f"Bearer {token}"}, timeout=60
    )
    assert page.status_code == 200, page.text
    _, *parts = re.split(r'<article class="use-case" id="(\w+)"', page.text)
    texts = [" ".join(re.sub("<[^>]+>", " ", part).split()) for part in parts[1::2]]
    return dict(zip(parts[::2], texts, strict=True))


def aliases(client, use_case):
    return {alias: str(version) for alias, version in client.get_registered_model(use_case.model_name).aliases.items()}


def test_one_is_retrained_at_night_while_the_other_is_rolled_back(stack, airflow, client, progression, tmp_path):
    attrition, patients = Desk(stack, airflow, ATTRITION), Desk(stack, airflow, progression)
    study = progression.part("sample").make_sample(ALL_PATIENTS, 1)
    first = attrition.train(make_sample(ROWS, 1)), patients.train(study.head(FIRST_PATIENTS))
    assert (attrition.release(first[0]), patients.release(first[1])) == ("1", "1")
    assert_batch_scores_as_the_server_does(attrition, tmp_path)

    second = patients.train(study)
    champion = client.get_model_version_by_alias(ATTRITION.model_name, tags.CHAMPION)
    export_nights(stack, Bundle.load(fetch_bundle(champion.name, champion.version, tmp_path / "champion")))
    training, newest, note = close_nights(attrition, client)
    assert patients.release(second) == "2"
    assert patients.answers()["production"] == (progression.model_name, "2")
    patients.roll_back("the second one is worse")
    release = attrition.offer(training)

    assert_challenger_is_better(client, newest, tmp_path)
    assert airflow.result(ATTRITION.release_dag, release, "resolve_candidate")["version"] == "2"
    question = airflow.question(ATTRITION.release_dag, release, AWAIT_APPROVAL)
    told = markdown.text(note.removeprefix(f"{NIGHTS[-1]}: "))
    assert f"Drift in the night of {NIGHTS[-1]}: {told}. **Confirmed: " in question["body"]

    assert attrition.answers() == {"staging": (ATTRITION.model_name, "2"), "production": (ATTRITION.model_name, "1")}
    assert patients.answers() == {
        "staging": (progression.model_name, "2"), "production": (progression.model_name, "1"),
    }  # fmt: skip
    for one, other in ((attrition, patients), (patients, attrition)):
        with pytest.raises(ScoringError, match="answered 422"):
            one.server("production").predict(other.server("production").sample())
    assert aliases(client, ATTRITION) == {tags.CHALLENGER: "2", tags.STAGING: "2", tags.CHAMPION: "1"}
    assert aliases(client, progression) == {tags.STAGING: "2", tags.CHAMPION: "1", tags.PREVIOUS_CHAMPION: "2"}
    assert [folder.name for folder in (stack.home / "tables").iterdir()] == [ATTRITION.name]
    assert client.get_experiment_by_name(f"{progression.experiment}-monitoring") is None

    shown = read_release_page(stack)
    of_attrition, of_progression = shown[ATTRITION.name], shown[progression.name]
    for text in (of_attrition, of_progression):
        assert "Staging Version 2 Digest" in text
        assert "Production Version 1 Digest" in text
    assert "Version 2 beside champion version 1" in of_attrition
    assert "waits for approval" in of_attrition
    assert note in of_attrition
    assert "rolled back" in of_progression
    assert "the second one is worse" in of_progression
    assert "No night has been judged yet" in of_progression
    assert "progression" not in of_attrition.lower()
    assert "attrition" not in of_progression.lower()


def partition(stack, table):
    """The bytes of a table's partition of the day, and the versions that have made its rows."""
    (file,) = layout.day_folder(stack.home / "tables" / DEMAND.name, table, TICK).glob("*.parquet")
    return file.read_bytes(), set(pq.read_table(file, partitioning=None)["model_version"].to_pylist())


def test_forecasts_of_a_second_version_take_over_once_they_were_compared_and_are_rolled_back(stack, airflow, client):
    desk, shops = Desk(stack, airflow, DEMAND), make_shops(3, 6, 156, 3)
    unpause(airflow, DEMAND.score_dag)
    stack.plan(DEMAND.name).parent.mkdir(parents=True, exist_ok=True)
    shops.plan.to_csv(stack.plan(DEMAND.name), index=False)
    weeks = shops.history[DEMAND.forecast.time]
    # What a verdict says of so few shops is not the point here.
    first = desk.train(shops.history[weeks < weeks.max()], force=True)
    assert desk.release(first) == "1"
    assert aliases(client, DEMAND) == {tags.CHAMPION: "1"}
    desk.forecast(TICK)
    assert partition(stack, "scores")[1] == {"1"}

    assert desk.release(desk.train(shops.history, force=True)) == "2"
    assert aliases(client, DEMAND) == {tags.CHAMPION: "1", tags.BESIDE: "2"}
    assert "Beside production Version 2" in read_release_page(stack)[DEMAND.name]
    note = desk.forecast(TICK)
    assert "beside version 1 the total changes by " in note
    assert "of the forecasts lie within its intervals: it takes over" in note
    assert aliases(client, DEMAND) == {tags.CHAMPION: "2", tags.PREVIOUS_CHAMPION: "1"}
    former, _ = partition(stack, "former")
    assert [partition(stack, table)[1] for table in ("scores", "beside", "sums", "former")] == [{"2"}] * 3 + [{"1"}]

    desk.roll_back("orders doubled")
    assert aliases(client, DEMAND) == {tags.CHAMPION: "1", tags.PREVIOUS_CHAMPION: "2"}
    assert partition(stack, "scores") == (former, {"1"})
    assert partition(stack, "sums")[1] == {"1"}
    shown = read_release_page(stack)[DEMAND.name]
    for part in ("Production Version 1", "rolled back", "orders doubled", "No week has been judged yet"):
        assert part in shown, part
    assert "Beside production" not in shown
    assert "Staging" not in shown
