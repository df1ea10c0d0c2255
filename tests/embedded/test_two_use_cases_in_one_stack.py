"""Two use cases in one embedded stack at the same time: both are released, one is retrained at night, one rolled back.

Attrition's exported answers and outcomes lead to a better challenger that waits at the gate. Progression lives in
tests alone; it is released twice and rolled back. Nothing of the one touches the other.
"""

import json
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import requests

from embedded.demo.scoring import ScoringError
from lifecycle.evidence import markdown
from lifecycle.task_ids import AWAIT_APPROVAL
from serving.scoring.bundle import Bundle
from tests.support.desk import TICK, Desk, aliases, read_release_page, unpause
from tests.support.every_use_case import OWN, found_in
from tests.support.machine import eventually
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

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

NIGHTS = [TICK - timedelta(days=number) for number in (3, 2, 1)]
ROWS = 600
"""Of attrition's first training; the nights' requests come from others."""
FIRST_PATIENTS, ALL_PATIENTS = 220, 442
"""Progression is trained on a part of its study first, and on all of it then: more to learn from, same hold-out."""


@pytest.fixture
def progression():
    with found_in(OWN):
        yield load("progression")


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
