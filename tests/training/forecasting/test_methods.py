"""Intermittent series, conformal correction and trees, each beside another way to the same figures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.ensemble import HistGradientBoostingRegressor

from training.forecasting.conformal import correction
from training.forecasting.intermittent import croston, tsb
from training.forecasting.models import Trees, fit_trees
from training.forecasting.recipe import Boosting


def test_tsb_is_size_times_chance():
    # Mean size 4 and chance 1/2 to begin with; week by week from there.
    size, chance = 4.0, 0.5
    for week in (0, 4, 0, 4):
        size += 0.2 * (week - size) if week else 0
        chance += 0.1 * ((week > 0) - chance)
    assert tsb(np.array([[0.0, 4, 0, 4]])) == pytest.approx([size * chance])


def test_croston_is_size_by_interval_corrected():
    size, interval = 4.0, 2.0  # one sale every two weeks, and that does not change
    assert croston(np.array([[0.0, 4, 0, 4]])) == pytest.approx([0.95 * size / interval])


def test_tsb_forgets_what_nobody_buys_and_croston_does_not():
    y = np.array([[3.0, 0, 3, 0] + [0] * 100])
    assert tsb(y)[0] < 0.001
    assert croston(y)[0] > 0.1


@given(hnp.arrays(float, (3, 20), elements=st.one_of(st.just(0.0), st.floats(0, 1000), st.just(np.nan))))
def test_forecasts_of_rare_sales_lie_between_zero_and_the_largest_sale(y):
    largest = np.nan_to_num(y).max(axis=1)
    for method in (tsb, croston):
        found = method(y)
        assert (found >= 0).all()
        assert (found <= largest * (1 + 1e-9)).all()


def test_corrected_intervals_cover_what_they_claim():
    rng = np.random.default_rng(2)
    steps = rng.integers(1, 3, 40000)
    actual = rng.normal(0, 1, 40000) * np.where(steps == 2, 3.0, 1.0)
    low, high = np.full(40000, -0.1), np.full(40000, 2.0)  # too narrow below, and above too wide for the first step
    past, future = slice(20000), slice(20000, None)
    found = correction(low[past], high[past], actual[past], steps[past], np.arange(len(low))[past] % 50)
    down, up = found.moves(steps[future])
    within = (actual[future] >= low[future] - down) & (actual[future] <= high[future] + up)
    for step in (1, 2):
        assert 0.78 < within[steps[future] == step].mean() < 0.82
    assert up[steps[future] == 1].mean() < 0 < down.min()


def test_next_week_is_covered_as_claimed_where_all_series_of_a_week_are_off_together():
    """Six weeks of 60 rows: by single rows, nearly a quarter of what comes lies outside."""
    rng = np.random.default_rng(4)
    inside, by_rows = [], []
    for _ in range(150):
        shocks = rng.normal(0, 1, 7)
        actual = shocks.repeat(60) + rng.normal(0, 1, 420)
        weeks, zero = np.arange(7).repeat(60), np.zeros(420)
        past, future = slice(360), slice(360, None)
        found = correction(zero[past], zero[past], actual[past], np.ones(360, int), weeks[past])
        ends = (-found.all.low, found.all.high), np.quantile(actual[past], (0.1, 0.9))
        for low_high, kept in zip(ends, (inside, by_rows), strict=True):
            kept.append(((actual[future] >= low_high[0]) & (actual[future] <= low_high[1])).mean())
    assert np.mean(by_rows) < 0.76
    assert 0.78 < np.mean(inside) < 0.82


@given(
    hnp.arrays(float, 60, elements=st.floats(-5, 5)), hnp.arrays(np.int64, 60, elements=st.integers(0, 8)),
    st.permutations(range(60)),
)  # fmt: skip
def test_ends_are_scores_of_past_weeks_whatever_the_rows_order(actual, weeks, order):
    zero, one = np.zeros(60), np.ones(60, int)
    found = correction(zero, zero, actual, one, weeks).all
    assert found.high in actual
    assert -found.low in actual
    assert correction(zero, zero, actual[order], one, weeks[order]).all == found


def test_without_rows_no_interval_moves():
    nothing = np.array([])
    down, up = correction(nothing, nothing, nothing, nothing, nothing).moves(np.array([1, 2]))
    assert down.tolist() == up.tolist() == [0.0, 0.0]


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(2000, 4)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.float32(-1e30)
    y = rng.poisson(np.exp(2 + 0.5 * np.where(x[:, 0] < -1e29, 0, x[:, 0])))
    return x, y.astype(float)


@pytest.mark.parametrize(("goal", "share"), [("q10", 0.1), ("q50", 0.5), ("q90", 0.9)])
def test_the_written_model_answers_as_scikit_learn_does(sample, goal, share):
    x, y = sample
    boosting = Boosting(iterations=20, leaves=7, rows_in_leaf=20)
    model = HistGradientBoostingRegressor(
        loss="quantile", quantile=share, max_iter=20, max_leaf_nodes=7, min_samples_leaf=20, learning_rate=0.08,
        max_features=boosting.features, early_stopping=False, random_state=1,
    ).fit(x, np.log1p(y))  # fmt: skip
    written = fit_trees(x, y, goal, boosting, seed=1)
    np.testing.assert_allclose(written.predict(x), model.predict(x), atol=1e-5)
    assert abs((np.log1p(y) <= written.predict(x)).mean() - share) < 0.06
    again = fit_trees(x, y, goal, boosting, seed=1)
    assert again.content == written.content
    assert (Trees(written.content).predict(x) == written.predict(x)).all()


def test_bags_are_averaged(sample):
    x, y = sample
    boosting = Boosting(iterations=10, leaves=7, features=0.5)
    apart = [fit_trees(x, y, "q50", boosting, seed).predict(x) for seed in (1, 2)]
    together = fit_trees(x, y, "q50", Boosting(iterations=10, leaves=7, features=0.5, bags=2), 1).predict(x)
    np.testing.assert_allclose(together, np.mean(apart, axis=0), atol=1e-5)
    assert np.abs(apart[0] - apart[1]).max() > 0.001


def test_the_goal_percent_has_less_error_as_a_share_and_forecasts_lower(sample):
    x, y = sample
    y = y + 1
    boosting = Boosting(iterations=40, leaves=7)
    percent, median = (np.expm1(fit_trees(x, y, goal, boosting, 1).predict(x)) for goal in ("percent", "q50"))
    assert np.mean(np.abs(percent - y) / y) < np.mean(np.abs(median - y) / y)
    assert np.mean(np.abs(median - y)) < np.mean(np.abs(percent - y))
    assert percent.mean() < median.mean()


def test_a_model_of_constant_rows_is_their_quantile():
    x = np.zeros((50, 2), np.float32)
    assert fit_trees(x, np.full(50, 7.0), "q50", Boosting(iterations=3), 1).predict(x) == pytest.approx(np.log(8))
