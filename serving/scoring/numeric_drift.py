"""Kolmogorov-Smirnov tests of all numeric fields at once.

Everything that depends on the reference alone is laid out at load time: a value becomes a *cell*, the
place it takes among the distinct reference values of its field (before, on, or between them), and what the
test wants to know of a value is looked up by its cell.
"""

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.scoring import ks

_TABLE_SPAN = 65_536
"""Fields of whole numbers whose reference lies within this span are found by a table; other fields by binary search."""

_REMEMBERED = 20_000
"""P-values kept, a few MiB. Exact ones are costly, and the same statistics come again and again."""

_MANY = 300
"""Values of a field from which on to count what falls into each cell takes less time than to put them in order."""

_MISSING = 0  # the cell of a missing value, shared by all fields


class NumericDrift:
    """The references of the numeric drift fields. Thread-safe."""

    def __init__(self, references: Sequence[NDArray[np.float64]], whole: Sequence[bool]) -> None:
        """``references``: each field's non-missing reference values, at least one, in any order.

        ``whole``: whether the contract holds the field to whole numbers.
        """
        self._sizes = np.array([len(reference) for reference in references], dtype=np.int64)
        up_to, before = [np.array([np.inf])], [np.array([-np.inf])]
        self._distinct: list[NDArray[np.float64]] = []
        for reference in references:
            distinct, counts = np.unique(reference, return_counts=True)
            ranks = np.concatenate([[0], np.cumsum(counts)]) / len(reference)
            self._distinct.append(distinct)
            up_to.append(np.repeat(ranks, 2)[1:])  # cells: before u1, on u1, between u1 and u2, on u2, ...
            before.append(np.repeat(ranks, 2)[:-1])
        self._lengths = np.array([2 * len(distinct) + 1 for distinct in self._distinct], dtype=np.intp)
        self._first_cells = 1 + np.cumsum(self._lengths) - self._lengths
        # By cell: minus the reference's distribution function at a value, and that function just before it.
        self._function = np.stack([-np.concatenate(up_to), np.concatenate(before)])
        self._single = self._single_record_p_values()
        self._lay_out_tables(whole)
        self._remembered: dict[tuple[int, int, int], float] = {}

    def p_values(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """One p-value for each field of a sample ``[fields, n]``; 1 where a field has no value at all."""
        cells = self._cells(values)
        if cells.shape[1] == 1:
            return self._single[cells[:, 0]]
        find = self._by_count if cells.shape[1] > _MANY else self._by_order
        return self._look_up(*find(cells))

    def _by_order(self, cells: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Each field's statistic and the size of its sample, from every value and its rank."""
        cells.sort(axis=1)  # missing ones first
        n = cells.shape[1]
        if cells[:, 0].all():
            sizes = np.full(len(cells), n)
            distance = self._function.take(cells, axis=1) + _sample_function(n)
        else:
            missing = np.count_nonzero(cells == _MISSING, axis=1)
            sizes = n - missing
            share = (np.arange(n + 1) - missing[:, None]) / np.maximum(sizes, 1)[:, None]
            distance = self._function.take(cells, axis=1) + np.stack([share[:, 1:], -share[:, :-1]])
        return np.maximum.reduce(distance, axis=(0, 2), initial=0.0), sizes

    def _by_count(self, cells: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The same, from the values up to the end of each cell: the functions are farthest apart at one of these."""
        up_to = np.bincount(cells.ravel(), minlength=self._function.shape[1]).cumsum()
        before = up_to[self._first_cells - 1]
        sizes = up_to[self._first_cells + self._lengths - 1] - before
        share = (up_to[1:] - np.repeat(before, self._lengths)) / np.repeat(np.maximum(sizes, 1), self._lengths)
        distance = np.abs(share + self._function[0, 1:])
        return np.where(sizes, np.maximum.reduceat(distance, self._first_cells - 1), 0.0), sizes

    def _cells(self, values: NDArray[np.float64]) -> NDArray[np.int32]:
        slots = values - self._shift
        np.maximum(slots, self._below, out=slots)  # clip() takes longer
        np.minimum(slots, self._above, out=slots)
        np.fmax(slots, self._missing, out=slots)  # a missing value, which the others let through
        cells = self._table[slots.astype(np.intp)]
        for field in self._searched:
            distinct, row = self._distinct[field], values[field]
            found = np.searchsorted(distinct, row, "left") + np.searchsorted(distinct, row, "right")
            cells[field] = np.where(np.isnan(row), _MISSING, found + self._first_cells[field])
        return cells

    def _look_up(self, statistics: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        """P-values of statistics, from memory where they were computed before."""
        hs = np.rint(statistics * np.lcm(sizes, self._sizes)).astype(np.int64)
        keys = list(zip(sizes.tolist(), self._sizes.tolist(), hs.tolist(), strict=True))
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
        for first, length, m in zip(self._first_cells, self._lengths, self._sizes, strict=True):
            cells = slice(first, first + length)
            statistic = np.maximum(1 + self._function[0, cells], self._function[1, cells])
            p_values.append(ks.p_values(np.rint(statistic * m).astype(np.int64), 1, int(m)))
        return np.concatenate(p_values)

    def _lay_out_tables(self, whole: Sequence[bool]) -> None:
        """For each field: missing, below all, each integer of the span, above all -> cell."""
        tables = []
        self._searched = []
        for field, distinct in enumerate(self._distinct):
            integers = np.empty(0)
            if whole[field] and distinct[-1] - distinct[0] < _TABLE_SPAN:
                integers = np.arange(distinct[0] - 1, distinct[-1] + 2)
            else:
                self._searched.append(field)
            cells = np.searchsorted(distinct, integers, "left") + np.searchsorted(distinct, integers, "right")
            tables.append(np.concatenate([[_MISSING], cells + self._first_cells[field]]))
        self._table = np.concatenate([*tables, []]).astype(np.int32)
        starts = np.cumsum([0, *map(len, tables)], dtype=np.intp)[:, None]
        # Slots of the table: of a missing value, and of what is below and above all.
        self._missing = starts[:-1].astype(np.float64)
        self._below, self._above = starts[:-1] + 1.0, starts[1:] - 1.0
        self._shift = np.array([distinct[0] for distinct in self._distinct])[:, None] - 2 - starts[:-1]


@functools.lru_cache(maxsize=32)
def _sample_function(n: int) -> NDArray[np.float64]:
    """The distribution function of n values at each of them, and minus it just before: ``[2, 1, n]``."""
    share = np.arange(n + 1) / n
    return np.stack([share[1:], -share[:-1]])[:, None]


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
