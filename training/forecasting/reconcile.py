"""Sums of forecasts over parts of the key: what is forecast for a group is the sum of its series."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from training.forecasting.definition import Series
from training.forecasting.forecaster import Spread

SERIES = "series"
TOTAL = "total"


def level_name(level: tuple[str, ...]) -> str:
    """What a level is called: its fields joined by ``+``, or ``total``."""
    return "+".join(level) or TOTAL


def reconcile(forecast: pd.DataFrame, definition: Series, spreads: Sequence[Spread]) -> pd.DataFrame:
    """The forecast with a row for each sum of each level, and with column ``level`` in front.

    ``level`` is ``series`` for the rows that were there, ``total`` for the sum of all, and otherwise the level's
    fields joined by ``+``. Fields that a level sums over are null. Point forecasts add up exactly. Intervals do not:
    those of sums are as wide as sums were off in the past (``Forecaster.manifest.spreads``). ``plan_assumed`` and
    ``short_history`` of a sum say whether that holds of any of its series; ``model`` is ``sum``.
    """
    parts = [forecast.assign(level=SERIES)]
    for spread in spreads:
        by = [*spread.level, definition.time, "horizon"]
        sums = forecast.groupby(by, as_index=False).agg(
            forecast=("forecast", "sum"), plan_assumed=("plan_assumed", "any"), short_history=("short_history", "any")
        )
        low, high = (np.expm1(np.log1p(sums["forecast"]) + move) for move in (spread.low, spread.high))
        sums["q50"] = sums["forecast"]
        # A forecaster that was off in one direction alone has both ends on one side of its forecast.
        sums["q10"], sums["q90"] = low.clip(0.0, sums["forecast"]), np.maximum(high, sums["forecast"])
        parts.append(sums.assign(level=level_name(spread.level), model="sum"))
    whole = pd.concat(parts, ignore_index=True)
    return whole[["level", *forecast.columns]]
