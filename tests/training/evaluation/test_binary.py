"""Metrics against scikit-learn, with weights and ties; intervals; paired comparison."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from training.evaluation.binary import LARGER_IS_BETTER, METRICS, compare, equal_bins, measure, resamples


@pytest.fixture(scope="module")
def scored():
    rng = np.random.default_rng(1)
    p = np.round(rng.random(300), 2)  # rounded, so that there are ties
    y = (rng.random(300) < p**2).astype(np.int64)
    weights = rng.integers(0, 4, (5, 300)).astype(float)
    return p, y, weights


REFERENCE = {
    "roc_auc": reference.roc_auc_score,
    "pr_auc": reference.average_precision_score,
    "log_loss": lambda y, p, sample_weight: reference.log_loss(
        y, np.clip(p, 1e-15, 1 - 1e-15), sample_weight=sample_weight
    ),
    "brier": reference.brier_score_loss,
}


@pytest.mark.parametrize("name", REFERENCE)
def test_metric_of_weighted_rows_equals_scikit_learn(name, scored):
    p, y, weights = scored
    expected = [REFERENCE[name](y, p, sample_weight=drawn) for drawn in weights]
    np.testing.assert_allclose(METRICS[name](p, y, weights), expected, atol=1e-9)


def test_calibration_error_is_the_mean_gap_of_ten_equal_bins(scored):
    p, y, _ = scored
    bins = equal_bins(p)
    assert np.bincount(bins).tolist() == [30] * 10
    expected = np.mean([abs(p[bins == b].mean() - y[bins == b].mean()) for b in range(10)])
    assert METRICS["calibration_error"](p, y, np.ones((1, 300)))[0] == pytest.approx(expected)


def test_recall_at_the_top_counts_the_positives_with_the_highest_risk():
    p = np.linspace(0, 1, 100)
    y = np.zeros(100, np.int64)
    y[[99, 95, 85, 10]] = 1
    once = np.ones((1, 100))
    assert METRICS["recall_top_10"](p, y, once)[0] == 0.5
    assert METRICS["recall_top_20"](p, y, once)[0] == 0.75


def test_intervals_hold_the_value_and_follow_the_seed(scored):
    p, y, _ = scored
    first, second = (measure(p, y, resamples(y, 4)) for _ in range(2))
    assert first == second
    assert first != measure(p, y, resamples(y, 5))
    for name in ("roc_auc", "pr_auc", "log_loss", "brier"):
        assert first[name].low < first[name].value < first[name].high


def test_comparison_is_paired_so_a_small_steady_gain_is_certain(scored):
    p, y, _ = scored
    better = p + 0.02 * (2 * y - 1)
    found = compare(better, p, y, resamples(y, 1))
    assert found["brier"].better == 1.0
    assert not found["brier"].worse
    assert found["brier"].difference.high < 0
    same = compare(p, p, y, resamples(y, 1))["roc_auc"]
    assert (same.difference.value, same.better, same.worse) == (0.0, 0.0, False)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_worse_is_the_sign_of_the_difference_however_the_resamples_lean(seed):
    rng = np.random.default_rng(seed)
    y = np.r_[1, 0, rng.integers(0, 2, 38)]
    ours, theirs = rng.random((2, len(y))).round(1)
    for name, found in compare(ours, theirs, y, resamples(y, seed)).items():
        lost = -found.difference.value if name in LARGER_IS_BETTER else found.difference.value
        assert found.worse == (lost > 0), name
