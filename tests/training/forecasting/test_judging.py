"""Errors, comparison and tuning: figures beside those of a hand, and who is accepted."""

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_pinball_loss

from tests.training.forecasting.conftest import PLAIN, QUICK, days
from training.forecasting import tune as tuning
from training.forecasting.compare import compare
from training.forecasting.definition import ForecastThresholds
from training.forecasting.judge import Week, WeekVerdict, decide, input_drift
from training.forecasting.limits import ForecastLimits
from training.forecasting.metrics import errors, errors_by, tracking_signal
from training.forecasting.recipe import Boosting
from training.forecasting.tune import best, tune
from use_cases.demand.fields import SERIES
from use_cases.demand.sample import make_shops


def rows_of(actual, forecast, scale=4.0, place="A"):
    frame = pd.DataFrame({"place": place, "day": days(len(actual)), "horizon": 1, "origin": pd.Timestamp("2026-01-01")})
    frame["actual"], frame["forecast"], frame["scale"] = np.array(actual, float), np.array(forecast, float), scale
    return frame.assign(q10=frame["forecast"] - 2, q50=frame["forecast"], q90=frame["forecast"] + 2)


def test_errors_are_what_a_hand_finds():
    rows = pd.concat([rows_of([10, 0], [13, 1]), rows_of([20, 10], [18, 10], scale=1.0, place="B")])
    found = errors(rows, PLAIN)
    assert found.rows == 4
    assert found.mape == pytest.approx((3 / 10 + 2 / 20 + 0) / 3)
    assert found.wape == pytest.approx((3 + 1 + 2 + 0) / 40)
    assert found.bias == pytest.approx((3 + 1 - 2 + 0) / 40)
    assert found.rmsse == pytest.approx((np.sqrt(5 / 4) + np.sqrt(2 / 1)) / 2)
    assert found.coverage == 0.75
    losses = [
        mean_pinball_loss(rows["actual"], rows[name], alpha=share) for name, share in
        (("q10", 0.1), ("q50", 0.5), ("q90", 0.9))
    ]  # fmt: skip
    assert found.pinball == pytest.approx(np.mean(losses) / 10)


def test_nothing_sold_and_nothing_known_is_not_a_number():
    found = errors(rows_of([0, 0], [1, 1], scale=np.nan), PLAIN)
    assert np.isnan([found.mape, found.wape, found.bias, found.rmsse, found.pinball]).all()
    assert found.coverage == 1.0


def test_errors_of_groups_name_their_group():
    rows = pd.concat([rows_of([10, 10], [10, 10]), rows_of([10, 10], [20, 20], place="B")])
    assert [(group["place"], group["wape"]) for group in errors_by(rows, PLAIN, "place")] == [("A", 0.0), ("B", 1.0)]
    assert [group["wape"] for group in errors_by(rows, PLAIN, "day")] == [0.5, 0.5]


def test_the_tracking_signal_grows_with_errors_of_one_sign_alone():
    one_sided = tracking_signal(rows_of([10] * 6, [12] * 6), PLAIN)
    assert one_sided["signal"].tolist() == pytest.approx(np.sqrt([1, 2, 3, 4, 5, 6]))
    both = tracking_signal(rows_of([10] * 6, [12, 8] * 3), PLAIN)
    assert both["signal"].abs().max() <= 1
    assert tracking_signal(rows_of([10] * 3, [10] * 3), PLAIN)["signal"].tolist() == [0, 0, 0]


def is_confirmed(errors_of_weeks):
    """Whether the tracking signal of a year is a reason to train in any of its weeks."""
    weeks = tracking_signal(rows_of(np.full(52, 100.0), 100 + errors_of_weeks), PLAIN)["signal"]
    judged = [Week(week="2026-11-16", rows=1, wape=0.1, bias=0.0, coverage=0.8, signal=one) for one in weeks]
    limits = ForecastLimits()
    empty = WeekVerdict(day="2026-11-23", status="quiet", champion="1")
    years = (msgspec.structs.replace(empty, weeks=tuple(judged[: number + 1])) for number in range(52))
    return any("tracking signal" in decide(one, [], limits).confirmed for one in years)


def test_signal_confirms_a_lasting_bias_within_a_quarter_and_chance_in_few_years():
    rng = np.random.default_rng(3)
    by_chance = np.mean([is_confirmed(rng.normal(0, 10, 52)) for _ in range(100)])
    assert by_chance <= 0.08
    biased = np.zeros(52)
    biased[:13] = rng.normal(12, 4, 13)
    assert is_confirmed(biased)


def test_inputs_of_a_hundred_series_in_undisturbed_weeks_differ_from_nothing():
    """Seasons, offers and prices that rise once a year are as in the year before."""
    found = []
    for seed in range(3):
        history = make_shops(5, 20, 156, seed).history
        last = history[SERIES.time].max()
        for ago in (0, 4, 8):
            known = history[history[SERIES.time] <= last - pd.Timedelta(weeks=ago)]
            trained = str((last - pd.Timedelta(weeks=20)).date())
            found += [one for one in input_drift(known, SERIES, trained, ForecastLimits()) if one.drifted]
    assert found == []


def many(error, seed=1, series=60):
    rng = np.random.default_rng(seed)
    parts = []
    for number in range(series):
        actual = rng.poisson(50, 13).astype(float)
        noise = np.random.default_rng(number).normal(0, error, 13)
        parts.append(rows_of(actual, actual * np.exp(noise), scale=100.0, place=f"P{number:02d}"))
    rows = pd.concat(parts, ignore_index=True)
    return rows.assign(q10=rows["actual"] - 1, q90=rows["actual"] + np.where(np.arange(len(rows)) % 5 == 0, -0.5, 1))


def test_a_better_challenger_is_accepted_and_a_worse_one_is_not():
    good, usual, plain = many(0.1), many(0.2), many(0.4)
    found = compare(good, usual, plain, PLAIN, ForecastThresholds())
    assert found.accepted
    assert found.wape_change_low < found.wape_change < found.wape_change_high < 0
    assert found.value_added == pytest.approx(1 - found.challenger.wape / found.naive.wape)
    worse = compare(usual, good, plain, PLAIN, ForecastThresholds())
    assert not worse.accepted
    assert [fault for fault in worse.faults if fault.startswith("change of WAPE from the champion")]
    same = compare(usual, usual, plain, PLAIN, ForecastThresholds())
    assert (same.wape_change, same.wape_change_low, same.wape_change_high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("thresholds", "word"),
    [
        ({"maximum_wape": 0.01}, "WAPE"),
        ({"maximum_bias": 0.00001}, "bias"),
        ({"maximum_rmsse": 0.01}, "RMSSE"),
        ({"maximum_coverage": 0.5, "minimum_coverage": 0.4}, "coverage"),
        ({"minimum_value_added": 0.99}, "value added"),
    ],
)
def test_each_threshold_refuses_with_its_figure(thresholds, word):
    found = compare(many(0.1), many(0.2), many(0.4), PLAIN, ForecastThresholds(**thresholds))
    assert len(found.faults) == 1
    assert word in found.faults[0]
    assert "is wanted" in found.faults[0]


def test_what_is_not_a_number_is_not_accepted():
    nothing = many(0.1).assign(scale=np.nan)
    found = compare(nothing, nothing, nothing, PLAIN, ForecastThresholds())
    assert found.faults == ("RMSSE is nan, where at most 1.200 is wanted",)


def test_only_rows_in_common_are_compared():
    found = compare(many(0.1), many(0.2).iloc[:100], many(0.4), PLAIN, ForecastThresholds())
    assert found.challenger.rows == found.champion.rows == found.naive.rows == 100
    with pytest.raises(ValueError, match="no row in common"):
        compare(many(0.1), many(0.2).assign(origin=pd.Timestamp("2020-01-06")), many(0.4), PLAIN, ForecastThresholds())


def test_tuning_begins_with_the_start_finds_no_worse_and_repeats_nothing(shops, monkeypatch):
    small = {"iterations": (20, 120), "leaves": (8, 31), "rows_in_leaf": (10, 100)}
    monkeypatch.setattr(tuning, "_WHOLE", small)
    told = []
    slow = msgspec.structs.replace(QUICK, boosting=Boosting(iterations=50, learning_rate=0.02, leaves=8, l2=0.001))
    trials = tune(slow, SERIES, shops.history, shops.plan, trials=4, origins=1, seed=1, record=told.append)
    assert told == trials
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert trials[0].recipe == slow
    chosen = best(trials)
    assert chosen != slow
    assert min(trial.score for trial in trials) < trials[0].score
    again = []
    repeated = tune(
        slow, SERIES, shops.history, shops.plan, trials=4, origins=1, seed=1,
        recorded={trial.number: trial for trial in trials[:3]}, record=again.append,
    )  # fmt: skip
    assert [trial.number for trial in again] == [3]
    assert [trial.score for trial in repeated] == [trial.score for trial in trials]
    assert best(repeated) == chosen
    monkeypatch.setattr(tuning, "make_rows", lambda *_: pytest.fail("no trial is left that features are made for"))
    known = {trial.number: trial for trial in trials}
    assert tune(slow, SERIES, shops.history, shops.plan, trials=4, origins=1, seed=1, recorded=known) == trials
