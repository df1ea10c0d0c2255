"""Made-up shops: weekly sales by store and item, and the plan of prices and offers. No real shop is like them.

Sales follow store and item, a trend, the season, price, offers and the leaflet. Some items sell once in a few weeks,
some begin late, some end early, and now and then a store runs out of one. A week without a sale has often no row. The
plan is what was known before: some weeks are not in it, and some prices changed afterwards.
Every table follows from its seed alone.
"""

from datetime import date
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from use_cases.demand.fields import SERIES

LAST_WEEK = date(2026, 11, 16)
"""The Monday that the last week of sales begins with."""
_WEEKS = 156
_RARE, _NEW, _ENDED = 0.12, 0.06, 0.05
"""Shares of series."""
_UNPLANNED, _CHANGED = 0.03, 0.02
"""Shares of the plan's rows that are missing, and whose price was another one in the end."""


class Shops(NamedTuple):
    """What a retailer has."""

    history: pd.DataFrame
    """``SERIES.columns``, sorted by key and week."""
    plan: pd.DataFrame
    """``SERIES.plan_columns`` of all weeks of the history and of those to come."""


def make_shops(stores: int, items: int, weeks: int, seed: int, last_week: date = LAST_WEEK) -> Shops:
    """So many stores, items and weeks of sales that end with ``last_week``, and a plan for the horizon after it."""
    rng = np.random.default_rng(seed)
    whole = weeks + SERIES.steps[-1]
    series = _series(rng, stores, items)
    t = np.arange(whole)
    monday = np.datetime64(last_week, "D") + 7 * (t - weeks + 1)
    price, deal, advertised = _plans(rng, series, whole)
    expected = _expected(rng, series, t, pd.DatetimeIndex(monday).day_of_year.to_numpy(), price, deal, advertised)
    units = rng.negative_binomial(15, 15 / (15 + expected))
    out_of_stock = np.where(rng.random(units.shape) < 0.015, rng.integers(1, 8, units.shape), 0)
    units = (units * (1 - out_of_stock / 7)).astype(np.int64)

    first = np.where(series["new"], rng.integers(weeks // 2, max(weeks - 8, weeks // 2 + 1), len(series)), 0)
    last = np.where(series["ended"], rng.integers(weeks // 2, weeks, len(series)), whole)
    listed = (t >= first[:, None]) & (t <= last[:, None])
    sold = listed & (t < weeks) & ~((units == 0) & (deal == 0) & (rng.random(units.shape) < 0.5))
    planned = listed & (rng.random(units.shape) >= _UNPLANNED)
    changed = np.where(rng.random(units.shape) < _CHANGED, np.round(price * 0.9, 2), price)

    def table(rows: NDArray[np.bool_], **columns: NDArray[np.int64] | NDArray[np.float64]) -> pd.DataFrame:
        which, week = np.nonzero(rows)
        frame = series[["store", "item"]].iloc[which].reset_index(drop=True).assign(week=monday[week])
        return frame.assign(**{name: values[rows] for name, values in columns.items()})

    history = table(sold, units=units, price=changed, deal=deal, advertised=advertised, out_of_stock=out_of_stock)
    plan = table(planned, price=price, deal=deal, advertised=advertised)
    return Shops(history[list(SERIES.columns)], plan[list(SERIES.plan_columns)])


def make_sample(rows: int, seed: int) -> pd.DataFrame:
    """About ``rows`` rows of three years of history."""
    return _sized(rows, seed).history


def make_plan(rows: int, seed: int) -> pd.DataFrame:
    """The plan that goes with ``make_sample`` of the same arguments."""
    return _sized(rows, seed).plan


def _sized(rows: int, seed: int) -> Shops:
    series = max(rows // _WEEKS, 4)
    stores = max(int(np.sqrt(series) / 1.5), 2)
    return make_shops(stores, max(series // stores, 2), _WEEKS, seed)


def _series(rng: np.random.Generator, stores: int, items: int) -> pd.DataFrame:
    """A row for each series: its names, its usual price and sales, and how it differs from others."""
    store, item = np.divmod(np.arange(stores * items), items)
    size = rng.normal(0, 0.4, stores)
    rare = rng.random(items) < _RARE
    popular = np.where(rare, rng.normal(-1.0, 0.3, items), rng.normal(3.0, 0.7, items))
    count = len(store)
    return pd.DataFrame(
        {
            "store": [f"S{number + 1:02d}" for number in store],
            "item": [f"I{number + 1:03d}" for number in item],
            "item_number": item,
            "level": size[store] + popular[item] + rng.normal(0, 0.25, count),
            "usual": np.round(np.exp(rng.normal(1.0, 0.5, items)) * 2, 1)[item] + 0.49,
            "trend": rng.normal(0, 0.10, items)[item] + rng.normal(0, 0.05, count),
            "swing": rng.uniform(0.05, 0.5, items)[item],
            "peak": rng.uniform(0, 365, items)[item],
            "elasticity": rng.uniform(1.0, 3.0, items)[item],
            "new": rng.random(count) < _NEW,
            "ended": rng.random(count) < _ENDED,
        }
    )


def _plans(
    rng: np.random.Generator, series: pd.DataFrame, weeks: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Prices, offers and the leaflet, ``[series, weeks]``: offers are an item's, in most stores at once."""
    items = int(series["item_number"].max()) + 1
    offers = rng.random((items, weeks)) < 0.12
    cut = rng.uniform(0.1, 0.35, (items, weeks))
    item = series["item_number"].to_numpy()
    deal = (offers[item] & (rng.random((len(series), weeks)) < 0.9)).astype(np.int64)
    advertised = deal * (rng.random((items, weeks)) < 0.5)[item]
    # The usual price is raised a little, once a year.
    raised = 1.025 ** (np.arange(weeks) // 52)
    price = series["usual"].to_numpy()[:, None] * raised * (1 - deal * cut[item])
    return np.round(price, 2), deal, advertised


def _expected(
    rng: np.random.Generator,
    series: pd.DataFrame,
    t: NDArray[np.int64],
    day: NDArray[np.int32],
    price: NDArray[np.float64],
    deal: NDArray[np.int64],
    advertised: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Expected sales, ``[series, weeks]``."""
    column = {name: series[name].to_numpy(float)[:, None] for name in ("level", "usual", "trend", "swing", "peak")}
    logs = column["level"] + column["trend"] * (t - t[-1] / 2) / 52
    logs = logs + column["swing"] * np.cos(2 * np.pi * (day - column["peak"]) / 365)
    logs = logs - series["elasticity"].to_numpy()[:, None] * np.log(price / column["usual"])
    logs = logs + 0.25 * deal + 0.4 * advertised
    # What a whole week has in common: weather, pay day.
    expected: NDArray[np.float64] = np.exp(logs + rng.normal(0, 0.06, len(t)))
    return expected
