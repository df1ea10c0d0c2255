"""How a forecaster is made: all choices and no data, so that a champion's can be fitted on any history."""

from typing import Literal

import msgspec


class Boosting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the gradient boosting, which is fitted on logarithms."""

    iterations: int = 200
    learning_rate: float = 0.08
    leaves: int = 31
    rows_in_leaf: int = 40
    l2: float = 0.0
    features: float = 0.5
    """Share of the features that each split may choose from."""
    bags: int = 1
    """Models, of different seeds, whose outcomes are averaged."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that ``fit`` needs beside tables and definition."""

    kind: Literal["seasonal_naive", "boosted"]
    point: Literal["median", "percent"] = "median"
    """What the point forecast minimises: absolute errors, or absolute errors as shares of the actual value (MAPE,
    which rewards forecasting low). The quantiles are the same either way."""
    boosting: Boosting = Boosting()
    origins: int = 6
    """Rolling origins within the history that the intervals are calibrated on."""
    per_week: int = 4
    """Origins, of different distance, that each week of the history is learned from."""
    intermittent: Literal["tsb", "croston"] = "tsb"
    """What forecasts the series that mostly sell nothing."""
    intermittent_zeros: float = 0.4
    """Share of weeks of zero, in the last half year, above which a series is one of those."""
    seed: int = 20


FIRST_CHAMPION = Recipe(kind="seasonal_naive")
"""The recipe of the first champion: the same week a season ago."""
