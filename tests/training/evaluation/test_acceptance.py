"""The verdict: thresholds, other models, and the words for both."""

import numpy as np
import pytest

from training.evaluation.acceptance import check_thresholds, missed_thresholds, worse_than
from training.evaluation.binary import Estimate, compare, resamples, titles
from training.use_case import Binary, Thresholds

FAIRNESS = {"largest_gaps": {"true_positive_rate": {"value": 0.5, "low": 0.2, "high": 0.8, "attribute": "Gender"}}}
TITLES = titles(Binary("left"))
METRICS = {"roc_auc": Estimate(0.8, 0.7, 0.9), "calibration_error": Estimate(0.05, 0.02, 0.09)}


def test_challenger_that_reaches_all_thresholds_passes():
    checks = check_thresholds(Thresholds(), METRICS, FAIRNESS, 1.0)
    assert all(check.passed for check in checks)
    assert {check.name: check.kind for check in checks} == {
        name: name.partition("_")[0] for name in Thresholds.__struct_fields__ if name != "not_worse_than_plain"
    }
    assert missed_thresholds(checks) == []


@pytest.mark.parametrize(
    ("thresholds", "reason"),
    [
        (Thresholds(minimum_roc_auc=0.85), "ROC AUC is 0.8, below the limit of 0.85"),
        (
            Thresholds(minimum_roc_auc_low=0.75),
            "ROC AUC, low end of the 95% interval is 0.7, below the limit of 0.75",
        ),
        (Thresholds(maximum_calibration_error=0.01), "Expected calibration error is 0.05, above the limit of 0.01"),
        (
            Thresholds(maximum_fairness_gap=0.15),
            "Gap in true-positive rate between groups, low end of the 95% interval is 0.2 "
            "(Gender: 0.50, 95% interval 0.20 to 0.80), above the limit of 0.15",
        ),
        (Thresholds(maximum_latency_ms=0.5), "Milliseconds for one record is 1, above the limit of 0.5"),
    ],
    ids=["discrimination", "no signal", "calibration", "fairness", "latency"],
)
def test_challenger_below_a_threshold_fails_and_says_which(thresholds, reason):
    assert missed_thresholds(check_thresholds(thresholds, METRICS, FAIRNESS, 1.0)) == [reason]


def test_without_groups_there_is_no_gap_to_check():
    checks = check_thresholds(Thresholds(maximum_fairness_gap=0.0), METRICS, None, 1.0)
    assert "maximum_fairness_gap" not in {check.name for check in checks}
    assert missed_thresholds(checks) == []


@pytest.fixture(scope="module")
def champion():
    rng = np.random.default_rng(2)
    p = rng.random(400)
    return p, (rng.random(400) < p).astype(np.int64)


def test_challenger_that_is_clearly_worse_than_the_champion_fails(champion):
    p, y = champion
    worse = np.random.default_rng(3).random(400)
    reasons = worse_than("champion", compare(worse, p, y, resamples(y, 1)), TITLES)
    assert len(reasons) == 2
    assert reasons[0].startswith("ROC AUC is lower than the champion's by 0.")
    assert "worse in 100% of the resamples of the same hold-out" in reasons[0]
    assert reasons[1].startswith("Log loss is higher than the champion's by ")


def test_challenger_that_equals_the_champion_passes(champion):
    p, y = champion
    assert worse_than("champion", compare(p, p, y, resamples(y, 1)), TITLES) == []


def test_challenger_that_is_worse_by_chance_only_passes(champion):
    p, y = champion
    near = np.clip(p + np.random.default_rng(4).normal(0, 0.02, 400), 0.001, 0.999)
    assert worse_than("champion", compare(near, p, y, resamples(y, 1)), TITLES) == []
