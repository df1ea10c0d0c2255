"""Croston's method (with Syntetos and Boylan's correction) and TSB, for series that mostly sell nothing.

Both smooth the size of a sale and how often one comes, week by week, for all series at once.
"""

import numpy as np
from numpy.typing import NDArray


def tsb(y: NDArray[np.float64], size_rate: float = 0.2, chance_rate: float = 0.1) -> NDArray[np.float64]:
    """Expected quantity a week after the last one, ``[series]``, by Teunter, Syntetos and Babai.

    ``y``: ``[series, weeks]``, NaN where it is unknown. The chance of a sale falls with each week without one, so that
    the forecast of an item that nobody wants any more goes to zero. A series without a known week is forecast as zero.
    """
    size, chance = _start(y)
    for week in y.T:
        known, sold = ~np.isnan(week), week > 0
        size = np.where(sold, size + size_rate * (week - size), size)
        chance = np.where(known, chance + chance_rate * (sold - chance), chance)
    return size * chance


def croston(y: NDArray[np.float64], rate: float = 0.1) -> NDArray[np.float64]:
    """Expected quantity a week after the last one, ``[series]``: smoothed size by smoothed interval, corrected.

    ``y`` as for ``tsb``. What is known of a series changes with its sales alone.
    """
    size, chance = _start(y)
    interval = np.divide(1.0, chance, out=np.ones_like(chance), where=chance > 0)
    since = np.zeros(len(y))
    for week in y.T:
        sold = week > 0
        since += ~np.isnan(week)
        size = np.where(sold, size + rate * (week - size), size)
        interval = np.where(sold, interval + rate * (since - interval), interval)
        since[sold] = 0
    return (1 - rate / 2) * size / interval


def _start(y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean size of a sale and share of weeks with one, over the first half year that a series has."""
    known = ~np.isnan(y)
    early = known & (known.cumsum(axis=1) <= 26)
    sold = early & (np.nan_to_num(y) > 0)
    sales = sold.sum(axis=1)
    size = np.divide(np.where(sold, y, 0.0).sum(axis=1), sales, out=np.zeros(len(y)), where=sales > 0)
    weeks = early.sum(axis=1)
    chance = np.divide(sales, weeks, out=np.zeros(len(y)), where=weeks > 0)
    return size, chance
