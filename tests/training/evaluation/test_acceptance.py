"""The verdict: floors, champion, and the words for both."""

import numpy as np
import pytest

from training.evaluation.acceptance import Floors, check_floors, reasons_to_fail
from training.evaluation.binary import Estimate, compare, resamples

FAIRNESS = {"largest_gaps": {"true_positive_rate": {"value": 0.5, "low": 0.2, "high": 0.8, "attribute": "Gender"}}}
METRICS = {"roc_auc": Estimate(0.8, 0.7, 0.9), "calibration_error": Estimate(0.05, 0.02, 0.09)}


def test_challenger_that_reaches_all_floors_passes():
    checks = check_floors(Floors(), METRICS, FAIRNESS, 1.0)
    assert all(check.passed for check in checks)
    assert reasons_to_fail(checks, None) == []


@pytest.mark.parametrize(
    ("floors", "reason"),
    [
        (Floors(roc_auc=0.85), "roc_auc is 0.8, below the limit of 0.85"),
        (Floors(calibration_error=0.01), "calibration_error is 0.05, above the limit of 0.01"),
        (
            Floors(fairness_gap=0.15),
            "fairness_gap is 0.5 (Gender, 95% interval 0.20 to 0.80), above the limit of 0.15",
        ),
        (Floors(latency_ms=0.5), "latency_ms is 1, above the limit of 0.5"),
    ],
    ids=["discrimination", "calibration", "fairness", "latency"],
)
def test_challenger_below_a_floor_fails_and_says_which(floors, reason):
    assert reasons_to_fail(check_floors(floors, METRICS, FAIRNESS, 1.0), None) == [reason]


@pytest.fixture(scope="module")
def champion():
    rng = np.random.default_rng(2)
    p = rng.random(400)
    return p, (rng.random(400) < p).astype(np.int64)


def test_challenger_that_is_clearly_worse_than_the_champion_fails(champion):
    p, y = champion
    worse = np.random.default_rng(3).random(400)
    reasons = reasons_to_fail([], compare(worse, p, y, resamples(y, 1)))
    assert len(reasons) == 2
    assert reasons[0].startswith("roc_auc is lower than the champion's by 0.")
    assert "worse in 100% of the resamples of the same hold-out" in reasons[0]
    assert reasons[1].startswith("log_loss is higher than the champion's by ")


def test_challenger_that_equals_the_champion_passes(champion):
    p, y = champion
    assert reasons_to_fail([], compare(p, p, y, resamples(y, 1))) == []


def test_challenger_that_is_worse_by_chance_only_passes(champion):
    p, y = champion
    near = np.clip(p + np.random.default_rng(4).normal(0, 0.02, 400), 0.001, 0.999)
    assert reasons_to_fail([], compare(near, p, y, resamples(y, 1))) == []
