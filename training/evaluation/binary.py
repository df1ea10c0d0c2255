"""Metrics of a label of two values: how good probabilities are, with bootstrap intervals, and two models compared.

The bootstrap draws how often each row counts, and every metric is written for weighted rows, so many
resamples are computed at once, and two models are compared on the very same resamples.
"""

from collections.abc import Callable, Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from training.use_case import Binary

RESAMPLES = 1000
CONFIDENCE = 0.95
INTERVAL = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
BINS = 10
_WEIGHTS_AT_ONCE = 2_000_000
"""Of 8 bytes each."""

Array = NDArray[np.float64]
Metric = Callable[[Array, NDArray[np.int64], Array], Array]
"""``(probability [n], outcome [n], weights [resamples, n]) -> [resamples]``."""


class Estimate(msgspec.Struct, frozen=True):
    """A figure with its 95% bootstrap interval."""

    value: float
    low: float
    high: float


class Comparison(msgspec.Struct, frozen=True):
    """Challenger minus the other model on the same rows."""

    difference: Estimate
    better: float
    """Share of the resamples in which the challenger is better."""
    worse: bool
    """Whether the difference itself is to the challenger's disadvantage; resamples may tie, or lean the other way."""


def roc_auc(p: Array, y: NDArray[np.int64], weights: Array) -> Array:
    positive, negative = _by_score(p, y, weights)
    below = np.cumsum(negative, axis=1) - negative
    pairs = (positive * (below + negative / 2)).sum(axis=1)
    result: Array = pairs / (positive.sum(axis=1) * negative.sum(axis=1))
    return result


def pr_auc(p: Array, y: NDArray[np.int64], weights: Array) -> Array:
    """Average precision."""
    positive, negative = (side[:, ::-1] for side in _by_score(p, y, weights))
    found = np.cumsum(positive, axis=1)
    looked_at = found + np.cumsum(negative, axis=1)
    precision = np.divide(found, looked_at, out=np.zeros_like(found), where=looked_at > 0)
    result: Array = (positive * precision).sum(axis=1) / positive.sum(axis=1)
    return result


def log_loss(p: Array, y: NDArray[np.int64], weights: Array) -> Array:
    kept = np.clip(p, 1e-15, 1 - 1e-15)
    return _mean(-np.log(np.where(y == 1, kept, 1 - kept)), weights)


def brier(p: Array, y: NDArray[np.int64], weights: Array) -> Array:
    return _mean((p - y) ** 2, weights)


def calibration_error(p: Array, y: NDArray[np.int64], weights: Array) -> Array:
    """Mean distance of predicted and seen share over ten bins of equal size (ECE)."""
    member = np.eye(BINS)[equal_bins(p)]
    gap = np.abs((weights * (p - y)) @ member)
    result: Array = gap.sum(axis=1) / weights.sum(axis=1)
    return result


def recall_top(share: float) -> Metric:
    """Share of the positives that are among the ``share`` of the rows with the highest risk."""

    def recall(p: Array, y: NDArray[np.int64], weights: Array) -> Array:
        positive, negative = (side[:, ::-1] for side in _by_score(p, y, weights))
        size = positive + negative
        before = np.cumsum(size, axis=1) - size
        room = share * size.sum(axis=1, keepdims=True) - before
        taken = np.clip(np.divide(room, size, out=np.zeros_like(size), where=size > 0), 0, 1)
        result: Array = (positive * taken).sum(axis=1) / positive.sum(axis=1)
        return result

    return recall


METRICS: dict[str, Metric] = {
    "roc_auc": roc_auc,
    "pr_auc": pr_auc,
    "log_loss": log_loss,
    "brier": brier,
    "calibration_error": calibration_error,
    "recall_top_10": recall_top(0.10),
    "recall_top_20": recall_top(0.20),
}
_TITLES = {
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC (average precision)",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "calibration_error": "Expected calibration error",
    "recall_top_10": "{positives} among the 10% with the highest risk",
    "recall_top_20": "{positives} among the 20% with the highest risk",
}
LARGER_IS_BETTER = {"roc_auc", "pr_auc", "recall_top_10", "recall_top_20"}


def titles(label: Binary) -> dict[str, str]:
    """What people call each metric, by name, in the words of the use case."""
    positives = label.positives[:1].upper() + label.positives[1:]
    return {name: title.format(positives=positives) for name, title in _TITLES.items()}


def resamples(y: NDArray[np.int64], seed: int) -> Array:
    """How often each row counts in each resample, ``[RESAMPLES, n]``; both outcomes keep their number."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((RESAMPLES, len(y)))
    for outcome in np.unique(y):
        rows = np.flatnonzero(y == outcome)
        weights[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), RESAMPLES)
    return weights


def measure(
    p: Array, y: NDArray[np.int64], weights: Array, names: Iterable[str] = tuple(METRICS)
) -> dict[str, Estimate]:
    """Metrics, all of them unless ``names`` says which, with intervals."""
    once = np.ones((1, len(y)))
    return {name: _estimate(METRICS[name](p, y, once)[0], _drawn(METRICS[name], p, y, weights)) for name in names}


def compare(challenger: Array, other: Array, y: NDArray[np.int64], weights: Array) -> dict[str, Comparison]:
    """Paired bootstrap over all metrics."""
    once = np.ones((1, len(y)))
    found = {}
    for name, metric in METRICS.items():
        value = (metric(challenger, y, once) - metric(other, y, once))[0]
        drawn = _drawn(metric, challenger, y, weights) - _drawn(metric, other, y, weights)
        gain = 1 if name in LARGER_IS_BETTER else -1
        difference = _estimate(value, drawn)
        found[name] = Comparison(difference, float((gain * drawn > 0).mean()), gain * difference.value < 0)
    return found


def equal_bins(p: Array) -> NDArray[np.intp]:
    """Bin of each row, of ten bins with equally many rows, by rising probability."""
    order = np.argsort(p, kind="stable")
    bins = np.empty(len(p), np.intp)
    bins[order] = np.arange(len(p)) * BINS // len(p)
    return bins


def _drawn(metric: Metric, p: Array, y: NDArray[np.int64], weights: Array) -> Array:
    """The metric in each resample, ``[resamples]``. A part at a time, as a metric needs several such matrices."""
    parts = np.array_split(weights, max(1, weights.size // _WEIGHTS_AT_ONCE))
    return np.concatenate([metric(p, y, part) for part in parts])


def _estimate(value: float, drawn: Array) -> Estimate:
    low, high = np.quantile(drawn, INTERVAL)
    return Estimate(*(round(float(figure), 6) for figure in (value, low, high)))


def _mean(values: Array, weights: Array) -> Array:
    result: Array = weights @ values / weights.sum(axis=1)
    return result


def _by_score(p: Array, y: NDArray[np.int64], weights: Array) -> tuple[Array, Array]:
    """Weight of positives and negatives at each distinct probability, rising: two ``[resamples, distinct]``."""
    distinct, where = np.unique(p, return_inverse=True)
    order = np.argsort(where, kind="stable")
    starts = np.searchsorted(where[order], np.arange(len(distinct)))
    ordered = weights[:, order]
    positive = np.add.reduceat(ordered * (y[order] == 1), starts, axis=1)
    negative = np.add.reduceat(ordered * (y[order] == 0), starts, axis=1)
    return positive, negative
