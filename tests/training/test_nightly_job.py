"""The nightly job from exported lines to a verdict in MLflow, with a real champion."""

import json
import re
from datetime import date, timedelta

import mlflow
import numpy as np
import pandas as pd
import pytest

from serving.scoring.bundle import Bundle
from tests.support.bundles import make_bundle
from tests.support.nightly import MODEL, export_answers, register_champion, write_outcomes
from tests.support.nights import END, START
from tests.support.simulate import CONTAINER, Export
from training import nightly_job as run
from training.data.dataset import Employees, read_employees
from training.drift.judge import read_verdicts
from training.inference_log import landing, layout
from training.inference_log.azure_export import FolderSource
from use_cases.attrition.sample import make_employees

FIRST = date(2026, 11, 2)
NIGHTS = [FIRST + timedelta(days=number) for number in range(3)]
EXPERIMENT = "/attrition"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """An MLflow store on SQLite with one registered version as champion; returns (client, bundle)."""
    home = tmp_path_factory.mktemp("mlflow")
    address = f"sqlite:///{home}/store.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)  # without a server, artifacts go below the working directory
        mlflow.set_tracking_uri(address)
        mlflow.set_registry_uri(address)
        data = home / "employees.csv"
        make_employees(600, 1).to_csv(data, index=False)
        bundle = make_bundle(home / "bundle", 1)
        known = read_employees(str(data))
        # As after a retraining: some employees are there twice, with their record of the original set and a later one.
        twice = pd.concat([known.frame, known.frame.head(5)], ignore_index=True)
        trained_on = Employees(twice, known.digest, np.arange(len(twice)) >= len(known.frame))
        yield register_champion(bundle, trained_on, EXPERIMENT), bundle, data
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@pytest.fixture(scope="module")
def closed(store, tmp_path_factory):
    """Three nights of the champion's answers, the last two of them with incomes raised: (tables, client)."""
    client, bundle, data = store
    home = tmp_path_factory.mktemp("nightly")
    export = Export(home / "export", half_written=0)
    scorer = Bundle.load(bundle)
    for number, night in enumerate(NIGHTS):
        people = make_employees(300, 50)
        if number:
            people["MonthlyIncome"] *= 2
        export_answers(export, scorer, night, people)
        landing.land(FolderSource(export.root / CONTAINER), home / "tables", night, START, END)
    feed = home / "outcomes"
    write_outcomes(feed, make_employees(300, 50), "2026-11-05")
    config = {
        "nights": [night.isoformat() for night in NIGHTS], "tables": str(home / "tables"), "outcomes": str(feed),
        "original": str(data), "model_name": MODEL, "experiment": EXPERIMENT,
    }  # fmt: skip
    for task in ("curate", "label", "judge"):
        run.main([task, "--run-key", "k", "--config", json.dumps(config)])
    return home / "tables", client, config


def test_drift_is_suspected_in_its_first_night_and_confirmed_in_the_second(closed):
    tables, _, _ = closed
    quiet, first, second = read_verdicts(tables, before=END)
    assert (quiet.status, quiet.champion, quiet.used) == ("quiet", "1", 300)
    assert "MonthlyIncome" in first.drifted
    assert first.confirmed == ()
    assert "MonthlyIncome" in second.confirmed
    assert second.retrain
    assert read_employees(second.data).frame.shape[0] == 600 + second.labels


def test_live_quality_is_measured_on_the_outcomes_that_have_arrived(closed):
    tables, _, _ = closed
    last = read_verdicts(tables, before=END)[-1]
    assert last.quality.labels == last.labels == 300
    assert 0.65 < last.quality.roc_auc.value < 0.95
    assert not last.quality.lost


def test_mlflow_holds_one_run_a_night_with_verdict_report_and_note(closed):
    _, client, _ = closed
    experiment = client.get_experiment_by_name(f"{EXPERIMENT}-monitoring")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
    assert [one.data.tags["lifecycle_window"] for one in runs] == [night.isoformat() for night in reversed(NIGHTS)]
    assert "drift confirmed over 2 windows" in runs[0].data.tags["lifecycle_note"]
    assert {entry.path for entry in client.list_artifacts(runs[0].info.run_id)} == {layout.VERDICT, layout.REPORT}
    assert runs[0].data.metrics["drifted_fields"] >= 1


def test_report_is_one_page_that_loads_nothing(closed):
    tables, _, _ = closed
    page = (layout.night_folder(tables, "nights", NIGHTS[-1]) / layout.REPORT).read_text()
    assert "<h1>Night 2026-11-04: <span class=bad>drifted</span></h1>" in page
    assert page.count("<svg") > 25
    assert re.findall(r"(?:src|href|url\(|@import)", page) == []
    assert "<script" not in page


def test_judging_again_replaces_the_nights_own_run_and_nothing_else(closed):
    tables, client, config = closed
    folder = layout.night_folder(tables, "nights", NIGHTS[-1])
    before = {name: (folder / name).read_bytes() for name in (layout.VERDICT, layout.REPORT)}
    run.main(["judge", "--run-key", "k", "--config", json.dumps(config)])
    assert {name: (folder / name).read_bytes() for name in before} == before
    experiment = client.get_experiment_by_name(f"{EXPERIMENT}-monitoring")
    assert len(client.search_runs([experiment.experiment_id])) == len(NIGHTS)


class Killed(BaseException):
    """Stands for the end of the process: nothing may handle it."""


def die(*arguments, **more):
    raise Killed


def test_judging_killed_at_every_step_and_run_again_ends_with_the_same_files_and_one_run(closed, monkeypatch):
    tables, client, config = closed
    folder = layout.night_folder(tables, "nights", NIGHTS[-1])
    before = {name: (folder / name).read_bytes() for name in (layout.VERDICT, layout.REPORT)}
    last = ["judge", "--run-key", "k", "--config", json.dumps({**config, "nights": [NIGHTS[-1].isoformat()]})]
    store = mlflow.MlflowClient
    for place, step in (
        (layout, "write_text"), (layout, "write_json"), (store, "log_batch"), (store, "log_artifact"),
        (store, "set_terminated"),
    ):  # fmt: skip
        for name in before:
            (folder / name).unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            patch.setattr(place, step, die)
            with pytest.raises(Killed):
                run.main(last)
    run.main(last)
    assert {name: (folder / name).read_bytes() for name in before} == before
    experiment = client.get_experiment_by_name(f"{EXPERIMENT}-monitoring")
    assert len(client.search_runs([experiment.experiment_id])) == len(NIGHTS)


def test_wrong_configuration_is_refused_by_field(capsys):
    with pytest.raises(SystemExit):
        run.main(["curate", "--run-key", "k", "--config", '{"nights": 3}'])
    assert "$.nights" in capsys.readouterr().err
