"""Quiet nights stay quiet, drift is seen within two nights, and every decision has its reason."""

import msgspec
import numpy as np
import pandas as pd
import pytest

from training.data.dataset import read_table
from training.drift.reference import Reference
from training.drift.verdict import Limits, Quality, Verdict, decide, judge_quality, judge_window
from training.drift.window import Window
from training.evaluation.binary import Estimate
from training.export.contract import request_contract
from use_cases.attrition import USE_CASE as ATTRITION
from use_cases.attrition.sample import make_sample

FIELDS = request_contract(ATTRITION).drift_fields
LIMITS = Limits()


def score(frame):
    """Stands for the champion: a smooth function of three fields."""
    z = frame["Age"] * -0.05 + (frame["OverTime"] == "Yes") * 1.2 - frame["MonthlyIncome"] / 8000
    return (1 / (1 + np.exp(-z))).to_numpy().round(6)


def reference_of(frame):
    arrays = {}
    for field in FIELDS:
        values = frame[field.name]
        if field.kind == "category":
            known = [int((values == category).sum()) for category in field.categories]
            arrays[field.name] = np.array([*known, 0], np.float64)
        else:
            arrays[field.name] = np.sort(values.to_numpy(np.float64))
    held_out = frame.iloc[::5]
    return Reference("3", FIELDS, arrays, np.sort(score(held_out)), outliers=len(held_out) // 50)


def window_of(frame, outliers=None):
    values, counts = np.unique(score(frame), return_counts=True)
    return Window(
        records=len(frame), used=len(frame), skewed=0, versions={"3": len(frame)},
        counts={field.name: frame[field.name].value_counts().to_dict() for field in FIELDS},
        predictions=(values, counts), outliers=len(frame) // 50 if outliers is None else outliers,
    )  # fmt: skip


@pytest.fixture(scope="module")
def people(real_data):
    return read_table(ATTRITION, str(real_data)).frame


@pytest.fixture(scope="module")
def reference(people):
    return reference_of(people)


def night_of(people, seed, size, drift=None):
    frame = people.sample(size, replace=True, random_state=seed)
    return drift(frame) if drift else frame


def verdict(night, window, reference, earlier=(), **more):
    judged = msgspec.structs.replace(judge_window(night, window, reference, LIMITS), **more)
    return decide(judged, earlier, LIMITS)


def nights(number):
    return [str(day.date()) for day in pd.date_range("2026-01-05", periods=number)]


@pytest.mark.parametrize("size", [60])  # with 400: no single one either
def test_200_quiet_nights_raise_no_confirmed_alarm(people, reference, size):
    verdicts = []
    for number, night in enumerate(nights(200)):
        verdicts.append(verdict(night, window_of(night_of(people, number, size)), reference, verdicts))
    single = sum(one.status == "drifted" for one in verdicts)
    assert sum(bool(one.confirmed) for one in verdicts) == 0
    assert single == 2  # 1 %, as docs/operate.md states
    print(f"false alarms in 200 quiet nights of {size} records: {single} single, 0 confirmed")


def raise_incomes(frame):
    return frame.assign(MonthlyIncome=frame["MonthlyIncome"] * 1.3)


def more_overtime(frame):
    changed = frame["OverTime"].where(np.arange(len(frame)) % 4 != 0, "Yes")
    return frame.assign(OverTime=changed)


def new_department(frame):
    return frame.assign(Department=frame["Department"].where(np.arange(len(frame)) % 20 != 0, "Robotics"))


@pytest.fixture(scope="module")
def quiet_weeks(people, reference):
    """The verdicts of five weeks without drift."""
    verdicts = []
    for number, night in enumerate(nights(35)):
        verdicts.append(verdict(night, window_of(night_of(people, 1000 + number, 300)), reference, verdicts))
    return verdicts


@pytest.mark.parametrize(
    ("drift", "field"),
    [(raise_incomes, "MonthlyIncome"), (more_overtime, "OverTime"), (new_department, "Department")],
)
def test_drift_from_week_6_on_is_confirmed_within_two_nights_and_not_before(
    people, reference, quiet_weeks, drift, field
):
    verdicts = [*quiet_weeks]
    for number, night in [*enumerate(nights(37))][35:]:
        frame = night_of(people, 1000 + number, 300, drift)
        verdicts.append(verdict(night, window_of(frame), reference, verdicts))
    assert [one.night for one in verdicts[:35] if one.confirmed or one.retrain] == []
    assert field in verdicts[36].confirmed
    assert verdicts[36].retrain
    assert f"drift confirmed over 2 windows: {field}" in verdicts[36].note


def test_large_window_does_not_cry_wolf_over_a_tiny_shift(people, reference):
    frame = night_of(people, 1, 100_000)
    frame = frame.assign(MonthlyIncome=frame["MonthlyIncome"] * 1.1)
    found = judge_window("2026-01-05", window_of(frame), reference, LIMITS)
    income = next(one for one in found.findings if one.name == "MonthlyIncome")
    assert income.adjusted_p_value < 0.01
    assert 0.03 < income.effect < LIMITS.minimum_effect
    assert not income.drifted
    assert found.status == "quiet"


def test_answers_that_shift_while_no_field_does_are_drift_of_the_prediction(people, reference):
    window = window_of(night_of(people, 1, 300))
    values, counts = window.predictions
    shifted = msgspec.structs.replace(window, predictions=(values / 2, counts))
    assert judge_window("2026-01-05", shifted, reference, LIMITS).drifted == ("prediction",)


def test_outlier_rate_far_above_the_reference_is_drift(people, reference):
    found = judge_window("2026-01-05", window_of(night_of(people, 1, 300), outliers=60), reference, LIMITS)
    assert found.outliers.drifted
    assert found.drifted == ("outliers",)


def test_night_without_traffic_neither_confirms_nor_breaks_a_run_of_drift(people, reference):
    drifted = window_of(night_of(people, 1, 300, raise_incomes))
    few = window_of(night_of(people, 2, 20))
    first = verdict("2026-01-05", drifted, reference)
    weekend = verdict("2026-01-06", few, reference, [first])
    assert weekend.status == "too few records"
    assert not weekend.confirmed
    assert "MonthlyIncome" in verdict("2026-01-07", drifted, reference, [first, weekend]).confirmed


def test_drift_against_another_champion_does_not_confirm(people, reference):
    drifted = window_of(night_of(people, 1, 300, raise_incomes))
    before = verdict("2026-01-05", drifted, msgspec.structs.replace(reference, version="2"))
    assert verdict("2026-01-06", drifted, reference, [before]).confirmed == ()


def test_retraining_of_the_days_before_pauses_another_one_for_the_same_drift(people, reference):
    drifted = window_of(night_of(people, 1, 300, raise_incomes))
    verdicts = []
    for night in nights(12):
        verdicts.append(verdict(night, drifted, reference, verdicts))
    assert [number for number, one in enumerate(verdicts) if one.retrain] == [1, 8]
    assert "the retraining of 2026-01-06 is on its way to the gate" in verdicts[2].note


def test_enough_new_labels_retrain_and_count_from_the_last_retraining(people, reference):
    quiet = window_of(night_of(people, 1, 300))
    first = verdict("2026-01-05", quiet, reference, labels=500)
    assert first.retrain
    assert first.reasons == ("500 new outcomes",)
    again = verdict("2026-01-06", quiet, reference, [first], labels=900)
    assert not again.retrain
    assert again.reasons == (
        "no confirmed drift, no sign that the quality is below its minimum, 400 of 500 new outcomes",
    )
    assert verdict("2026-01-07", quiet, reference, [first, again], labels=1000).retrain


def test_lost_quality_retrains_and_says_the_figure(people, reference):
    lost = Quality(labels=900, positives=150, roc_auc=Estimate(0.55, 0.51, 0.59), lost=True)
    found = verdict("2026-01-05", window_of(night_of(people, 1, 300)), reference, quality=lost)
    assert found.retrain
    assert found.reasons == ("live AUC 0.55 (95% 0.51 to 0.59) is below 0.65",)


def test_retraining_by_hand_needs_no_other_reason_and_no_champion(people):
    judged = judge_window("2026-01-05", window_of(night_of(people, 1, 300)), None, LIMITS)
    found = decide(judged, [], LIMITS, by_hand=True)
    assert found.status == "no champion"
    assert found.retrain
    assert found.reasons == ("asked for by hand",)


@pytest.mark.parametrize(("noise", "lost"), [(0.3, False), (20.0, True)])
def test_live_quality_is_lost_only_when_the_whole_interval_is_below_the_floor(noise, lost):
    rng = np.random.default_rng(3)
    left = (rng.random(2000) < 0.16).astype(np.int64)
    answers = 1 / (1 + np.exp(-(left * 1.5 - 2 + rng.normal(0, noise, 2000))))
    found = judge_quality(answers, left, 0.65)
    assert found.lost is lost
    assert found.roc_auc.low < found.roc_auc.value < found.roc_auc.high
    assert found.seen_share == pytest.approx(left.mean())


def test_live_quality_with_few_positives_is_not_measured():
    found = judge_quality(np.full(50, 0.2), np.array([1] * 9 + [0] * 41), 0.65)
    assert (found.labels, found.positives, found.roc_auc, found.lost) == (50, 9, None, False)


def test_verdict_survives_its_json():
    people = make_sample(300, 1)
    found = verdict("2026-01-05", window_of(people), reference_of(people))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Verdict) == found
