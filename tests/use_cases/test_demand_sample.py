"""The made-up shops: seeded, complete, and with all that makes forecasting hard."""

import numpy as np
import pandas as pd
import pytest

from use_cases.demand.fields import FIELDS, SERIES
from use_cases.demand.sample import make_plan, make_sample, make_shops


@pytest.fixture(scope="module")
def shops():
    return make_shops(stores=12, items=40, weeks=156, seed=1)


def test_same_seed_gives_the_same_shops():
    one, two = make_shops(2, 3, 60, 5), make_shops(2, 3, 60, 5)
    pd.testing.assert_frame_equal(one.history, two.history)
    pd.testing.assert_frame_equal(one.plan, two.plan)
    assert not one.history.equals(make_shops(2, 3, 60, 6).history)


def test_columns_are_those_of_the_definition_and_values_those_of_the_fields(shops):
    assert list(shops.history.columns) == list(SERIES.columns)
    assert list(shops.plan.columns) == list(SERIES.plan_columns)
    for table in shops:
        assert not table.duplicated([*SERIES.key, SERIES.time]).any()
        assert (table["week"].dt.day_name() == "Monday").all()
        for field in FIELDS:
            if field.name in table and field.kind != "category":
                assert table[field.name].between(field.minimum, field.maximum).all()


def test_plan_goes_a_horizon_beyond_the_history_and_is_not_quite_what_came(shops):
    assert shops.plan["week"].max() == shops.history["week"].max() + pd.Timedelta(weeks=SERIES.horizon)
    both = shops.history.merge(shops.plan, how="left", on=[*SERIES.key, SERIES.time], suffixes=("", "_planned"))
    assert 0.01 < both["price_planned"].isna().mean() < 0.06
    planned = both[both["price_planned"].notna()]
    assert 0.005 < (planned["price"] != planned["price_planned"]).mean() < 0.04
    assert (planned["deal"] == planned["deal_planned"]).all()


def test_sales_follow_offers_season_and_price(shops):
    often = shops.history[shops.history.groupby("item")["units"].transform("mean") > 5]
    relative = often["units"] / often.groupby(["store", "item"])["units"].transform("mean")
    offer, leaflet = often["deal"] == 1, often["advertised"] == 1
    assert relative[offer & leaflet].mean() > relative[offer & ~leaflet].mean() > 1.3 * relative[~offer].mean()
    month = relative[~offer].groupby([often["item"], often["week"].dt.month]).mean().unstack()
    assert (month.max(axis=1) / month.min(axis=1)).median() > 1.3


def test_some_series_are_rare_new_or_ended_and_some_weeks_sold_out(shops):
    weeks = shops.history.groupby(["store", "item"])["week"]
    newest = shops.history["week"].max()
    assert 0.02 < (weeks.min() > newest - pd.Timedelta(weeks=100)).mean() < 0.15
    assert 0.02 < (weeks.max() < newest - pd.Timedelta(weeks=SERIES.ended_after)).mean() < 0.15
    assert 0.005 < (shops.history["out_of_stock"] > 0).mean() < 0.03
    zeros = shops.history["units"].eq(0).groupby(shops.history["item"]).mean()
    assert 0.02 < (zeros > 0.3).mean() < 0.3
    sold_out = shops.history["out_of_stock"] == 7
    assert (shops.history.loc[sold_out, "units"] == 0).all()


def test_the_rails_ask_for_a_number_of_rows():
    history = make_sample(3000, 2)
    assert 0.7 < len(history) / 3000 < 1.3
    plan = make_plan(3000, 2)
    assert set(map(tuple, history[list(SERIES.key)].drop_duplicates().to_numpy())) == set(
        map(tuple, plan[list(SERIES.key)].drop_duplicates().to_numpy())
    )
    assert np.issubdtype(history["units"].dtype, np.integer)
