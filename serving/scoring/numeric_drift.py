"""Kolmogorov-Smirnov tests of all numeric fields at once.

Everything that depends on the reference alone is laid out at load time: a value becomes a *cell*, the
place it takes among the distinct reference values of its field (before, on, or between them), and what the
test wants to know of a value is looked up by its cell.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.scoring import ks

_TABLE_SPAN = 65_536
"""Whole reference values within this span are found by a table; other fields by binary search."""

_REMEMBERED = 20_000
"""P-values kept, a few MiB. Exact ones are costly, and the same statistics come again and again."""

_MISSING = 0  # the cell of a missing value, shared by all fields


class NumericDrift:
    """The references of the numeric drift fields. Thread-safe."""

    def __init__(self, references: Sequence[NDArray[np.float64]]) -> None:
        """``references``: each field's non-missing reference values, at least one, in any order."""
        self._sizes = [len(reference) for reference in references]
        up_to, before = [np.array([np.inf])], [np.array([-np.inf])]
        first = 1
        self._distinct: list[NDArray[np.float64]] = []
        self._first_cells: list[int] = []
        for reference in references:
            distinct, counts = np.unique(reference, return_counts=True)
            ranks = np.concatenate([[0], np.cumsum(counts)]) / len(reference)
            self._distinct.append(distinct)
            self._first_cells.append(first)
            up_to.append(np.repeat(ranks, 2)[1:])  # cells: before u1, on u1, between u1 and u2, on u2, ...
            before.append(np.repeat(ranks, 2)[:-1])
            first += 2 * len(distinct) + 1
        # The reference's distribution function at a value, and just before it, by cell.
        self._up_to, self._before = np.concatenate(up_to), np.concatenate(before)
        self._single = self._single_record_p_values()
        self._lay_out_tables()
        self._remembered: dict[tuple[int, int, int], float] = {}

    def p_values(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """One p-value a field for a sample ``[fields, n]``; 1 where a field has no value at all."""
        cells = self._cells(values)
        if cells.shape[1] == 1:
            return self._single[cells[:, 0]]
        cells.sort(axis=1)  # missing ones first
        n = cells.shape[1]
        missing = np.count_nonzero(cells == _MISSING, axis=1) if not cells[:, 0].all() else None
        ranks = np.arange(n + 1.0)
        if missing is None:
            share = ranks / n
            after, until = share[1:], share[:-1]
        else:
            places = ranks[None, :] - missing[:, None]
            share = places / np.maximum(n - missing, 1)[:, None]
            after, until = share[:, 1:], share[:, :-1]
        above = (after - self._up_to[cells]).max(axis=1)
        below = (self._before[cells] - until).max(axis=1)
        statistics = np.maximum(np.maximum(above, below), 0.0)
        sizes = [n] * len(cells) if missing is None else (n - missing).tolist()
        return self._look_up(statistics.tolist(), sizes)

    def _cells(self, values: NDArray[np.float64]) -> NDArray[np.int32]:
        cells = np.empty(values.shape, dtype=np.int32)
        if len(self._tabled):
            place = values[self._tabled] - self._shift
            np.maximum(place, 1, out=place)
            np.fmax(place, 0, out=place)  # NaN, which maximum lets through, becomes slot 0
            np.minimum(place, self._top, out=place)
            cells[self._tabled] = self._table[place.astype(np.int32) + self._table_start]
        for field in self._searched:
            distinct, row = self._distinct[field], values[field]
            found = np.searchsorted(distinct, row, "left") + np.searchsorted(distinct, row, "right")
            cells[field] = np.where(np.isnan(row), _MISSING, found + self._first_cells[field])
        return cells

    def _look_up(self, statistics: list[float], sizes: list[int]) -> NDArray[np.float64]:
        """P-values of statistics, from memory where they were computed before."""
        lcm = math.lcm
        keys = [(n, m, round(d * lcm(n, m))) for d, n, m in zip(statistics, sizes, self._sizes, strict=True)]
        known = self._remembered  # another thread may begin a new one
        found = list(map(known.get, keys))
        if None in found:
            known.update(_computed({key for key, p in zip(keys, found, strict=True) if p is None}))
            found = list(map(known.get, keys))
            if len(known) > _REMEMBERED:
                self._remembered = {}
        return np.array(found)

    def _single_record_p_values(self) -> NDArray[np.float64]:
        """The p-value of a one-value sample, by cell."""
        p_values = [np.ones(1)]
        for first, distinct, m in zip(self._first_cells, self._distinct, self._sizes, strict=True):
            cells = slice(first, first + 2 * len(distinct) + 1)
            statistic = np.maximum(1 - self._up_to[cells], self._before[cells])
            p_values.append(ks.p_values(np.rint(statistic * m).astype(np.int64), 1, m))
        return np.concatenate(p_values)

    def _lay_out_tables(self) -> None:
        """For each field of whole numbers: missing, below all, each integer of the span, above all -> cell."""
        tabled, tables, shift, start, length = [], [], [], [], 0
        for field, distinct in enumerate(self._distinct):
            low, high = distinct[0], distinct[-1]
            if high - low >= _TABLE_SPAN or np.any(distinct != np.rint(distinct)):
                continue
            integers = np.arange(low - 1, high + 2)
            cells = np.searchsorted(distinct, integers, "left") + np.searchsorted(distinct, integers, "right")
            table = np.concatenate([[_MISSING], cells + self._first_cells[field]])
            tabled.append(field)
            tables.append(table)
            shift.append(low - 2)
            start.append(length)
            length += len(table)
        self._tabled = np.array(tabled, dtype=np.intp)
        self._searched = [field for field in range(len(self._distinct)) if field not in set(tabled)]
        self._table = np.concatenate([*tables, []]).astype(np.int32)
        self._shift = np.array(shift)[:, None]
        self._top = np.array([[len(table) - 1.0] for table in tables])
        self._table_start = np.array(start, dtype=np.int32)[:, None]


def _computed(keys: set[tuple[int, int, int]]) -> dict[tuple[int, int, int], float]:
    """The p-value of each (n, m, h); those of equal sizes are one calculation."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for n, m, h in keys:
        by_size.setdefault((n, m), []).append(h)
    computed: dict[tuple[int, int, int], float] = {}
    for (n, m), hs in by_size.items():
        p_values = ks.p_values(np.array(hs), n, m).tolist() if n else [1.0] * len(hs)
        computed |= {(n, m, h): p for h, p in zip(hs, p_values, strict=True)}
    return computed
