"""Small shops to forecast, and a recipe that is quick to fit."""

from datetime import date

import pandas as pd
import pytest

from training.forecasting.definition import Known, Quantity, Series
from training.forecasting.forecaster import Forecaster
from training.forecasting.recipe import Boosting, Recipe
from use_cases.demand.fields import SERIES
from use_cases.demand.sample import make_shops

QUICK = Recipe(
    kind="boosted",
    boosting=Boosting(iterations=25, leaves=15, rows_in_leaf=20, learning_rate=0.15),
    origins=2,
    per_week=2,
)


@pytest.fixture(scope="session")
def shops():
    return make_shops(stores=3, items=5, weeks=120, seed=3)


@pytest.fixture(scope="session")
def fitted(shops):
    return Forecaster.fit(QUICK, SERIES, shops.history, shops.plan)


PLAIN = Series(
    key=("place",),
    time="day",
    label=Quantity("amount"),
    known=(Known("cost", "last"), Known("offer", "zero")),
    unknown=("visitors",),
    absent="unknown",
    season=6,
    horizon=2,
    gap=2,
    ended_after=20,
)
"""One small series definition, whose tables can be written by hand."""
MONDAY = date(2026, 1, 5)


def days(count, first=MONDAY):
    return pd.date_range(first, periods=count, freq="7D")


@pytest.fixture
def table():
    """Two places, twelve weeks; amounts count up, offers in every fourth week."""
    parts = []
    for place, start in (("A", 10), ("B", 100)):
        frame = pd.DataFrame({"place": place, "day": days(12)})
        frame["amount"] = start + frame.index
        frame["cost"] = 2.0 + (frame.index % 4 == 3) * -0.5
        frame["offer"] = (frame.index % 4 == 3).astype(int)
        frame["visitors"] = frame.index * 7.0
        parts.append(frame)
    return pd.concat(parts, ignore_index=True)
