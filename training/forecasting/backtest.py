"""Rolling origins: forecasts as they would have been made in the past, beside what came then."""

from collections.abc import Sequence
from datetime import date

import pandas as pd

from training.forecasting.definition import Series
from training.forecasting.forecaster import Forecaster
from training.forecasting.recipe import Recipe

BACKTEST = ("origin", "actual", "scale")
"""Columns that a backtest has beside those of a forecast: the last week that was known; the quantity that came; mean
squared weekly change of the series up to the origin, by which RMSSE divides. Rows whose actual is unknown (no row where
that means unknown, or censored) are left out."""


def rolling_origins(history: pd.DataFrame, definition: Series, count: int, step: int | None = None) -> list[date]:
    """The last ``count`` weeks, ``step`` (a horizon without it) apart, whose whole horizon lies in the history."""
    raise NotImplementedError


def backtest(
    recipe: Recipe, definition: Series, history: pd.DataFrame, plan: pd.DataFrame, origins: Sequence[date]
) -> pd.DataFrame:
    """Fit the recipe anew on the history up to each origin, and forecast from there.

    A champion is compared by its recipe (``read_recipe``), not by its fitted models: those may have seen the weeks.
    """
    raise NotImplementedError


def with_actuals(forecast: pd.DataFrame, history: pd.DataFrame, definition: Series) -> pd.DataFrame:
    """The rows of a forecast (or of several, with ``origin``) whose weeks have ended, with ``BACKTEST``'s columns.

    For monitoring: forecasts as they were written, once actuals arrive.
    """
    raise NotImplementedError


def champion_rows(
    champion: Forecaster, definition: Series, history: pd.DataFrame, plan: pd.DataFrame, origins: Sequence[date]
) -> pd.DataFrame:
    """A fitted forecaster as it is, from origins that are not before its ``trained_until``."""
    raise NotImplementedError
