"""How a window of production records differs from the champion's reference, field by field.

Windows are given as value counts, which an SQL engine makes of any number of rows; the figures are those of
the rows themselves.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

_PSI_BINS = 10
_FLOOR = 1e-4
"""Stands for an empty bin in the population stability index, which has no value there."""
_EXPECTED = 5.0
"""Categories with a smaller expected count are taken together: the chi-square test needs it."""


class Difference(msgspec.Struct, frozen=True):
    """One field's distance from its reference."""

    n: int
    """Values in the window; missing ones do not count."""
    p_value: float
    effect: float
    """Numeric: the KS distance. Category: the total variation distance. Both are the largest share of records by
    which the two differ, from 0 to 1, whatever the sizes of window and reference."""
    psi: float
    """Population stability index: 0.1 is a small shift, 0.25 a large one."""


def numeric_difference(reference: Array, values: Array, counts: NDArray[np.int64]) -> Difference:
    """Two-sample Kolmogorov-Smirnov.

    ``reference`` are sorted values ``[r]``; ``values`` sorted and distinct ``[v]``, with their ``counts`` ``[v]``.
    """
    n, size = int(counts.sum()), len(reference)
    if n == 0 or size == 0:
        return Difference(0, 1.0, 0.0, 0.0)
    points = np.unique(np.concatenate((reference, values)))
    cumulative = np.concatenate(([0], np.cumsum(counts)))
    window = cumulative[np.searchsorted(values, points, side="right")] / n
    distance = float(np.max(np.abs(window - np.searchsorted(reference, points, side="right") / size)))
    p_value = float(stats.kstwo.sf(distance, max(round(n * size / (n + size)), 1)))
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, _PSI_BINS + 1)[1:-1]))
    bins = len(edges) + 1
    expected = np.bincount(np.searchsorted(edges, reference, side="left"), minlength=bins)
    seen = np.bincount(np.searchsorted(edges, values, side="left"), weights=counts, minlength=bins)
    return Difference(n, min(p_value, 1.0), distance, _psi(expected, seen))


def category_difference(reference: NDArray[np.int64], counts: NDArray[np.int64]) -> Difference:
    """Chi-square over categories in the same order, unknown ones last, ``[categories + 1]`` each."""
    n, size = int(counts.sum()), int(reference.sum())
    if n == 0 or size == 0:
        return Difference(0, 1.0, 0.0, 0.0)
    effect = float(np.abs(counts / n - reference / size).sum() / 2)
    table = np.array([reference, counts], dtype=np.float64)
    expected = table.sum(axis=0) * min(n, size) / (n + size)
    rare = expected < _EXPECTED
    table = np.column_stack((table[:, ~rare], table[:, rare].sum(axis=1)))
    table = table[:, table.sum(axis=0) > 0]
    p_value = 1.0
    if table.shape[1] > 1:
        p_value = float(stats.chi2_contingency(table, correction=False).pvalue)
    return Difference(n, p_value, effect, _psi(reference, counts))


def category_counts(seen: Mapping[str, int], categories: Sequence[str]) -> NDArray[np.int64]:
    """Counts in the contract's order, with those of all other values last."""
    known = [int(seen.get(category, 0)) for category in categories]
    return np.array([*known, sum(seen.values()) - sum(known)], np.int64)


def _psi(expected: Array | NDArray[np.int64], seen: Array | NDArray[np.int64]) -> float:
    share = np.maximum(expected / expected.sum(), _FLOOR)
    other = np.maximum(seen / seen.sum(), _FLOOR)
    return float(np.sum((other - share) * np.log(other / share)))
