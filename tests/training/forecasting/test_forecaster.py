"""A fitted forecaster: what it forecasts, what moves it, and that it comes back from its files as it was."""

import msgspec
import numpy as np
import pandas as pd
import pytest

from tests.training.forecasting.conftest import QUICK
from training.forecasting.backtest import backtest, rolling_origins, with_actuals
from training.forecasting.forecaster import MANIFEST, OUTPUT, Forecaster, Spread, read_recipe
from training.forecasting.metrics import errors
from training.forecasting.recipe import FIRST_CHAMPION
from training.forecasting.reconcile import reconcile
from training.forecasting.series import TableError, split
from use_cases.demand.fields import SERIES
from use_cases.demand.sample import make_shops


@pytest.fixture(scope="module")
def forecast(shops, fitted):
    return fitted.forecast(shops.history, shops.plan)


@pytest.fixture(scope="module")
def origins(shops):
    return rolling_origins(shops.history, SERIES, 2)


@pytest.fixture(scope="module")
def backtests(shops, origins):
    """The backtest of each recipe, from all origins."""
    return {
        recipe.kind: backtest(recipe, SERIES, shops.history, shops.plan, origins) for recipe in (QUICK, FIRST_CHAMPION)
    }


@pytest.fixture(scope="module")
def tested(backtests):
    return backtests[QUICK.kind]


def test_every_series_that_has_not_ended_has_each_week_of_the_horizon_once(shops, forecast):
    newest = shops.history.groupby(list(SERIES.key))["week"].max()
    active = newest[newest > newest.max() - pd.Timedelta(weeks=SERIES.ended_after)].index
    assert len(active) > 0
    assert list(forecast.columns) == [*SERIES.key, SERIES.time, *OUTPUT]
    found = forecast.groupby(list(SERIES.key))["week"].agg(list)
    assert set(found.index) == set(active)
    weeks = pd.date_range(newest.max() + pd.Timedelta(weeks=1), periods=13, freq="7D").tolist()
    assert all(own == weeks for own in found)
    assert (forecast["horizon"].to_numpy().reshape(-1, 13) == np.arange(1, 14)).all()


def test_an_ended_series_is_not_forecast(shops, fitted):
    store, item = shops.history.loc[0, ["store", "item"]]
    own = (shops.history["store"] == store) & (shops.history["item"] == item)
    ended = shops.history[~own | (shops.history["week"] < "2026-06-01")]
    found = fitted.forecast(ended, shops.plan)
    assert not ((found["store"] == store) & (found["item"] == item)).any()


def test_quantiles_ascend_from_zero_and_the_point_is_the_median(forecast):
    assert (forecast[["forecast", "q10"]] >= 0).all(axis=None)
    assert (forecast["q10"] <= forecast["q50"]).all()
    assert (forecast["q50"] <= forecast["q90"]).all()
    boosted = forecast["model"] == "boosted"
    assert (forecast["forecast"] == forecast["q50"])[boosted].all()


def test_a_series_that_mostly_sells_nothing_is_forecast_by_its_mean():
    shops = make_shops(stores=2, items=3, weeks=90, seed=3)
    rare = shops.history["item"] == "I001"
    units = shops.history["units"].where(~rare, (np.arange(len(shops.history)) % 5 == 0).astype(int))
    history = shops.history.assign(units=units)
    for method in ("tsb", "croston"):
        recipe = msgspec.structs.replace(QUICK, intermittent=method)
        found = Forecaster.fit(recipe, SERIES, history, shops.plan).forecast(history, shops.plan)
        own = found[found["item"] == "I001"]
        assert set(own["model"]) == {method}
        assert own["forecast"].between(0.1, 0.4).all()
        assert (own["q10"] == 0).all()


def test_weeks_that_the_plan_does_not_list_are_counted(shops, fitted, forecast):
    future = shops.plan[shops.plan["week"] > shops.history["week"].max()]
    listed = forecast.merge(future, how="left", on=[*SERIES.key, SERIES.time])["price"].notna()
    assert (forecast["plan_assumed"] == ~listed).all()
    assert 0 < forecast["plan_assumed"].sum() < len(forecast) / 4
    without = fitted.forecast(shops.history, shops.plan[shops.plan["week"] <= shops.history["week"].max()])
    assert without["plan_assumed"].all()


def test_a_series_that_training_has_not_seen_is_forecast_and_flagged(shops, fitted):
    newest = shops.history["week"].max()
    new = shops.history[(shops.history["item"] == "I002") & (shops.history["week"] > newest - pd.Timedelta(weeks=6))]
    history = pd.concat([shops.history, new.assign(item="I999")])
    found = fitted.forecast(history, shops.plan)
    own = found[found["item"] == "I999"]
    assert len(own) == 13 * new["store"].nunique()
    assert own["short_history"].all()
    assert own["forecast"].mean() == pytest.approx(new["units"].mean(), rel=0.8)


def test_fewer_weeks_are_the_first_of_all(shops, fitted, forecast):
    some = fitted.forecast(shops.history, shops.plan, weeks=4)
    pd.testing.assert_frame_equal(some, forecast[forecast["horizon"] <= 4].reset_index(drop=True))
    for weeks in (0, 14):
        with pytest.raises(TableError, match="from 1 to 13"):
            fitted.forecast(shops.history, shops.plan, weeks=weeks)


def test_a_forecaster_comes_back_from_its_files_as_it_was(shops, fitted, forecast, tmp_path):
    fitted.save(tmp_path / "one")
    loaded = Forecaster.load(tmp_path / "one")
    pd.testing.assert_frame_equal(loaded.forecast(shops.history, shops.plan), forecast)
    assert read_recipe(tmp_path / "one") == QUICK
    loaded.save(tmp_path / "two")
    files = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert files == [MANIFEST, "q10.onnx", "q50.onnx", "q90.onnx"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_fitting_again_and_rows_in_another_order_make_the_same_forecaster(shops, fitted, tmp_path):
    shuffled = shops.history.sample(frac=1, random_state=1)
    Forecaster.fit(QUICK, SERIES, shuffled, shops.plan.sample(frac=1, random_state=2)).save(tmp_path / "other")
    fitted.save(tmp_path / "one")
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "other" / file.name).read_bytes()


def test_files_that_are_not_a_forecasters_are_refused(fitted, tmp_path):
    fitted.save(tmp_path)
    (tmp_path / "q50.onnx").write_bytes(b"not a model")
    with pytest.raises(TableError, match="does not open"):
        Forecaster.load(tmp_path)
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(TableError, match="is not a forecaster's"):
        Forecaster.load(tmp_path)


def test_a_history_that_is_too_short_is_refused_with_what_it_takes(shops):
    short = shops.history[shops.history["week"] > shops.history["week"].max() - pd.Timedelta(weeks=30)]
    with pytest.raises(TableError, match="takes at least 44"):
        Forecaster.fit(QUICK, SERIES, short, shops.plan)


@pytest.mark.parametrize("recipe", [QUICK, FIRST_CHAMPION], ids=lambda recipe: recipe.kind)
def test_the_future_of_unknown_fields_and_of_actual_prices_changes_no_forecast(shops, origins, backtests, recipe):
    """Whatever comes after the origin is shifted, but for what the plan says of it."""
    origin = origins[:1]
    future = shops.history["week"] > pd.Timestamp(origin[0])
    shifted = shops.history.copy()
    shifted.loc[future, "out_of_stock"] = 0
    shifted.loc[future, "units"] += 50
    shifted["price"] = shifted["price"].where(~future, shifted["price"] * 3)
    for name in ("deal", "advertised"):
        shifted[name] = shifted[name].where(~future, 1 - shifted[name])
    before, after = backtests[recipe.kind], backtest(recipe, SERIES, shifted, shops.plan, origin)
    before = before[before["origin"] == pd.Timestamp(origin[0])].reset_index(drop=True)
    columns = [*SERIES.key, SERIES.time, *OUTPUT]
    both = before[columns].merge(after[columns], on=[*SERIES.key, SERIES.time], suffixes=("", "_after"))
    assert len(both) == len(before) > 100
    for name in OUTPUT:
        assert (both[name] == both[f"{name}_after"]).all(), name
    assert not before["actual"].equals(after["actual"])


def test_the_plan_does_change_forecasts(shops, fitted, forecast):
    cheaper = shops.plan.assign(price=shops.plan["price"] * 0.7, deal=1)
    assert fitted.forecast(shops.history, cheaper)["forecast"].sum() != pytest.approx(
        forecast["forecast"].sum(), rel=0.02
    )


def test_a_backtest_has_what_came_and_covers_most_of_it(shops, backtests, tested, origins):
    assert set(tested["origin"].dt.date) == set(origins)
    actual = shops.history[[*SERIES.key, SERIES.time, "units", "out_of_stock"]]
    joined = tested.merge(actual, how="left", on=[*SERIES.key, SERIES.time])
    assert not (joined["out_of_stock"] > 0).any()
    assert (joined["actual"] == joined["units"].fillna(0)).all()
    found = errors(tested, SERIES)
    assert 0.7 < found.coverage < 0.9
    naive = errors(backtests[FIRST_CHAMPION.kind], SERIES)
    assert found.wape < 0.85 * naive.wape
    assert 0.7 < naive.coverage < 0.9


def test_the_scale_is_the_mean_squared_change_up_to_the_origin(shops, tested, origins):
    known, _ = split(shops.history, SERIES, origins[0])
    key = ("S01", "I002")
    own = known[(known["store"] == key[0]) & (known["item"] == key[1])].set_index("week")
    units = own["units"].where(own["out_of_stock"] == 0)
    weeks = pd.date_range(units.index.min(), pd.Timestamp(origins[0]), freq="7D")
    y = units.reindex(weeks, fill_value=0)
    row = tested[(tested["store"] == key[0]) & (tested["item"] == key[1]) & (tested["origin"] == weeks[-1])].iloc[0]
    assert row["scale"] == pytest.approx((y.diff() ** 2).mean())


def test_written_forecasts_meet_their_actuals_when_these_arrive(shops, origins):
    known, _ = split(shops.history, SERIES, origins[-1])
    champion = Forecaster.fit(FIRST_CHAMPION, SERIES, known, shops.plan)
    written = champion.forecast(known, shops.plan).assign(origin=pd.Timestamp(origins[-1]))
    weeks_later, _ = split(shops.history, SERIES, pd.Timestamp(origins[-1] + pd.Timedelta(weeks=3)).date())
    assert set(with_actuals(written, weeks_later, SERIES)["horizon"]) == {1, 2, 3}
    assert not len(with_actuals(written, known, SERIES))


def test_sums_add_up(fitted, forecast):
    whole = reconcile(forecast, SERIES, fitted.manifest.spreads)
    assert set(whole["level"]) == {"series", "total", "store", "item"}
    by_week = whole.groupby(["level", "week"])["forecast"].sum().unstack("level")
    for level in ("total", "store", "item"):
        np.testing.assert_allclose(by_week[level], by_week["series"], rtol=1e-12)
    stores = whole[whole["level"] == "store"].set_index(["store", "week"])["forecast"]
    by_hand = forecast.groupby(["store", "week"])["forecast"].sum()
    pd.testing.assert_series_equal(stores.sort_index(), by_hand.sort_index(), check_index_type=False)
    assert whole.loc[whole["level"] == "total", ["store", "item"]].isna().all(axis=None)
    assert (whole["q10"] <= whole["q90"]).all()
    # Errors of series cancel out: the interval of a sum is narrower than the sum of intervals.
    total = whole[whole["level"] == "total"]
    widths = (forecast["q90"] - forecast["q10"]).sum()
    assert 0 < (total["q90"] - total["q10"]).sum() < widths


@pytest.mark.parametrize(("low", "high"), [(-0.3, 0.2), (0.1, 0.4), (-0.5, -0.1)])
def test_interval_of_a_sum_holds_its_forecast_whichever_way_the_forecaster_was_off(forecast, low, high):
    whole = reconcile(forecast, SERIES, [Spread((), low, high)])
    total = whole[whole["level"] == "total"]
    assert (total["q50"] == total["forecast"]).all()
    assert (total["q10"] <= total["forecast"]).all()
    assert (total["forecast"] <= total["q90"]).all()
