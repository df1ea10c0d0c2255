"""Conformal correction: move the ends of intervals so that past weeks lay between them as often as is claimed."""

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

TAIL = 0.1
"""Share of actual values below the lower end, and above the upper one."""
_ENOUGH = 300
"""Rows that a step needs for a correction of its own."""


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
    low: NDArray[np.float64], high: NDArray[np.float64], actual: NDArray[np.float64], steps: NDArray[np.int64]
) -> Correction:
    """The moves after which a tail of ``TAIL`` lies on each side (conformalised quantile regression, an end each).

    All in logarithms, ``[rows]``; a row whose actual is NaN says nothing. Without rows nothing moves.
    """
    known = ~np.isnan(actual)
    low, high, actual, steps = low[known], high[known], actual[known], steps[known]
    by_step = {
        int(step): _ends(low[own], high[own], actual[own])
        for step in np.unique(steps)
        for own in [steps == step]
        if own.sum() >= _ENOUGH
    }
    return Correction(_ends(low, high, actual), by_step)


def _ends(low: NDArray[np.float64], high: NDArray[np.float64], actual: NDArray[np.float64]) -> Ends:
    return Ends(_tail(low - actual), _tail(actual - high))


def _tail(scores: NDArray[np.float64]) -> float:
    """The score that a share of ``TAIL`` lies above, counting the row to come as the method does."""
    if not len(scores):
        return 0.0
    place = min(math.ceil((len(scores) + 1) * (1 - TAIL)), len(scores))
    return float(np.partition(scores, place - 1)[place - 1])
