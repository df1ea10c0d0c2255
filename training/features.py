"""From the encoded matrix to what a model computes with, in the pipeline and so inside every fold.

``Design`` is one step of the scikit-learn pipelines. All that it does can be written with plain ONNX
operators (``training.onnx_export``), in the same order and in float32 where a tree reads it.
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


class Design(TransformerMixin, BaseEstimator):
    """Encoded matrix float32 ``[n, features]`` -> design matrix ``[n, columns]``.

    Columns: one-hot indicators, then numbers, then hinges ``max(0, number - knot)``.

    :param linear: for linear models: levels one-hot, skewed numbers as logarithm, all columns standardised,
        float64. Else the numbers stay as they are, float32, for trees.
    :param knots: hinges for each number, at quantiles. A piecewise linear effect for each field.
    :param alpha: fields whose relation with the outcome has a p-value above it are left out (1 keeps all).
        Decided in ``fit``, so inside each training fold.

    A missing number is the training median, and numbers are kept within the range of the training data. A
    missing or unknown category counts as the training average: it moves the answer in no direction.
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
        self.level_columns_ = np.repeat(one_hot, [len(found) for found in levels]).astype(np.int64)
        self.levels_ = np.concatenate([np.empty(0), *levels]).astype(np.float32)
        self.number_columns_ = np.array([column for column in kept if column not in one_hot], np.int64)
        numbers = X[:, self.number_columns_]
        self.medians_ = np.nanmedian(numbers, axis=0).astype(np.float32)
        self.low_, self.high_ = np.nanmin(numbers, axis=0), np.nanmax(numbers, axis=0)
        self.skewed_ = np.isin(self.number_columns_, SKEWED) if self.linear else np.zeros(len(kept), bool)[:0]
        self._place_knots(self._numbers(X))
        return self._standardise(X)

    def transform(self, X: NDArray[np.float32]) -> NDArray[np.floating]:
        indicators = self._indicators(X)
        numbers = self._numbers(X)
        hinges = np.maximum(numbers[:, self.knot_numbers_] - self.knots_, 0)
        columns = np.hstack([indicators, numbers, hinges])
        if not self.linear:
            return columns
        filled = self.fill_ + columns.astype(np.float64) @ self.unfill_
        return (filled - self.center_) / self.scale_

    def _relates(self, values: NDArray[np.float32], y: NDArray[np.int64], one_hot: bool) -> bool:
        known = ~np.isnan(values)
        if np.unique(values[known]).size < 2:
            return False
        if self.alpha >= 1:
            return True
        if one_hot:
            table = stats.contingency.crosstab(values[known], y[known]).count
            return bool(stats.chi2_contingency(table).pvalue <= self.alpha)
        return bool(stats.mannwhitneyu(values[known & (y == 1)], values[known & (y == 0)]).pvalue <= self.alpha)

    def _numbers(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Imputed, clipped and, for linear models, bent numbers: float32 ``[n, numbers]``."""
        numbers = X[:, self.number_columns_]
        numbers = np.where(np.isnan(numbers), self.medians_, numbers)
        numbers = np.clip(numbers, self.low_, self.high_)
        if self.skewed_.any():
            numbers[:, self.skewed_] = np.log(numbers[:, self.skewed_] + np.float32(1))
        return numbers

    def _indicators(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        return (X[:, self.level_columns_] == self.levels_).astype(np.float32)

    def _place_knots(self, numbers: NDArray[np.float32]) -> None:
        shares = np.linspace(0, 1, self.knots + 2)[1:-1] if self.linear else []
        placed = [np.unique(np.quantile(column, shares)) for column in numbers.T]
        self.knot_numbers_ = np.repeat(np.arange(len(placed)), [len(knots) for knots in placed])
        self.knots_ = np.concatenate([np.empty(0), *placed]).astype(np.float32)

    def _standardise(self, X: NDArray[np.float32]) -> Self:
        """Learn means and spreads, and the matrix that fills a field without indicator with its averages.

        Within a field the average is ``fill``; with indicators ``d`` the filled columns are
        ``d + (1 - sum(d)) * fill``, which is linear in ``d``: ``fill + d @ (I - 1 fill)``.
        """
        if not self.linear:
            return self
        numbers = self._numbers(X)
        hinges = np.maximum(numbers[:, self.knot_numbers_] - self.knots_, 0)
        indicators = self._indicators(X)
        columns = np.hstack([indicators, numbers, hinges]).astype(np.float64)
        self.fill_ = np.zeros(columns.shape[1])
        self.unfill_ = np.eye(columns.shape[1])
        for column in np.unique(self.level_columns_):
            group = np.flatnonzero(self.level_columns_ == column)
            known = indicators[:, group].any(axis=1)
            self.fill_[group] = indicators[known][:, group].mean(axis=0)
            self.unfill_[np.ix_(group, group)] -= self.fill_[group]
        filled = self.fill_ + columns @ self.unfill_
        self.center_ = filled.mean(axis=0)
        spread = filled.std(axis=0)
        self.scale_ = np.where(spread > 0, spread, 1.0)
        return self
