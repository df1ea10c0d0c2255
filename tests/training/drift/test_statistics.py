"""Drift figures equal SciPy's on the rows, though they are computed from value counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from training.drift.statistics import (
    category_counts,
    category_difference,
    numeric_difference,
)
from training.evaluation.share_interval import share_interval

VALUES = st.lists(st.integers(0, 30), min_size=4, max_size=200)


def counted(rows):
    return np.unique(np.array(rows, np.float64), return_counts=True)


@given(VALUES, VALUES)
def test_ks_distance_and_p_value_equal_scipy_on_the_rows(reference, rows):
    found = numeric_difference(np.sort(np.array(reference, np.float64)), *counted(rows))
    expected = stats.ks_2samp(reference, rows, method="asymp")
    assert found.effect == pytest.approx(expected.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-9)
    assert found.n == len(rows)


def test_chi_square_equals_scipy_where_no_category_is_rare():
    reference, window = np.array([300, 200, 100]), np.array([40, 40, 20])
    found = category_difference(reference, window)
    assert found.p_value == pytest.approx(stats.chi2_contingency([reference, window], correction=False).pvalue)
    assert found.effect == pytest.approx(0.1)


def test_effect_does_not_depend_on_the_size_of_the_window():
    reference = np.array([300, 200, 100])
    small, large = (
        category_difference(reference, np.array([4, 4, 2])),
        category_difference(reference, np.array([4, 4, 2]) * 10**5),
    )
    assert small.effect == pytest.approx(large.effect)
    assert large.p_value < 1e-5 < 0.1 < small.p_value


def test_rare_categories_are_tested_together():
    found = category_difference(np.array([1000, 3, 0, 0]), np.array([100, 0, 1, 0]))
    assert found.p_value > 0.01


def test_same_distribution_has_no_effect():
    rows = np.arange(100.0)
    found = numeric_difference(rows, *counted(rows))
    assert (found.effect, found.p_value, found.psi) == (0.0, 1.0, pytest.approx(0.0))


def test_psi_of_a_shift_by_one_deviation_is_large():
    rng = np.random.default_rng(0)
    reference = np.sort(rng.normal(size=5000))
    assert numeric_difference(reference, *counted(rng.normal(1, 1, 5000))).psi > 0.25
    assert numeric_difference(reference, *counted(rng.normal(0, 1, 5000))).psi < 0.02


def test_window_without_values_differs_in_nothing():
    empty = np.array([], np.float64), np.array([], np.int64)
    assert numeric_difference(np.arange(5.0), *empty).p_value == 1.0
    assert category_difference(np.array([5, 5]), np.array([0, 0])).p_value == 1.0


def test_values_that_the_contract_does_not_list_count_as_unknown():
    assert category_counts({"a": 2, "x": 3, "y": 4}, ("a", "b")).tolist() == [2, 0, 7]


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (3, 200)])
def test_share_interval_is_the_wilson_interval(hits, n):
    expected = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert share_interval(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
