"""Features are what is known at the origin, and what is planned of the week: nothing else moves them."""

import numpy as np
import pandas as pd
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.forecasting.conftest import PLAIN, days
from training.forecasting.definition import Quantity, Series
from training.forecasting.features import MISSING, future_targets, make_rows, statements, training_targets
from training.forecasting.series import codes_of, make_panel
from use_cases.demand.fields import SERIES


def features_of(table, plan, origin_week, week):
    """The features of one week of the first place, by name."""
    panel = make_panel(table, plan, PLAIN, codes_of(table, PLAIN))
    first = int(panel.described["first"].min())
    rows = make_rows(panel, pd.DataFrame({"series": [0], "origin": [first + origin_week], "t": [first + week]}))
    return dict(zip(rows.names, rows.x[0].tolist(), strict=True)), rows.frame.iloc[0]


def plan_of(table):
    return table[list(PLAIN.plan_columns)]


def test_features_are_what_a_hand_finds(table):
    found, row = features_of(table, plan_of(table), 8, 11)
    assert found["step"] == 3
    assert found["lag0"] == pytest.approx(np.log1p(18))
    assert found["lag8"] == pytest.approx(np.log1p(10))
    assert found["mean4"] == pytest.approx(np.mean(np.log1p([15, 16, 17, 18])))
    assert found["same_week"] == pytest.approx(np.log1p(15))  # six weeks before, the season of this definition
    assert found["k0"] == pytest.approx(1.5)
    assert found["k0_before"] == pytest.approx(2.0)
    assert found["k1"] == 1.0
    assert found["u0"] == 56.0
    assert found["age"] == 8
    # The only weeks that were planned like this one are the fourth and the eighth; the latter is nearer.
    weight = np.exp(-4 / 26)
    assert found["alike"] == pytest.approx((weight * np.log1p(13) + np.log1p(17)) / (weight + 1), rel=0.02)
    assert row["y"] == 21


def test_a_season_that_lies_after_the_origin_is_not_looked_at(table):
    found, _ = features_of(table, plan_of(table), 4, 11)
    assert found["same_week"] == np.float32(MISSING)


def test_without_a_plan_the_last_price_and_no_offer_are_assumed_and_said(table):
    panel = make_panel(table, plan_of(table).iloc[:0], PLAIN, codes_of(table, PLAIN))
    rows = make_rows(panel, future_targets(panel, [panel.last]))
    assert rows.frame["assumed"].all()
    x = pd.DataFrame(rows.x, columns=rows.names)
    assert (x["k0"] == 1.5).all()  # the last week of the table is the offer's
    assert (x["k1"] == 0).all()
    planned = pd.DataFrame({"place": "A", "day": days(15)[13:], "cost": 1.0, "offer": 1})
    panel = make_panel(table, planned, PLAIN, codes_of(table, PLAIN))
    rows = make_rows(panel, future_targets(panel, [panel.last]))
    assert rows.frame["assumed"].tolist() == [False, False, True, True]


def test_a_plan_that_names_only_some_fields_is_assumed_for_the_others(table):
    planned = pd.DataFrame({"place": "A", "day": days(15)[13:], "cost": [1.0, 1.1], "offer": [np.nan, 1]})
    panel = make_panel(table, planned, PLAIN, codes_of(table, PLAIN))
    rows = make_rows(panel, future_targets(panel, [panel.last]))
    x = pd.DataFrame(rows.x, columns=rows.names)
    assert rows.frame["assumed"].tolist() == [True, False, True, True]
    assert x["k0"].tolist()[:2] == [pytest.approx(1.0), pytest.approx(1.1)]
    assert x["k1"].tolist()[:2] == [0.0, 1.0]


FUTURE = ("amount", "cost", "offer", "visitors")


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_what_comes_after_the_origin_changes_no_feature(data):
    """Amounts, unknown fields and actual prices of the future are shifted: the planned ones stay."""
    table = _plain_table()
    plan = plan_of(table)
    origin = data.draw(st.integers(3, 8))
    shifted = table.copy()
    future = (table["day"] > days(12)[origin]).to_numpy()
    for name in FUTURE:
        by = data.draw(st.floats(0.5, 50))
        shifted[name] = shifted[name].astype(float).where(~future, shifted[name] + by)
    for week in (origin + 2, origin + 3):
        before, after = (features_of(changed, plan, origin, week)[0] for changed in (table, shifted))
        assert before == after


def test_the_search_for_leaks_sees_one(table):
    """The same shift within the history moves features."""
    shifted = table.assign(amount=table["amount"] + 5.0)
    assert features_of(table, plan_of(table), 8, 11)[0] != features_of(shifted, plan_of(table), 8, 11)[0]


def test_training_rows_are_each_known_week_from_some_origins(table):
    table = table.assign(amount=table["amount"].astype(float))
    table.loc[8, "amount"] = np.nan
    panel = make_panel(table, plan_of(table), PLAIN, {})
    first = int(panel.described["first"].min())
    targets = training_targets(panel, per_week=5, seed=1, first_age=2)
    assert set(zip(targets["series"], targets["origin"] - first, targets["t"] - first, strict=True)) == {
        (series, week - step, week)
        for series in (0, 1)
        for week in range(12)
        for step in (2, 3)
        if week - step >= 2 and not (series == 0 and week == 8)
    }
    some = training_targets(panel, per_week=1, seed=1, first_age=2)
    assert len(some) < len(targets)
    pd.testing.assert_frame_equal(some, training_targets(panel, per_week=1, seed=1, first_age=2))


def _plain_table():
    frame = pd.DataFrame({"place": "A", "day": days(12)})
    frame["amount"] = np.arange(12) * 3 % 7 + 1.0
    frame["cost"], frame["offer"], frame["visitors"] = 2.0, 0, np.arange(12.0)
    return pd.concat([frame, frame.assign(place="B", amount=frame["amount"] * 4)], ignore_index=True)


@pytest.mark.parametrize("definition", [PLAIN, SERIES, Series(key=("k",), time="t", label=Quantity("n"))])
def test_the_statements_mean_the_same_to_duckdb_and_to_spark(definition):
    for name, query in statements(definition, 100):
        read = [sqlglot.parse_one(query, read=dialect) for dialect in ("duckdb", "spark")]
        for tree in read:
            for ordered in tree.find_all(sqlglot.exp.Ordered):
                ordered.set("nulls_first", None)  # windows are ordered by weeks, none of which is null
            for division in tree.find_all(sqlglot.exp.Div):
                division.set("safe", None)  # no divisor is zero: weights are above it, and prices go through NULLIF
        assert read[0] == read[1], name


def test_the_smallest_definition_has_features(table):
    definition = Series(key=("place",), time="day", label=Quantity("amount"), horizon=2, season=6)
    small = table[["place", "day", "amount"]]
    panel = make_panel(small, small.iloc[:0], definition, codes_of(small, definition))
    rows = make_rows(panel, future_targets(panel, [panel.last]))
    assert len(rows.frame) == 4
    assert not rows.frame["assumed"].any()  # nothing is planned, so nothing has to be assumed
    assert len(rows.names) == rows.x.shape[1] == len(set(rows.names))


@pytest.mark.parametrize("price", [0.0, 1e12])
def test_prices_of_zero_and_plans_far_from_all_that_was_are_features_as_well(table, price):
    planned = plan_of(table)
    planned = planned.assign(cost=planned["cost"].where(planned["day"] < days(12)[11], price))
    panel = make_panel(table, planned, PLAIN, codes_of(table, PLAIN))
    rows = make_rows(panel, future_targets(panel, [panel.last]))
    assert np.isfinite(rows.x).all()
    assert (rows.x[:, rows.names.index("alike")] > 0).all()
