"""Rolling origins: forecasts as they would have been made in the past, beside what came then."""

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.forecasting.definition import Series
from training.forecasting.forecaster import Forecaster
from training.forecasting.recipe import Recipe
from training.forecasting.series import Panel, codes_of, last_week, make_panel, split

BACKTEST = ("origin", "actual", "scale")
"""Columns that a backtest has beside those of a forecast: the last week that was known; the quantity that came; mean
squared weekly change of the series up to the origin, by which RMSSE divides. Rows whose actual is unknown (no row where
that means unknown, or censored) are left out."""


def rolling_origins(history: pd.DataFrame, definition: Series, count: int, step: int | None = None) -> list[date]:
    """The last ``count`` weeks, ``step`` (a horizon without it) apart, whose whole horizon lies in the history."""
    newest = last_week(history, definition) - timedelta(weeks=definition.steps[-1])
    return [newest - timedelta(weeks=place * (step or definition.horizon)) for place in range(count - 1, -1, -1)]


def backtest(
    recipe: Recipe, definition: Series, history: pd.DataFrame, plan: pd.DataFrame, origins: Sequence[date]
) -> pd.DataFrame:
    """Fit the recipe again on the history up to each origin, and forecast from there.

    A champion is compared by its recipe (``read_recipe``), not by its fitted models: those may have seen the weeks.
    Raises ``TableError``.
    """
    parts = []
    for origin in origins:
        known, _ = split(history, definition, origin)
        fitted = Forecaster.fit(recipe, definition, known, plan)
        parts.append(fitted.forecast(known, plan).assign(origin=pd.Timestamp(origin)))
    return with_actuals(pd.concat(parts, ignore_index=True), history, definition)


def with_actuals(forecast: pd.DataFrame, history: pd.DataFrame, definition: Series) -> pd.DataFrame:
    """The rows of forecasts (with column ``origin``) whose weeks have ended, with the columns of ``BACKTEST``.

    For monitoring too: forecasts as they were written, once actuals arrive. Raises ``TableError``.
    """
    # Sums need no plan, and codes only number the series.
    panel = make_panel(
        history, pd.DataFrame(columns=definition.plan_columns), definition, codes_of(history, definition)
    )
    actual = panel.observed[["series", "t", "y"]].rename(columns={"y": "actual"})
    numbers = panel.keys.assign(series=np.arange(len(panel.keys)))
    rows = forecast.merge(numbers, how="inner", on=list(definition.key))
    rows["t"] = _weeks(rows[definition.time])
    rows = rows.merge(actual[actual["actual"].notna()], how="inner", on=["series", "t"])
    rows["until"] = _weeks(rows["origin"])
    rows = rows.merge(_scales(panel, rows["until"].unique()), how="left", on=["series", "until"])
    order = ["origin", *definition.key, definition.time]
    rows = rows.drop(columns=["series", "t", "until"])
    return rows.sort_values(order, ignore_index=True)


def _scales(panel: Panel, origins: NDArray[np.int64]) -> pd.DataFrame:
    """``series, until, scale``: mean squared change between known weeks that follow each other, up to each origin."""
    observed = panel.observed.sort_values(["series", "t"])
    by_series = observed.groupby("series")
    change = by_series["y"].diff().where(by_series["t"].diff() == 1) ** 2
    observed = observed.assign(total=change.fillna(0.0), count=change.notna())
    sums = observed.groupby("series")[["total", "count"]].cumsum().assign(series=observed["series"], t=observed["t"])
    latest = [sums[sums["t"] <= origin].groupby("series").last().assign(until=origin) for origin in origins]
    whole = pd.concat([sums.iloc[:0].set_index("series").assign(until=0), *latest]).reset_index()
    whole["scale"] = whole["total"] / whole["count"].where(whole["count"] > 0)
    scales: pd.DataFrame = whole[["series", "until", "scale"]]
    return scales


def _weeks(days: pd.Series) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = pd.to_datetime(days).to_numpy().astype("datetime64[D]").astype(np.int64) // 7
    return numbers
