"""Which fields raise and lower a probability: exact Shapley values of its log-odds, on NumPy alone.

The log-odds of an ensemble are a sum, and so are Shapley values: of steps and of hinges, which depend on one column
at a time, a value's effect is what it adds, less what the background's values add on average. Trees that ask about
several columns are taken leaf by leaf, against each row of the background ("interventional" Shapley values). The
players are the columns of the trees' design, and what those of one field get is summed up.
"""

import math
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serving.scoring.contract import REASONS_FILE

MISSING = np.float32(-1e30)
"""Stands for what is missing, below all values."""
_RECORDS = 256  # explained at a time
_AT_A_TIME = 1 << 20  # numbers in the largest arrays of a step
_PART = 250_000  # leaves times records: about a quarter of a second
_WORDS = 35  # what the words of a record cost, in leaves
_LEAF = np.uint64(32)  # bits of a leaf's questions, below its number


class ReasonsError(ValueError):
    """Raised when the arrays of ``reasons.npz`` do not fit the contract, or each other."""


class Reasons:
    """Explains the rows of an encoded matrix. Thread-safe."""

    def __init__(self, arrays: dict[str, NDArray[np.generic]], features: int) -> None:
        """``arrays``: as ``training.export.reasons`` makes them, which says what they hold."""
        self.base = float(arrays["base"])
        self._means = arrays["means"].astype(np.float64)
        self._steps = _Steps(arrays)
        self._hinges = _Hinges(arrays)
        self._trees = _Trees(arrays)
        self.at_once = max(1, _PART // (len(arrays["leaf_values"]) + _WORDS))
        """How many records a caller that others wait for explains before it lets them go on."""
        columns = [self._steps.columns, self._hinges.columns, self._trees.questions.columns]
        if self._means.shape != (features,) or np.concatenate(columns).max(initial=0) >= features:
            raise ReasonsError(f"{REASONS_FILE} does not fit the contract's {features} features: write both together")

    @classmethod
    def load(cls, folder: Path, features: int) -> Self | None:
        """Read a bundle's reasons, ``None`` where it has none; raises ``ReasonsError``, ``KeyError`` or ``OSError``."""
        if not (folder / REASONS_FILE).exists():
            return None
        with np.load(folder / REASONS_FILE, allow_pickle=False) as arrays:
            return cls(dict(arrays), features)

    def effects(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log-odds that each column adds to ``base``: encoded matrix ``[n, features]`` -> float64 ``[n, features]``.

        A row's effects and ``base`` sum up to the log-odds of its probability.
        """
        found = np.tile(-self._means, (len(x), 1))
        for first in range(0, len(x), _RECORDS):
            rows = slice(first, first + _RECORDS)
            for part in (self._steps, self._hinges, self._trees):
                part.add(x[rows], found[rows])
        return found


class _Steps:
    """Sums that depend on one column and are constant between cuts."""

    def __init__(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        self.columns = arrays["step_columns"].astype(np.intp)
        ends = arrays["step_ends"].astype(np.intp)
        self._cuts = np.split(arrays["step_cuts"].astype(np.float32), ends[:-1])
        # One sum more than cuts.
        self._effects = np.split(arrays["step_effects"].astype(np.float64), ends[:-1] + np.arange(1, len(ends)))

    def add(self, x: NDArray[np.float32], found: NDArray[np.float64]) -> None:
        filled = np.where(np.isnan(x), MISSING, x)
        for column, cuts, effects in zip(self.columns, self._cuts, self._effects, strict=False):
            found[:, column] += effects[cuts.searchsorted(filled[:, column])]


class _Hinges:
    """Numbers of linear members: slopes that change at knots."""

    def __init__(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        self.columns = arrays["number_columns"].astype(np.intp)
        self._medians = arrays["number_medians"].astype(np.float32)
        self._low, self._high = arrays["number_low"].astype(np.float32), arrays["number_high"].astype(np.float32)
        self._skewed = arrays["number_skewed"].astype(bool)
        self._knots = arrays["knots"].astype(np.float32)
        self._slopes = arrays["slopes"].astype(np.float64)
        self._numbers = arrays["knot_numbers"].astype(np.intp)

    def add(self, x: NDArray[np.float32], found: NDArray[np.float64]) -> None:
        values = x[:, self.columns]
        values = np.clip(np.where(np.isnan(values), self._medians, values), self._low, self._high)
        # In float32, as training computes.
        values = np.where(self._skewed, np.log(np.where(self._skewed, values, 0) + np.float32(1)), values)
        hinges = np.maximum(values[:, self._numbers] - self._knots, 0) * self._slopes
        for knot, number in enumerate(self._numbers):
            found[:, self.columns[number]] += hinges[:, knot]


class Questions:
    """What is asked on the way to each leaf, by the leaf's numbers."""

    def __init__(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        self.bounds = np.concatenate([[0], arrays["leaf_ends"]]).astype(np.intp)
        self.columns = arrays["question_columns"].astype(np.intp)
        self._low = arrays["question_low"].astype(np.float32)
        self._high = arrays["question_high"].astype(np.float32)
        self._within = arrays["question_within"].astype(bool)
        self._missing = arrays["question_missing"].astype(bool)
        sizes = np.diff(self.bounds)
        self.most = int(sizes.max(initial=0))
        """Questions of the leaf that has the most."""
        self.places = np.arange(len(self.columns)) - np.repeat(self.bounds[:-1], sizes)
        """Which of its leaf's questions each is."""
        self.dtype = np.uint16 if self.most <= 16 else np.uint32
        self._bits = (1 << self.places).astype(self.dtype)

    def failed(self, x: NDArray[np.float32], leaves: slice) -> NDArray[np.unsignedinteger]:
        """The questions of some leaves that rows fail, a bit each: ``[n, leaves]``."""
        bounds = self.bounds[leaves.start : leaves.stop + 1]
        own = slice(bounds[0], bounds[-1])
        values = x[:, self.columns[own]]
        passed = ((values > self._low[own]) & (values <= self._high[own])) == self._within[own]
        passed = np.where(np.isnan(values), self._missing[own], passed)
        bits = np.where(passed, self.dtype(0), self._bits[own])
        failed: NDArray[np.unsignedinteger] = np.bitwise_or.reduceat(bits, bounds[:-1] - bounds[0], axis=1)
        return failed


class _Trees:
    """Leaves of trees that ask about several columns, against the background's rows.

    Whether a record reaches a leaf depends on some questions; a bit stands for each. A leaf counts for a record and a
    row of the background where they fail no question both. Of a record that fails ``m`` and a row that fails ``k``,
    each of the row's questions then gets ``(k - 1)! m! / (k + m)!`` of the leaf's value, and each of the record's
    loses ``(m - 1)! k! / (k + m)!`` of it.
    """

    def __init__(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        self.questions = Questions(arrays)
        most, bounds = self.questions.most, self.questions.bounds
        self._values = arrays["leaf_values"].astype(np.float64)
        self._background: NDArray[np.unsignedinteger] = arrays["background_fails"].astype(self.questions.dtype)
        self._columns = np.zeros((most, len(self._values)), np.intp)
        leaf = np.repeat(np.arange(len(self._values)), np.diff(bounds))
        self._columns[self.questions.places, leaf] = self.questions.columns
        self._gain, self._loss = _weights(most)

    def add(self, x: NDArray[np.float32], found: NDArray[np.float64]) -> None:
        step = max(1, _AT_A_TIME // (len(x) * max(self.questions.most, 1)))
        for first in range(0, len(self._values), step):
            leaves = slice(first, min(first + step, len(self._values)))
            failed = self.questions.failed(x, leaves).astype(np.uint64)
            numbers = np.arange(leaves.start, leaves.stop, dtype=np.uint64)
            # Many records fail the same questions of a leaf.
            pairs, of = np.unique((numbers << _LEAF) | failed, return_inverse=True)
            shares = self._shares((pairs >> _LEAF).astype(np.intp), pairs.astype(self.questions.dtype))
            self._spread(shares, of.reshape(failed.shape), leaves, found)

    def _spread(
        self, shares: NDArray[np.float64], of: NDArray[np.intp], leaves: slice, found: NDArray[np.float64]
    ) -> None:
        """Add to each record and column what the questions of its leaves get: ``shares[of]``."""
        row = np.arange(len(of))[:, np.newaxis] * found.shape[1]
        flat = found.reshape(-1)
        for place in range(self.questions.most):
            target = (row + self._columns[place, leaves]).reshape(-1)
            flat += np.bincount(target, shares[place][of].reshape(-1), len(flat))

    def _shares(self, leaf: NDArray[np.intp], failed: NDArray[np.unsignedinteger]) -> NDArray[np.float64]:
        """What each question gets of leaves whose questions ``failed`` a record fails: ``[place, leaves]``."""
        shares = np.zeros((self.questions.most, len(leaf)))
        step = max(1, _AT_A_TIME // self._background.shape[1])
        for first in range(0, len(leaf), step):
            some = slice(first, first + step)
            rows = self._background[leaf[some]]
            at, row = np.nonzero((rows & failed[some, np.newaxis]) == 0)
            if not len(at):
                continue
            fails = rows[at, row]
            k, m = np.bitwise_count(fails), np.bitwise_count(failed[some])[at]
            starts = np.flatnonzero(np.diff(at, prepend=-1))
            reached = at[starts] + first
            value = self._values[leaf[reached]] / self._background.shape[1]
            gain, lost = self._gain[k, m], np.add.reduceat(self._loss[k, m], starts) * value
            for place in range(self.questions.most):
                bit = self.questions.dtype(1 << place)
                won = np.add.reduceat(np.where(fails & bit, gain, 0), starts) * value
                shares[place, reached] = np.where(failed[reached] & bit, -lost, won)
        return shares


def _weights(most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """By ``[k, m]``: what a question gets that only the background row fails, and what one loses that only the
    record fails.
    """
    f = math.factorial
    gain, loss = np.zeros((most + 1, most + 1)), np.zeros((most + 1, most + 1))
    for k in range(most + 1):
        for m in range(most + 1 - k):
            gain[k, m] = f(k - 1) * f(m) / f(k + m) if k else 0
            loss[k, m] = f(m - 1) * f(k) / f(k + m) if m else 0
    return gain, loss
