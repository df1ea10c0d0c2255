"""The final model: a weighted sum of what the families say, calibrated by the same fit.

``P(leaves) = sigmoid(bias + sum of weight * score)``. Weights and bias are fitted on out-of-fold scores
(``training.models.score``), so they correct what a family is over- or underconfident about: one small
logistic regression both blends and calibrates (Platt scaling, with several inputs).
"""

from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline

from training.models import build, score

_SMALLEST_SHARE = 0.03
"""A family that moves the sum by less than this share of the whole is left out: it would explain nothing."""


class Member(msgspec.Struct, frozen=True):
    """One pipeline of the blend, by its parameters, with its weight."""

    parameters: dict[str, Any]
    weight: float


def fit_weights(
    parameters: list[dict[str, Any]], scores: NDArray[np.float64], y: NDArray[np.int64]
) -> tuple[list[Member], float]:
    """Weights of at least 0, and bias, of least log loss on out-of-fold scores ``[n, members]``."""
    kept = list(range(len(parameters)))
    while True:
        weights, bias = _least_log_loss(scores[:, kept], y)
        moved = weights * scores[:, kept].std(axis=0)
        strong = [k for k, movement in zip(kept, moved, strict=True) if movement >= _SMALLEST_SHARE * moved.sum()]
        if strong == kept or not strong:
            return [Member(parameters[k], float(w)) for k, w in zip(kept, weights, strict=True)], bias
        kept = strong


def _least_log_loss(scores: NDArray[np.float64], y: NDArray[np.int64]) -> tuple[NDArray[np.float64], float]:
    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        total = scores @ values[:-1] + values[-1]
        wrong = expit(total) - y
        return float(np.mean(np.logaddexp(0, total) - y * total)), np.append(scores.T @ wrong, wrong.sum()) / len(y)

    members = scores.shape[1]
    start = np.append(np.full(members, 1 / members), 0.0)
    bounds = [(0.0, None)] * members + [(None, None)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return found.x[:-1], float(found.x[-1])


class Blend(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The final classifier on encoded matrices: pipelines, their weights and the bias.

    ``fit`` fits the pipelines; the weights are given, from rows that the pipelines had not seen.
    """

    def __init__(self, members: list[Member], bias: float, seed: int) -> None:
        self.members = members
        self.bias = bias
        self.seed = seed

    def fit(self, X: NDArray[np.float32], y: NDArray[np.int64]) -> Self:
        self.classes_ = np.array([0, 1])
        self.pipelines_: list[Pipeline] = [build(m.parameters, self.seed).fit(X, y) for m in self.members]
        return self

    def predict_proba(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """P(stays), P(leaves): float64 ``[n, 2]``."""
        total = np.full(len(X), self.bias)
        for member, pipeline in zip(self.members, self.pipelines_, strict=True):
            total += member.weight * score(pipeline, X)
        leaves = expit(total)
        return np.column_stack([1 - leaves, leaves])
