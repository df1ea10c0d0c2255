"""A fitted forecaster: what training registers, and what writes the weekly forecasts."""

from pathlib import Path
from typing import Self

import pandas as pd

from training.forecasting.definition import Series
from training.forecasting.recipe import Recipe

FLAGS = ("plan_assumed", "short_history")
OUTPUT = ("horizon", "forecast", "q10", "q50", "q90", "model", *FLAGS)
"""Columns of a forecast after the key and the time: horizon int32 from 1; amounts float64, at least zero and ascending
from ``q10`` to ``q90``; model ``boosted``, ``tsb`` or ``seasonal_naive``; ``plan_assumed`` bool, whether a known field
of the week was assumed because the plan does not list it; ``short_history`` bool, whether the series has less than
one season of weeks. ``forecast`` is the point forecast: the median, for ``tsb`` the mean, or what the recipe wants."""


class Forecaster:
    """Forecasts of every series that has not ended. Made by ``fit`` or ``load``."""

    definition: Series
    recipe: Recipe
    trained_until: str
    """The last week of the history that it was fitted on, an ISO date."""

    @classmethod
    def fit(cls, recipe: Recipe, definition: Series, history: pd.DataFrame, plan: pd.DataFrame) -> Self:
        """Fit on all of ``history``; the same tables and recipe give the same forecaster.

        Intervals are calibrated on rolling origins within the history. Raises ``TableError``.
        """
        raise NotImplementedError

    def forecast(self, history: pd.DataFrame, plan: pd.DataFrame, weeks: int | None = None) -> pd.DataFrame:
        """The first ``weeks`` (all of the horizon without it) after the last week of ``history`` and the gap.

        Columns: key, time, ``OUTPUT``; sorted by key and time. Of ``plan`` the rows of every week count, of ``history``
        whatever there is: a series that training has not seen is forecast too. Raises ``TableError``.
        """
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write ``forecaster.json`` and the models, ``*.onnx``: nothing that has to be unpickled, the same bytes for
        the same forecaster."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote; raises ``OSError`` or ``TableError``."""
        raise NotImplementedError


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a saved forecaster, without loading its models."""
    raise NotImplementedError
