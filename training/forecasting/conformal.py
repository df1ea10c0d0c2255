"""Conformal correction: move the ends of intervals so that past weeks lay between them as often as is claimed.

All series of one week are off in the same direction more often than not (weather, a holiday, an offer of the largest
item), so thousands of rows of a few weeks say less than their number promises, and ends that suit exactly these weeks
are too narrow for the next one. What stands for the week to come is therefore a past week as a whole: the ends are
those that, taken from the other weeks, leave the promised tail of a week that was left out.
"""

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

TAIL = 0.1
"""Share of actual values below the lower end, and above the upper one."""
_ENOUGH = 300
"""Rows that a step needs for a correction of its own."""
_FEWEST_WEEKS = 3
_HALVINGS = 24
"""Steps of the search for a level: it is found to seven digits, and there are fewer rows than that."""


class Ends(msgspec.Struct, frozen=True):
    """By how much the ends of an interval move outwards, in logarithms; below zero, inwards."""

    low: float
    high: float


class Correction(msgspec.Struct, frozen=True):
    """The moves of one model, by step where there were rows enough."""

    all: Ends
    by_step: dict[int, Ends] = {}

    def moves(self, steps: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The moves of each row."""
        ends = [self.by_step.get(int(step), self.all) for step in steps]
        return np.array([end.low for end in ends]), np.array([end.high for end in ends])


def correction(
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    actual: NDArray[np.float64],
    steps: NDArray[np.int64],
    weeks: NDArray[np.int64],
) -> Correction:
    """The moves after which a tail of ``TAIL`` lies on each side of a week that was left out, an end each.

    All ``[rows]``, the amounts in logarithms; ``weeks`` numbers the week that a row is about. A row whose actual is NaN
    says nothing. Without rows nothing moves.
    """
    known = ~np.isnan(actual)
    low, high, actual, steps, weeks = low[known], high[known], actual[known], steps[known], weeks[known]
    by_step = {
        int(step): _ends(low[own], high[own], actual[own], weeks[own])
        for step in np.unique(steps)
        for own in [steps == step]
        if own.sum() >= _ENOUGH
    }
    return Correction(_ends(low, high, actual, weeks), by_step)


def _ends(
    low: NDArray[np.float64], high: NDArray[np.float64], actual: NDArray[np.float64], weeks: NDArray[np.int64]
) -> Ends:
    return Ends(_tail(low - actual, weeks), _tail(actual - high, weeks))


def _tail(scores: NDArray[np.float64], weeks: NDArray[np.int64]) -> float:
    """The score that a share of ``TAIL`` of a week to come lies above."""
    if not len(scores):
        return 0.0
    return _quantile(np.sort(scores), _level(scores, weeks))


def _level(scores: NDArray[np.float64], weeks: NDArray[np.int64]) -> float:
    """The level of the quantile of all weeks but one that a share of ``TAIL`` of this one lies above, on average.

    With fewer than three weeks there is nothing to choose it by, and it is the claimed one.
    """
    numbers = np.unique(weeks)
    if len(numbers) < _FEWEST_WEEKS:
        return 1 - TAIL
    parts = [(np.sort(scores[weeks == one]), np.sort(scores[weeks != one])) for one in numbers]
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        level = (low + high) / 2
        below = [np.searchsorted(own, _quantile(others, level), side="right") / len(own) for own, others in parts]
        low, high = (level, high) if np.mean(below) < 1 - TAIL else (low, level)
    return high


def _quantile(ascending: NDArray[np.float64], level: float) -> float:
    """The score at a level, counting the row to come as the method does."""
    place = min(max(math.ceil((len(ascending) + 1) * level), 1), len(ascending))
    return float(ascending[place - 1])
