"""The final model: a weighted sum of what the families say, calibrated by the same fit.

``P(positive) = sigmoid(bias + sum of weight * score)``. Weights and bias are fitted on out-of-fold scores
(``training.search.models.score``), so they correct what a family is over- or underconfident about: one small
logistic regression both combines and calibrates (Platt scaling, with several inputs).
"""

from itertools import combinations
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline

from training.search.models import score
from training.search.space import SearchSpace


class Member(msgspec.Struct, frozen=True):
    """One pipeline of the ensemble, by its parameters, with its weight."""

    parameters: dict[str, Any]
    weight: float


def fit_weights(
    parameters: list[dict[str, Any]], scores: NDArray[np.float64], y: NDArray[np.int64]
) -> tuple[list[Member], float]:
    """The members worth having, weights of at least 0, and bias, from out-of-fold scores ``[n, members]``.

    Of all subsets the one with the least Bayesian information criterion: a member has to lower the log loss
    of all rows together by ``log(n) / 2``; otherwise the smaller ensemble is as good, easier to explain and faster.
    """
    choices = [
        (members, *_least_log_loss(scores[:, members], y))
        for size in range(1, len(parameters) + 1)
        for members in map(list, combinations(range(len(parameters)), size))
    ]
    members, weights, bias, _ = min(choices, key=lambda choice: choice[-1] + len(choice[0]) * np.log(len(y)) / 2)
    return [Member(parameters[k], float(w)) for k, w in zip(members, weights, strict=True)], bias


def _least_log_loss(scores: NDArray[np.float64], y: NDArray[np.int64]) -> tuple[NDArray[np.float64], float, float]:
    """Weights, bias, and the log loss summed over the rows, in nats."""

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        total = scores @ values[:-1] + values[-1]
        wrong = expit(total) - y
        return float(np.mean(np.logaddexp(0, total) - y * total)), np.append(scores.T @ wrong, wrong.sum()) / len(y)

    members = scores.shape[1]
    start = np.append(np.full(members, 1 / members), 0.0)
    bounds = [(0.0, None)] * members + [(None, None)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return found.x[:-1], float(found.x[-1]), float(found.fun) * len(y)


class StackedEnsemble(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The final classifier on encoded matrices: pipelines, their weights and the bias.

    ``fit`` fits the pipelines; the weights are given, from rows that the pipelines had not seen.
    """

    def __init__(self, space: SearchSpace, members: list[Member], bias: float, seed: int) -> None:
        self.space = space
        self.members = members
        self.bias = bias
        self.seed = seed

    def fit(self, X: NDArray[np.float32], y: NDArray[np.int64]) -> Self:
        self.classes_ = np.array([0, 1])
        self.pipelines_: list[Pipeline] = [self.space.build(m.parameters, self.seed).fit(X, y) for m in self.members]
        return self

    def predict_proba(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities of the negative and of the positive outcome, float64 ``[n, 2]``."""
        total = np.full(len(X), self.bias)
        for member, pipeline in zip(self.members, self.pipelines_, strict=True):
            total += member.weight * score(pipeline, X)
        positive = expit(total)
        return np.column_stack([1 - positive, positive])
