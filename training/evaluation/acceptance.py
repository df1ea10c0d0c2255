"""The gate: floors that any challenger must reach, and the champion that it must not fall behind."""

import time
from typing import Any

import msgspec
import numpy as np

from serving.scoring.bundle import Bundle
from training.evaluation.binary import LARGER_IS_BETTER, Comparison, Estimate

COMPARED = ("roc_auc", "log_loss")
WORSE = 0.95
"""The challenger fails when it is worse than the champion in this share of the resamples."""
_TIMED_CALLS = 300


class Floors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits from the settings; see ``lifecycle.settings.Floors``."""

    roc_auc: float = 0.70
    calibration_error: float = 0.12
    fairness_gap: float = 0.35
    latency_ms: float = 5.0


class Check(msgspec.Struct, frozen=True):
    """One floor, and whether it is reached."""

    name: str
    value: float
    limit: float
    passed: bool
    note: str = ""


def check_floors(
    floors: Floors, metrics: dict[str, Estimate], fairness: dict[str, Any], latency_ms: float
) -> list[Check]:
    """Each floor with the challenger's figure.

    The fairness gap is the largest of several differences between small groups, which chance alone makes
    large. It fails when it lies above the limit with confidence: with the low end of its interval.
    """
    gap = fairness["largest_gaps"]["true_positive_rate"]
    interval = f"{gap['attribute']}, 95% interval {gap['low']:.2f} to {gap['high']:.2f}"
    auc, error = metrics["roc_auc"].value, metrics["calibration_error"].value
    return [
        Check("roc_auc", auc, floors.roc_auc, auc >= floors.roc_auc),
        Check("calibration_error", error, floors.calibration_error, error <= floors.calibration_error),
        Check("fairness_gap", gap["value"], floors.fairness_gap, gap["low"] <= floors.fairness_gap, interval),
        Check("latency_ms", latency_ms, floors.latency_ms, latency_ms <= floors.latency_ms),
    ]


def reasons_to_fail(checks: list[Check], comparison: dict[str, Comparison] | None) -> list[str]:
    """Why the challenger is not good enough, in words; empty when it is."""
    reasons = []
    for check in checks:
        if not check.passed:
            side = "below" if check.name == "roc_auc" else "above"
            note = f" ({check.note})" if check.note else ""
            reasons.append(f"{check.name} is {check.value:.4g}{note}, {side} the limit of {check.limit:.4g}")
    for name in COMPARED if comparison else ():
        compared = comparison[name]  # type: ignore[index]
        if compared.better <= 1 - WORSE and compared.difference.value != 0:
            word = "lower" if name in LARGER_IS_BETTER else "higher"
            reasons.append(
                f"{name} is {word} than the champion's by {abs(compared.difference.value):.4f} "
                f"(worse in {1 - compared.better:.0%} of the resamples of the same hold-out)"
            )
    return reasons


def single_record_latency(bundle: Bundle, records: list[dict[str, Any]]) -> dict[str, float]:
    """Median time for one record: the whole answer in milliseconds, the classifier alone in microseconds."""
    from serving.scoring.encode import encode_records

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
