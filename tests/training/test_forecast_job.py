"""Forecasts end to end on a real MLflow store: training, the weekly run, taking over, going back, judging."""

import json
import os
import re
import shutil
from datetime import date, timedelta

import mlflow
import msgspec
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from lifecycle.evidence import headline
from tests.support import unpickled
from tests.support.evaluated import evaluated_once
from training import forecast_job, training_job
from training.data.data_error import DataError
from training.forecasting import evaluate as evaluation_of
from training.forecasting import forecaster
from training.forecasting import judge as judging
from training.forecasting import score as scoring
from training.forecasting import tune as tuning
from training.forecasting.cycle import read_cycle
from training.forecasting.door import read_history, read_plan
from training.forecasting.figures import TITLES, measure, paired
from training.forecasting.forecaster import Forecaster
from training.forecasting.limits import ForecastLimits
from training.forecasting.metrics import errors
from training.inference_log import layout
from training.registry import tags
from training.registry.content import content_digest
from training.registry.tracking import TRIAL, Tracker
from training.registry.versions import fetch_bundle
from training.use_case import load
from use_cases.demand.fields import SERIES
from use_cases.demand.sample import make_shops

MODEL = "weekly_demand"
DAY = date(2026, 11, 23)
TRIALS = 2
SMALL = {"iterations": (15, 30), "leaves": (6, 12), "rows_in_leaf": (10, 40)}
FAST = {**tuning._REAL, "learning_rate": (0.2, 0.3)}
"""Models that are fitted in a moment, and well enough: what is tested is the way that they go."""


@pytest.fixture(scope="session")
def use_case():
    return load("demand")


@pytest.fixture(scope="session")
def shops(tmp_path_factory):
    """Sales of more than two years and the plan, as files."""
    folder = tmp_path_factory.mktemp("shops")
    made = make_shops(2, 4, 120, 3)
    made.history.to_csv(folder / "history.csv", index=False)
    made.plan.to_csv(folder / "plan.csv", index=False)
    return folder


def train(task, shops, key="first", **changes):
    given = {
        "use_case": "demand", "data": str(shops / "history.csv"), "plan": str(shops / "plan.csv"),
        "model_name": MODEL, "experiment": "/Shared/demand", "trials": TRIALS, "seed": 5, "force": True,
        "code_hash": "c0de", "git_revision": "0ff1ce",
    }  # fmt: skip
    training_job.main([task, "--run-key", key, "--config", json.dumps(given | changes)])


@pytest.fixture(scope="module")
def trained(store, shops, tmp_path_factory):
    """One job whose tasks are all run twice, and whose search stops half-way; returns its run."""
    train("prepare", shops)
    train("prepare", shops)
    recorded = Tracker.record

    def killed(self, run, number, *given):
        if number == 1:
            self._new_nested(run, number, "trial 01")  # made, but not filled
            raise KeyboardInterrupt
        recorded(self, run, number, *given)

    all_origins, all_targets = forecaster.calibration_origins, forecaster.training_targets
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecaster, "calibration_origins", lambda panel, count: all_origins(panel, min(count, 2)))
        patch.setattr(forecaster, "training_targets", lambda panel, **of: all_targets(panel, **of | {"per_week": 1}))
        patch.setattr(evaluation_of, "evaluate", evaluated_once(evaluation_of, tmp_path_factory.mktemp("evaluated")))
        patch.setattr(tuning, "_WHOLE", SMALL)
        patch.setattr(tuning, "_REAL", FAST)
        with patch.context() as dying:
            dying.setattr(Tracker, "record", killed)
            with pytest.raises(KeyboardInterrupt):
                train("tune", shops)
        for task in ("tune", "tune", "evaluate", "evaluate", "register", "register"):
            train(task, shops)
    experiment = store.get_experiment_by_name("/Shared/demand")
    (run,) = store.search_runs([experiment.experiment_id], f"tags.`{tags.RUN_KEY}` = 'first'")
    return run


@pytest.fixture(scope="module")
def evaluation(trained):
    return json.loads(mlflow.artifacts.load_text(f"runs:/{trained.info.run_id}/{tags.EVALUATION_FILE}"))


@pytest.fixture(scope="module")
def version(trained, store):
    return store.get_model_version_by_alias(MODEL, tags.CHALLENGER)


@pytest.fixture(scope="module")
def bundle(version, tmp_path_factory):
    return fetch_bundle(MODEL, version.version, tmp_path_factory.mktemp("fetched") / "bundle")


def test_job_that_is_repeated_and_interrupted_makes_one_version_and_each_trial_once(trained, store):
    nested = store.search_runs([trained.info.experiment_id], f"tags.`mlflow.parentRunId` = '{trained.info.run_id}'")
    assert sorted(int(one.data.tags[TRIAL]) for one in nested) == list(range(TRIALS))
    assert (
        len([one for one in store.search_model_versions(f"name = '{MODEL}'") if one.run_id == trained.info.run_id]) == 1
    )


def test_run_holds_history_plan_figures_plots_and_card(trained, store):
    names = {file.path for file in store.list_artifacts(trained.info.run_id)}
    assert {"bundle", "data", "environment.txt", "evaluation.json", "model_card.md", "plots", "tuning.json"} <= names
    assert {file.path for file in store.list_artifacts(trained.info.run_id, "plots")} == {
        "plots/horizons.png", "plots/largest.png",
    }  # fmt: skip
    card = mlflow.artifacts.load_text(f"runs:/{trained.info.run_id}/{tags.MODEL_CARD_FILE}")
    assert "| WAPE |" in card
    assert re.search(r"[\w,.]\n\w", card) is None, "MLflow would break the line there"
    assert "Forecast value added" in card


def test_evaluation_compares_with_seasonal_naive_over_thirteen_weeks(evaluation):
    assert evaluation["plain"]["title"] == "Seasonal naive"
    assert evaluation["champion"] is None
    assert set(evaluation["challenger"]) == set(TITLES)
    kept = json.loads(json.dumps(evaluation, sort_keys=True))  # as the evidence of a release keeps it
    assert list(headline.titles(kept)) == list(TITLES), "the page's sentence is about the figure that the gate's is"
    for figure in evaluation["challenger"].values():
        assert figure["low"] <= figure["value"] <= figure["high"]
    by_horizon = evaluation["tables"][0]
    assert [row[0] for row in by_horizon["rows"]] == [str(week) for week in range(1, 14)]
    assert evaluation["facts"][1].startswith("Series add up; WAPE of the sums: total ")
    told = [table["gate"] for table in evaluation["tables"]]
    assert told[0].startswith(f"WAPE by weeks ahead: 1 {by_horizon['rows'][0][1]}, 7 ")
    assert told[1].startswith("WAPE of the largest: ")
    compared = evaluation["plain"]["comparison"]["wape"]["difference"]["value"]
    ours, naive = evaluation["challenger"]["wape"]["value"], evaluation["plain"]["metrics"]["wape"]["value"]
    assert compared == pytest.approx(ours - naive, abs=1e-4)


def test_registered_model_forecasts_as_the_bundle_does_and_names_its_digest(version, bundle, shops, use_case):
    loaded = mlflow.pyfunc.load_model(f"models:/{MODEL}/{version.version}")
    assert loaded.metadata.metadata["bundle_digest"] == content_digest(bundle)
    assert "model_code_path" in loaded.metadata.flavors["python_function"]
    assert unpickled.in_files(bundle) == []
    history = read_history(use_case, str(shops / "history.csv"), "").frame
    plan = read_plan(use_case, str(shops / "plan.csv"), "")
    ahead = plan[plan[SERIES.time] > history[SERIES.time].max()]
    past = plan[plan[SERIES.time] <= history[SERIES.time].max()]
    answered = loaded.predict(pd.concat([history, ahead], ignore_index=True))
    expected = Forecaster.load(bundle).forecast(history, ahead)
    assert len(past)
    pd.testing.assert_frame_equal(answered.reset_index(drop=True), expected, check_dtype=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (lambda frame: frame.drop(columns="price"), "price: the column is missing"),
        (lambda frame: frame.assign(extra=1), "extra: the column is not expected"),
        (lambda frame: frame.assign(units=frame["units"].astype(object).where(frame.index != 3, "many")),
         r"units: 1 row: not a number \(line 5\): 'many'"),
        (lambda frame: frame.assign(units=frame["units"].where(frame.index != 3, -1)),
         r"units: 1 row: .*\(line 5\)"),
        (lambda frame: frame.assign(week=frame["week"].astype(str).where(frame.index != 4, "2026-11-17")),
         r"week: 1 row: not a Monday, by which the other rows name their week \(line 6\)"),
        (lambda frame: pd.concat([frame, frame.iloc[[7]]]), "the same store, item and week as a row before"),
        (lambda frame: frame.assign(store=frame["store"].where(frame.index != 0)), "store: 1 row: the value is"),
    ],
)  # fmt: skip
def test_bad_history_is_told_by_column_and_line_and_leaves_no_run(changes, message, store, shops, tmp_path):
    changes(pd.read_csv(shops / "history.csv")).to_csv(tmp_path / "history.csv", index=False)
    shutil.copy(shops / "plan.csv", tmp_path / "plan.csv")
    with pytest.raises(DataError, match=message):
        train("prepare", tmp_path, key="bad")
    experiment = store.get_experiment_by_name("/Shared/demand")
    assert experiment is None or not store.search_runs([experiment.experiment_id], f"tags.`{tags.RUN_KEY}` = 'bad'")


def test_history_is_the_same_whatever_its_file_and_the_spelling_of_its_header(shops, use_case, tmp_path):
    frame = pd.read_csv(shops / "history.csv")
    frame.sample(frac=1.0, random_state=1).rename(columns={"out_of_stock": "Out of stock", "week": "WEEK"}).to_parquet(
        tmp_path / "history.parquet", index=False
    )
    assert (
        read_history(use_case, str(tmp_path / "history.parquet"), "").digest
        == read_history(use_case, str(shops / "history.csv"), "").digest
    )


# --- the weekly run ---


def order(shops, bundle, **changes):
    given = {
        "source": str(shops / "history.csv"), "plan": str(shops / "plan.csv"), "day": DAY, "version": "1",
        "bundle_digest": content_digest(bundle), **changes,
    }  # fmt: skip
    return scoring.Order(**given)


def run(use_case, shops, bundle, tables, **changes):
    return scoring.run(use_case, bundle, order(shops, bundle, **changes), tables, ForecastLimits())


def partition(tables, table):
    (file,) = layout.day_folder(tables, table, DAY).glob("*.parquet")
    return file


def test_every_series_has_thirteen_weeks_with_intervals_version_and_digest(use_case, shops, bundle, tmp_path):
    cycle = run(use_case, shops, bundle, tmp_path)
    rows = parquet.read_table(partition(tmp_path, "scores"), partitioning=None).to_pandas()
    weeks = rows.groupby(["store", "item"])["week"].agg(list)
    monday = date(2026, 11, 16)
    assert all(found == [monday + timedelta(weeks=step) for step in range(1, 14)] for found in weeks)
    assert cycle.series == len(weeks) > 1
    assert (rows["q10"] <= rows["q50"]).all()
    assert (rows["q50"] <= rows["q90"]).all()
    assert (rows["q10"] >= 0).all()
    assert set(rows["model_version"]) == {"1"}
    assert set(rows["bundle_digest"]) == {content_digest(bundle)}
    assert cycle.rows == len(rows)
    assert cycle.plan_assumed == rows["plan_assumed"].sum()
    assert read_cycle(tmp_path, DAY, "champion") == cycle


def test_without_a_plan_every_row_is_assumed_and_the_note_says_so(use_case, shops, bundle, tmp_path):
    cycle = run(use_case, shops, bundle, tmp_path, plan="")
    assert cycle.plan_assumed == cycle.rows
    assert f"{cycle.rows} of {cycle.rows} rows (100%) are not in the plan" in cycle.note


def test_date_that_is_forecast_again_has_the_same_bytes_wherever_it_was_killed(
    use_case, shops, bundle, tmp_path, monkeypatch
):
    run(use_case, shops, bundle, tmp_path / "whole")
    before = partition(tmp_path / "whole", "scores").read_bytes()
    forecast = parquet.read_table(partition(tmp_path / "whole", "scores"), partitioning=None)
    for step in ("write_json", "replace_folder", "empty_folder"):
        tables = tmp_path / step

        def killed(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(layout, step, killed)
            patched.setattr(scoring, "forecast", lambda *_: forecast)  # which was made by then
            with pytest.raises(KeyboardInterrupt):
                run(use_case, shops, bundle, tables)
        assert read_cycle(tables, DAY, "champion") is None
        run(use_case, shops, bundle, tables)
        assert partition(tables, "scores").read_bytes() == before


@pytest.fixture(scope="module")
def other(bundle, tmp_path_factory):
    """Another version: the same forecasts by another digest."""
    folder = tmp_path_factory.mktemp("other") / "bundle"
    shutil.copytree(bundle, folder)
    (folder / "note.txt").write_text("another version")
    return folder


def read(tables, table):
    return parquet.read_table(partition(tables, table), partitioning=None).to_pandas()


def test_sums_of_each_level_add_up_and_name_what_made_them(use_case, shops, bundle, tmp_path):
    cycle = run(use_case, shops, bundle, tmp_path)
    rows, sums = read(tmp_path, "scores"), read(tmp_path, "sums")
    assert set(sums["level"]) == {"total", "store", "item"}
    weeks = rows.groupby("week")["forecast"].sum()
    for level, own in sums.groupby("level"):
        pd.testing.assert_series_equal(own.groupby("week")["forecast"].sum(), weeks, rtol=1e-12)
        assert own[[name for name in ("store", "item") if name != level]].isna().all(axis=None)
    assert (sums["q10"] <= sums["forecast"]).all()
    assert (sums["forecast"] <= sums["q90"]).all()
    for name in ("model_version", "bundle_digest", "origin"):
        assert set(sums[name]) == set(rows[name])
    assert cycle.sums == len(sums)
    assert f"their sums are {len(sums)} rows of table sums" in cycle.note


def test_new_version_takes_over_after_it_ran_beside_and_the_former_partition_can_be_put_back(
    use_case, shops, bundle, other, tmp_path
):
    run(use_case, shops, bundle, tmp_path)
    before, sums = (partition(tmp_path, table).read_bytes() for table in ("scores", "sums"))
    for _ in range(2):  # the second time it finds itself in production
        cycle = run(use_case, shops, other, tmp_path, version="2", role="beside")
        assert cycle.took_over
        assert cycle.compared.version == "1"
        assert cycle.compared.change == 0
        assert "it takes over" in cycle.note
        assert partition(tmp_path, "scores").read_bytes() == partition(tmp_path, "beside").read_bytes()
        assert set(read(tmp_path, "sums")["model_version"]) == {"2"}
    back = run(use_case, shops, bundle, tmp_path, until="2026-11-16")
    assert back.restored
    assert partition(tmp_path, "scores").read_bytes() == before
    assert partition(tmp_path, "sums").read_bytes() == sums


def test_version_takes_over_although_a_try_was_killed_while_the_partition_was_away(
    use_case, shops, bundle, other, tmp_path, monkeypatch
):
    """Its next try said that there were no forecasts to compare with, and so did every other one."""
    run(use_case, shops, bundle, tmp_path)
    move, scores = os.replace, layout.day_folder(tmp_path, "scores", DAY)

    def killed(source, target):
        if target == scores:
            raise KeyboardInterrupt
        move(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(layout.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run(use_case, shops, other, tmp_path, version="2", role="beside")
    assert not scores.exists()
    cycle = run(use_case, shops, other, tmp_path, version="2", role="beside")
    assert (cycle.took_over, cycle.compared.version) == (True, "1")
    assert set(read(tmp_path, "scores")["model_version"]) == {"2"}
    assert set(read(tmp_path, "former")["model_version"]) == {"1"}


def test_version_with_other_totals_does_not_take_over_unless_somebody_says_so(
    use_case, shops, bundle, other, tmp_path, monkeypatch
):
    run(use_case, shops, bundle, tmp_path)
    before = partition(tmp_path, "scores").read_bytes()
    made = scoring.forecast

    def doubled(*given):
        table = made(*given)
        place = table.schema.get_field_index("forecast")
        twice = pa.array([2 * value + 1 for value in table["forecast"].to_pylist()])
        return table.set_column(place, "forecast", twice)

    monkeypatch.setattr(scoring, "forecast", doubled)
    refused = run(use_case, shops, other, tmp_path, version="2", role="beside")
    assert not refused.took_over
    assert set(read(tmp_path, "sums")["model_version"]) == {"1"}
    assert "the total changes by +1" in refused.note
    assert partition(tmp_path, "scores").read_bytes() == before
    taken = run(use_case, shops, other, tmp_path, version="2", role="beside", take_over=True)
    assert taken.took_over
    assert partition(tmp_path, "scores").read_bytes() != before


def test_going_back_where_nothing_was_kept_forecasts_again_from_the_same_weeks(
    use_case, shops, bundle, other, tmp_path
):
    first = run(use_case, shops, bundle, tmp_path / "first")
    grown = pd.read_csv(shops / "history.csv")
    more = grown[grown["week"] == "2026-11-16"].assign(week="2026-11-23")
    folder = tmp_path / "grown"
    folder.mkdir()
    pd.concat([grown, more]).to_csv(folder / "history.csv", index=False)
    shutil.copy(shops / "plan.csv", folder / "plan.csv")
    run(use_case, folder, other, tmp_path / "tables", version="2")
    back = run(use_case, folder, bundle, tmp_path / "tables", until=first.origin)
    assert not back.restored
    assert (back.origin, back.total) == (first.origin, pytest.approx(first.total))


def test_bundle_that_is_not_the_pinned_one_is_refused(version, shops, tmp_path):
    config = {
        "use_case": "demand", "source": str(shops / "history.csv"), "day": DAY.isoformat(),
        "version": str(version.version), "bundle_digest": f"sha256:{'0' * 64}", "tables": str(tmp_path),
        "model_name": MODEL, "experiment": "/Shared/demand", "later_setting": True,
    }  # fmt: skip
    with pytest.raises(ValueError, match="somebody has changed the version's files"):
        forecast_job.main(["score", "--run-key", "k", "--config", json.dumps(config)])


# --- judging ---


WEEK = judging.Week(week="2026-11-16", rows=8, wape=0.2, bias=0.01, coverage=0.8, signal=1.0)
POOR = msgspec.structs.replace(WEEK, wape=0.9)


def verdict(*weeks, champion="1", day="2026-11-23", **rest):
    return judging.WeekVerdict(day=day, status="quiet", champion=champion, weeks=weeks, **rest)


@pytest.mark.parametrize(
    ("weeks", "confirmed"),
    [
        ((WEEK, WEEK, WEEK), ()),
        ((WEEK, WEEK, POOR), ()),
        ((WEEK, POOR, POOR), ()),
        ((POOR, POOR, POOR), ("WAPE",)),
        ((POOR, POOR, WEEK), ()),
        ((msgspec.structs.replace(WEEK, bias=-0.4),) * 3, ("bias",)),
        ((msgspec.structs.replace(WEEK, coverage=0.2),) * 3, ("coverage",)),
        ((msgspec.structs.replace(WEEK, signal=-4.5),) * 3, ("tracking signal",)),
        ((POOR, POOR, msgspec.structs.replace(WEEK, bias=0.4)), ()),
    ],
)
def test_what_is_poor_in_the_same_way_for_three_weeks_is_confirmed_and_starts_a_training(weeks, confirmed):
    found = judging.decide(verdict(*weeks), [], ForecastLimits())
    assert found.confirmed == confirmed
    assert found.retrain == bool(confirmed)
    assert ("retrain: confirmed over 3 weeks" in found.note) == bool(confirmed)


def test_training_that_is_on_its_way_keeps_another_from_starting_and_a_wish_does_not_wait():
    started = msgspec.structs.replace(verdict(POOR, day="2026-11-09"), retrain=True)
    waiting = judging.decide(verdict(POOR, POOR, POOR), [started], ForecastLimits())
    assert not waiting.retrain
    assert "the retraining of 2026-11-09 is on its way" in waiting.note
    assert judging.decide(verdict(POOR, POOR, POOR), [started], ForecastLimits(), by_hand=True).retrain
    later = verdict(POOR, POOR, POOR, day="2026-12-14")
    assert judging.decide(later, [started], ForecastLimits()).retrain


def test_weeks_that_have_ended_are_judged_by_what_was_forecast_for_them(use_case, shops, bundle, store, tmp_path):
    """The last six weeks are taken away, forecast, and then come."""
    grown = pd.read_csv(shops / "history.csv")
    cut = "2026-10-05"
    folder = tmp_path / "before"
    folder.mkdir()
    grown[grown["week"] <= cut].to_csv(folder / "history.csv", index=False)
    shutil.copy(shops / "plan.csv", folder / "plan.csv")
    run(use_case, folder, bundle, tmp_path / "tables")
    champion = judging.Champion("1", cut)
    source = str(shops / "history.csv")
    found = judging.judge(use_case, source, tmp_path / "tables", DAY, champion, ForecastLimits())
    assert [week.week for week in found.weeks] == [
        str(date(2026, 10, 5) + timedelta(weeks=step)) for step in range(1, 7)
    ]
    assert all(week.wape is not None for week in found.weeks)
    assert {one.name for one in found.findings} == {"price", "deal", "advertised", "out_of_stock"}
    assert found.note.startswith("week 2026-11-16, version 1: WAPE ")
    assert judging.read_verdicts(tmp_path / "tables", before=DAY + timedelta(days=1)) == [found]
    for _ in range(2):  # the same date keeps one run
        run_id = judging.record(MODEL, "/Shared/demand", tmp_path / "tables", DAY, found)
    kept = store.get_run(run_id)
    assert json.loads(kept.data.tags[tags.FIGURES])["Week"] == "2026-11-16"
    assert kept.data.metrics["wape"] == pytest.approx(found.weeks[-1].wape)
    none = judging.judge(use_case, source, tmp_path / "tables", DAY, judging.Champion("2", cut), ForecastLimits())
    assert none.weeks == ()
    assert "no week that version 2 has forecast has ended" in none.note


def test_inputs_that_differ_from_those_a_season_before_are_found():
    history = make_shops(5, 20, 156, 3).history
    trained = "2026-08-10"
    quiet = judging.input_drift(history, SERIES, trained, ForecastLimits())
    assert "price" not in {one.name for one in quiet if one.drifted}
    recent = history[SERIES.time] > pd.Timestamp(trained)
    dear = history.assign(price=history["price"].where(~recent, history["price"] * 5))
    assert "price" in {one.name for one in judging.input_drift(dear, SERIES, trained, ForecastLimits()) if one.drifted}


# --- figures ---


def test_figures_are_the_errors_of_the_library_with_intervals_over_series():
    rows = pd.DataFrame(
        {
            "store": ["a", "a", "b", "b"], "item": ["x"] * 4, "week": pd.to_datetime(["2026-11-02", "2026-11-09"] * 2),
            "origin": pd.Timestamp("2026-10-26"), "forecast": [10.0, 12.0, 1.0, 0.0], "q10": [8.0, 9.0, 0.0, 0.0],
            "q50": [10.0, 12.0, 1.0, 0.0], "q90": [12.0, 13.0, 2.0, 0.5], "actual": [11.0, 20.0, 1.0, 0.0],
            "scale": [4.0, 4.0, 1.0, 1.0],
        }
    )  # fmt: skip
    found, expected = measure(rows, SERIES, 1), errors(rows, SERIES)
    for name in TITLES:
        assert found[name].value == pytest.approx(getattr(expected, name), abs=1e-6), name
    assert found["wape"].low < found["wape"].high
    higher = rows.assign(forecast=rows["forecast"] + 4)
    lost = {name for name, one in paired(higher, rows, SERIES, 1).items() if one.worse}
    assert lost == {"wape", "rmsse"}, "bias is -0.281 without and +0.219 with them; the rest follows from quantiles"
    assert not any(one.worse for one in paired(rows, rows, SERIES, 1).values())
