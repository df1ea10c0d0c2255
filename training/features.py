"""From the encoded matrix to what a model computes with, in the pipeline and so inside every fold.

``Design`` is one step of the scikit-learn pipelines. All that it does can be written with plain ONNX
operators (``training.onnx_export``), and in float32 where a tree asks about it.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.base import BaseEstimator, TransformerMixin

from training.fields import FEATURES, feature_index

NOMINAL = tuple(position for position, field in enumerate(FEATURES) if field.kind == "category")
"""Columns of unordered categories, always one-hot."""

LEVELS = tuple(
    feature_index(name)
    for name in (
        *("Education", "EnvironmentSatisfaction", "JobInvolvement", "JobLevel", "JobSatisfaction"),
        *("NumCompaniesWorked", "PerformanceRating", "RelationshipSatisfaction", "StockOptionLevel"),
        *("TrainingTimesLastYear", "WorkLifeBalance"),
    )
)
"""Columns of few whole numbers, whose effect need not be a straight line: one-hot for a linear model."""

SKEWED = tuple(
    feature_index(name)
    for name in (
        *("DistanceFromHome", "MonthlyIncome", "TotalWorkingYears", "YearsAtCompany"),
        *("YearsInCurrentRole", "YearsSinceLastPromotion", "YearsWithCurrManager"),
    )
)
"""Money, way and years: what counts is the ratio, so a linear model sees ``log(1 + value)``."""


class Design(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Encoded matrix float32 ``[n, features]`` -> design matrix ``[n, columns]``.

    Columns are one-hot indicators, then what is made of the numbers.

    :param linear: for linear models: levels are one-hot too, skewed numbers are logarithms, each number
        becomes hinges ``max(0, number - knot)``, and all columns are standardised, float64. Else numbers
        stay as they are, float32, for trees.
    :param knots: quantiles at which the slope of a number's effect may change: its effect is piecewise linear.
    :param alpha: fields whose relation with the outcome has a p-value above it are left out (1 keeps all).
        Decided in ``fit``, so inside each training fold.

    A missing number is the training median, and numbers are kept within the range of the training data. For
    a linear model a missing or unknown category is the average of the training rows, so it moves the answer
    in no direction; for a tree it is none of the categories.
    """

    def __init__(self, *, linear: bool = True, knots: int = 2, alpha: float = 1.0) -> None:
        self.linear = linear
        self.knots = knots
        self.alpha = alpha

    def fit(self, X: NDArray[np.float32], y: NDArray[np.int64]) -> Self:
        one_hot = (*NOMINAL, *LEVELS) if self.linear else NOMINAL
        kept = [column for column in range(X.shape[1]) if self._relates(X[:, column], y, column in one_hot)]
        one_hot = tuple(column for column in one_hot if column in kept)
        levels = [np.unique(X[:, column][X[:, column] >= 0]) for column in one_hot]
        self.level_columns_ = np.repeat(np.array(one_hot, np.int64), [len(found) for found in levels])
        self.levels_ = np.concatenate([np.empty(0), *levels]).astype(np.float32)
        self.number_columns_ = np.array([column for column in kept if column not in one_hot], np.int64)
        numbers = X[:, self.number_columns_]
        self.medians_ = np.nanmedian(numbers, axis=0).astype(np.float32)
        self.low_, self.high_ = np.nanmin(numbers, axis=0), np.nanmax(numbers, axis=0)
        if self.linear:
            self._place_knots(X)
            self._standardise(X)
        return self

    def transform(self, X: NDArray[np.float32]) -> NDArray[np.floating]:
        if not self.linear:
            return np.hstack([self._indicators(X), self._numbers(X)])
        standardised: NDArray[np.floating] = (self._columns(X) - self.center_) / self.scale_
        return standardised

    def _relates(self, values: NDArray[np.float32], y: NDArray[np.int64], one_hot: bool) -> bool:
        known = ~np.isnan(values)
        if np.unique(values[known]).size < 2:
            return False
        if self.alpha >= 1:
            return True
        if one_hot:
            table = stats.contingency.crosstab(values[known], y[known]).count
            return bool(stats.chi2_contingency(table).pvalue <= self.alpha)
        leavers, stayers = values[known & (y == 1)], values[known & (y == 0)]
        return bool(stats.mannwhitneyu(leavers, stayers).pvalue <= self.alpha)

    def _indicators(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        indicators: NDArray[np.float32] = (X[:, self.level_columns_] == self.levels_).astype(np.float32)
        return indicators

    def _numbers(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Imputed and clipped numbers, float32 ``[n, numbers]``."""
        numbers = X[:, self.number_columns_]
        return np.clip(np.where(np.isnan(numbers), self.medians_, numbers), self.low_, self.high_)

    def _bent(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Numbers as a linear model takes them: skewed ones as logarithm."""
        numbers = self._numbers(X)
        return np.where(self.skewed_, np.log(numbers + np.float32(1)), numbers)

    def _columns(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Columns of a linear design before they are standardised."""
        indicators = self._indicators(X)
        filled = indicators + (1 - indicators @ self.same_field_) * self.fill_
        hinges = np.maximum(self._bent(X)[:, self.knot_numbers_] - self.knots_, 0)
        return np.hstack([filled, hinges]).astype(np.float64)

    def _place_knots(self, X: NDArray[np.float32]) -> None:
        """The first knot of each number is its smallest value: that hinge is the number itself, shifted."""
        self.skewed_ = np.isin(self.number_columns_, SKEWED)
        shares = np.linspace(0, 1, self.knots + 2)[:-1]
        placed = [np.unique(np.quantile(column, shares)) for column in self._bent(X).T]
        self.knot_numbers_ = np.repeat(np.arange(len(placed)), [len(knots) for knots in placed])
        self.knots_ = np.concatenate([np.empty(0), *placed]).astype(np.float32)

    def _standardise(self, X: NDArray[np.float32]) -> None:
        indicators = self._indicators(X)
        self.same_field_ = np.equal.outer(self.level_columns_, self.level_columns_).astype(np.float32)
        known = np.maximum((indicators @ self.same_field_).sum(axis=0), 1)
        self.fill_ = (indicators.sum(axis=0) / known).astype(np.float32)
        columns = self._columns(X)
        self.center_ = columns.mean(axis=0)
        spread = columns.std(axis=0)
        self.scale_ = np.where(spread > 0, spread, 1.0)
