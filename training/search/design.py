"""From the encoded matrix to what a model computes with, in the pipeline and so inside every fold.

``DesignMatrix`` is one step of the scikit-learn pipelines. All that it does can be written with plain ONNX
operators (``training.export.classifier``), and in float32 where a tree asks about it.
"""

import hashlib
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression

_LEVELS = 10
"""A number with at most this many values in the training rows is asked about in steps: its effect need not be a
straight line."""
_SKEWNESS = 0.5
_SPREAD = 10.0
"""A number that is never negative, skewed to the right by more than ``_SKEWNESS``, and whose largest value is more than
``_SPREAD`` times its smallest (both plus one) is one of those that count by ratio, as money, distance and time do: a
linear model sees ``log(1 + value)``."""

_SCREENING_C = 0.1
_COLUMNS_AT_ONCE = 32


class DesignMatrix(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Encoded matrix float32 ``[n, features]`` -> design matrix ``[n, columns]``.

    Columns are answers to questions, then what is made of the numbers.

    :param categories: encoded columns of categories. They are always one-hot; all others are numbers.
    :param linear: for linear models: questions are ``category == this?`` and ``number >= this?`` for a number of few
        values, skewed numbers are logarithms, each other number becomes hinges ``max(0, number - knot)``, and all
        columns are standardised, float64. Otherwise only categories are asked about, and all numbers stay as they
        are, float32, for trees.
    :param knots: quantiles at which the slope of a number's effect may change: its effect is piecewise linear.
    :param alpha: fields that a first linear model can do without, by the p-value of a Wald test of all their
        columns, are left out when it is above ``alpha`` (1 keeps all). Decided in ``fit``, so inside each
        training fold.
    :param reproducible: take logarithms in float64, so that other libraries have the same ones after rounding to
        float32: what stands behind the design may ask whether a value is above a cut.

    A missing number is the training median, and numbers are kept within the range of the training data. For
    a linear model a missing level and a missing or unknown category are the average of the training rows, so
    they move the answer in no direction; for a tree an unknown category differs from every known one.
    """

    def __init__(
        self,
        categories: tuple[int, ...],
        *,
        linear: bool = True,
        knots: int = 2,
        alpha: float = 1.0,
        reproducible: bool = False,
    ) -> None:
        self.categories = categories
        self.linear = linear
        self.knots = knots
        self.alpha = alpha
        self.reproducible = reproducible

    def fit(self, X: NDArray[np.float32], y: NDArray[np.int64]) -> Self:
        kept = usable = [column for column in range(X.shape[1]) if len(self._values(X, column)) > 1]
        if self.linear and self.alpha < 1:
            p_values = _p_values(self.categories, self.knots, X, y)
            kept = [column for column in usable if p_values[column] <= self.alpha] or usable
        self._learn(X, kept)
        return self

    def transform(self, X: NDArray[np.float32]) -> NDArray[np.floating]:
        if not self.linear:
            return np.hstack([self._answers(X), self._numbers(X)])
        standardised = self._columns(X)
        standardised -= self.center_
        standardised /= self.scale_
        return standardised

    def fields(self) -> NDArray[np.int64]:
        """Encoded column behind each column of a linear design."""
        return np.concatenate([self.asked_, self.number_columns_[self.knot_numbers_]])

    def _learn(self, X: NDArray[np.float32], kept: list[int]) -> None:
        """All that is learned from the rows, for the columns ``kept``."""
        known = {column: self._values(X, column) for column in kept}
        asked = [c for c in kept if c in self.categories or (self.linear and len(known[c]) <= _LEVELS)]
        # "At least the smallest value" is always true, so the first question about a number is about the second.
        values = [known[c][0 if c in self.categories else 1 :] for c in asked]
        self.asked_ = np.repeat(np.array(asked, np.int64), np.array([len(found) for found in values], np.int64))
        self.values_ = np.concatenate([np.empty(0), *values]).astype(np.float32)
        self.step_ = ~np.isin(self.asked_, self.categories)
        self.number_columns_ = np.array([c for c in kept if c not in asked], np.int64)
        numbers = X[:, self.number_columns_]
        self.medians_ = np.nanmedian(numbers, axis=0).astype(np.float32)
        self.low_, self.high_ = np.nanmin(numbers, axis=0), np.nanmax(numbers, axis=0)
        if self.linear:
            self._place_knots(X)
            self._standardise(X)

    def _values(self, X: NDArray[np.float32], column: int) -> NDArray[np.float32]:
        """Distinct known values of a column, rising."""
        values = X[:, column]
        known = values >= 0 if column in self.categories else ~np.isnan(values)
        return np.unique(values[known])

    def _answers(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        asked = X[:, self.asked_]
        return np.where(self.step_, asked >= self.values_, asked == self.values_).astype(np.float32)

    def _numbers(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Imputed and clipped numbers, float32 ``[n, numbers]``."""
        numbers = X[:, self.number_columns_]
        return np.clip(np.where(np.isnan(numbers), self.medians_, numbers), self.low_, self.high_)

    def _bent(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Numbers as a linear model takes them: skewed ones as logarithm."""
        numbers = self._numbers(X)
        shifted = np.where(self.skewed_, numbers, 0) + np.float32(1)
        logarithms = np.log(shifted.astype(np.float64)).astype(np.float32) if self.reproducible else np.log(shifted)
        return np.where(self.skewed_, logarithms, numbers)

    def _known(self, X: NDArray[np.float32], answers: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Where a question has an answer: the level is there, the category is one of those asked about."""
        known: NDArray[np.bool_] = ~np.isnan(X[:, self.asked_])
        for first, last in self.category_ends_:
            known[:, first:last] = answers[:, first:last].any(axis=1, keepdims=True)
        return known

    def _columns(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Columns of a linear design before they are standardised."""
        answers = self._answers(X)
        # A large table's columns are most of the job's memory: they are made once, in place.
        columns = np.empty((len(X), len(self.asked_) + len(self.knots_)))
        columns[:, : len(self.asked_)] = np.where(self._known(X, answers), answers, self.fill_)
        del answers
        bent = self._bent(X)
        for place, (number, knot) in enumerate(zip(self.knot_numbers_, self.knots_, strict=True), len(self.asked_)):
            columns[:, place] = np.maximum(bent[:, number] - knot, 0)
        return columns

    def _place_knots(self, X: NDArray[np.float32]) -> None:
        """The first knot of each number is its smallest value: that hinge is the number itself, shifted."""
        self.skewed_ = np.array([_is_skewed(column) for column in self._numbers(X).T], np.bool_)
        shares = np.linspace(0, 1, self.knots + 2)[:-1]
        placed = [np.unique(np.quantile(column, shares)) for column in self._bent(X).T]
        self.knot_numbers_ = np.repeat(np.arange(len(placed)), np.array([len(knots) for knots in placed], np.int64))
        self.knots_ = np.concatenate([np.empty(0), *placed]).astype(np.float32)

    def _standardise(self, X: NDArray[np.float32]) -> None:
        ends = np.searchsorted(self.asked_, self.categories), np.searchsorted(self.asked_, self.categories, "right")
        self.category_ends_ = [(first, last) for first, last in zip(*ends, strict=True) if first < last]
        self._fill_in(X)
        columns = self._columns(X)
        self.center_ = columns.mean(axis=0)
        # A part at a time: the standard deviation of all takes as much memory again as they do.
        parts = range(0, columns.shape[1], _COLUMNS_AT_ONCE)
        spread = np.concatenate(
            [np.empty(0), *(columns[:, first : first + _COLUMNS_AT_ONCE].std(axis=0) for first in parts)]
        )
        self.scale_ = np.where(spread > 0, spread, 1.0)

    def _fill_in(self, X: NDArray[np.float32]) -> None:
        answers = self._answers(X)
        known = self._known(X, answers)
        self.fill_ = ((answers * known).sum(axis=0) / np.maximum(known.sum(axis=0), 1)).astype(np.float32)


_screened: dict[tuple[tuple[int, ...], int, bytes], dict[int, float]] = {}
"""P-values by what they follow from. Trials that differ in the rest ask for the same folds again and again; the rows
themselves, which may be many, are not kept."""


def _p_values(
    categories: tuple[int, ...], knots: int, rows: NDArray[np.float32], y: NDArray[np.int64]
) -> dict[int, float]:
    """``_wald_test``, once for the same rows."""
    digest = hashlib.blake2b(np.ascontiguousarray(rows).data)
    digest.update(np.ascontiguousarray(y).data)
    key = (categories, knots, digest.digest())
    if key not in _screened:
        _screened[key] = _wald_test(categories, knots, rows, y)
    return _screened[key]


def _wald_test(
    categories: tuple[int, ...], knots: int, rows: NDArray[np.float32], y: NDArray[np.int64]
) -> dict[int, float]:
    """Wald test of each field in a ridge-penalised logistic regression, by encoded column.

    The penalty shrinks the degrees of freedom of a field (trace of its part of the smoother matrix).
    """
    design = DesignMatrix(categories, knots=knots, alpha=1.0).fit(rows, y)
    columns, fields = design.transform(rows), design.fields()
    model = LogisticRegression(C=_SCREENING_C, max_iter=1000).fit(columns, y)
    p = model.predict_proba(columns)[:, 1]
    penalty = np.eye(columns.shape[1]) / _SCREENING_C
    columns *= np.sqrt(p * (1 - p))[:, np.newaxis]
    covariance = np.linalg.inv(columns.T @ columns + penalty)
    freedom = 1 - np.diag(covariance @ penalty)
    found = {}
    for field in np.unique(fields):
        own = np.flatnonzero(fields == field)
        slopes = model.coef_[0][own]
        statistic = slopes @ np.linalg.solve(covariance[np.ix_(own, own)], slopes)
        found[int(field)] = float(chi2.sf(statistic, max(freedom[own].sum(), 0.5)))
    return found


def _is_skewed(column: NDArray[np.float32]) -> bool:
    """Whether a number without missing values counts by ratio."""
    values = column.astype(np.float64)
    low, high = values.min(), values.max()
    if low < 0 or (1 + high) / (1 + low) < _SPREAD:
        return False
    centred = values - values.mean()
    return bool((centred**3).mean() > _SKEWNESS * (centred**2).mean() ** 1.5)
