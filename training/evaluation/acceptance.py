"""The acceptance: thresholds that any challenger must reach, and models that it must not fall behind."""

import time
from typing import Any, Literal

import msgspec
import numpy as np

from serving.scoring.bundle import Bundle
from serving.scoring.encode import encode_records
from training.evaluation.binary import LARGER_IS_BETTER, Comparison, Estimate
from training.use_case import Thresholds

COMPARED = ("roc_auc", "log_loss")
WORSE = 0.95
"""The challenger fails when it is worse than the other model in this share of the resamples."""
_TIMED_CALLS = 300
_TITLES = {
    "minimum_roc_auc": "ROC AUC",
    "minimum_roc_auc_low": "ROC AUC, low end of the 95% interval",
    "maximum_calibration_error": "Expected calibration error",
    "maximum_fairness_gap": "Gap in true-positive rate between groups, low end of the 95% interval",
    "maximum_latency_ms": "Milliseconds for one record",
}


class Check(msgspec.Struct, frozen=True):
    """One threshold, and whether it is reached."""

    name: str
    """Of the limit in ``training.use_case.Thresholds``."""
    title: str
    kind: Literal["minimum", "maximum"]
    value: float
    limit: float
    passed: bool
    note: str = ""


def check_thresholds(
    thresholds: Thresholds, metrics: dict[str, Estimate], fairness: dict[str, Any] | None, latency_ms: float
) -> list[Check]:
    """Each threshold with the challenger's figure. Without groups there is no gap to check.

    The fairness gap is the largest of several differences between small groups, which chance alone makes large.
    It fails when it lies above the limit with confidence, so the low end of its interval is what counts.
    """
    auc, error = metrics["roc_auc"], metrics["calibration_error"]
    checks = [
        _check(thresholds, "minimum_roc_auc", auc.value),
        _check(thresholds, "minimum_roc_auc_low", auc.low),
        _check(thresholds, "maximum_calibration_error", error.value),
    ]
    if fairness is not None:
        gap = fairness["largest_gaps"]["true_positive_rate"]
        note = "too few positives in the groups to compare them"
        if gap["attribute"] is not None:
            note = f"{gap['attribute']}: {gap['value']:.2f}, 95% interval {gap['low']:.2f} to {gap['high']:.2f}"
        checks.append(_check(thresholds, "maximum_fairness_gap", gap["low"], note))
    return [*checks, _check(thresholds, "maximum_latency_ms", latency_ms)]


def _check(thresholds: Thresholds, name: str, value: float, note: str = "") -> Check:
    limit = float(getattr(thresholds, name))
    if name.startswith("minimum"):
        return Check(name, _TITLES[name], "minimum", value, limit, value >= limit, note)
    return Check(name, _TITLES[name], "maximum", value, limit, value <= limit, note)


def missed_thresholds(checks: list[Check]) -> list[str]:
    """What the challenger does not reach, in words; empty when it reaches everything."""
    reasons = []
    for check in checks:
        if not check.passed:
            side = "below" if check.kind == "minimum" else "above"
            note = f" ({check.note})" if check.note else ""
            reasons.append(f"{check.title} is {check.value:.4g}{note}, {side} the limit of {check.limit:.4g}")
    return reasons


def worse_than(other: str, comparison: dict[str, Comparison], titles: dict[str, str]) -> list[str]:
    """In which metrics, by their titles, the challenger is worse than the ``other`` model with confidence."""
    reasons = []
    for name in COMPARED:
        compared = comparison[name]
        if compared.better <= 1 - WORSE and compared.difference.value != 0:
            word = "lower" if name in LARGER_IS_BETTER else "higher"
            reasons.append(
                f"{titles[name]} is {word} than the {other}'s by {abs(compared.difference.value):.4f} "
                f"(worse in {1 - compared.better:.0%} of the resamples of the same hold-out)"
            )
    return reasons


def single_record_latency(bundle: Bundle, records: list[dict[str, Any]]) -> dict[str, float]:
    """Median time for one record: the whole answer in milliseconds, the classifier alone in microseconds."""
    matrices = [encode_records([record], bundle.contract) for record in records]

    def median_seconds(calls: list[Any]) -> float:
        taken = []
        for number in range(_TIMED_CALLS):
            started = time.perf_counter()
            calls[number % len(calls)]()
            taken.append(time.perf_counter() - started)
        return float(np.median(taken))

    whole = median_seconds([lambda record=record: bundle.score([record]) for record in records])
    classifier = median_seconds([lambda x=x: bundle.probabilities(x) for x in matrices])
    return {"latency_ms": round(whole * 1e3, 4), "classifier_us": round(classifier * 1e6, 2)}
