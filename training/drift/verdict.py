"""What a window says about the model in production, and what follows from the windows before it."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.scoring.described import described
from serving.scoring.drift import adjust
from training.drift.limits import Limits as Limits
from training.drift.reference import Reference
from training.drift.statistics import (
    Difference,
    category_counts,
    category_difference,
    numeric_difference,
)
from training.drift.window import Window
from training.evaluation.binary import Estimate, measure, resamples
from training.evaluation.share_interval import share_interval
from training.inference_log.labels import Labels

PREDICTION = "prediction"
QUALITY_ROWS = 5000
"""Live quality is measured on the latest outcomes, at most this many."""
_QUALITY_CLASS = 10
_SEED = 20


class Finding(msgspec.Struct, frozen=True):
    """One field (or the prediction) of a window."""

    name: str
    n: int
    p_value: float
    adjusted_p_value: float
    effect: float
    psi: float
    drifted: bool
    unknown_share: float = 0.0


class Share(msgspec.Struct, frozen=True):
    """The outlier rate of a window with its 95% interval, beside the reference's."""

    share: float
    low: float
    high: float
    reference: float
    drifted: bool


class Quality(msgspec.Struct, frozen=True):
    """The champion's answers against the outcomes that have arrived since."""

    labels: int
    positives: int = 0
    """Outcomes with the label's positive value. A verdict that an earlier release wrote does not say."""
    roc_auc: Estimate | None = None
    """``None`` while there are fewer than ten outcomes of either value."""
    calibration_error: Estimate | None = None
    predicted_share: float = 0.0
    """Mean predicted probability."""
    seen_share: float = 0.0
    """Share of outcomes with the positive value."""
    lost: bool = False
    """The whole 95% interval of the AUC is below the minimum."""


Status = Literal["quiet", "drifted", "too few records", "no records", "no champion"]


@described
class Verdict(msgspec.Struct, frozen=True):
    """One night's verdict (``verdict.json``)."""

    night: str
    status: Status
    champion: str
    """Version; empty before the first promotion."""
    records: int = 0
    used: int = 0
    skewed: int = 0
    own: int = 0
    """Records that releases asked for to verify a server; they count for nothing else."""
    asked: int = 0
    """Records of the champion, several of one entity among them."""
    most: int = 0
    """How many of these are about the one entity that was asked about most."""
    findings: tuple[Finding, ...] = ()
    outliers: Share | None = None
    quality: Quality | None = None
    labels: int = 0
    """Labelled records of the training table."""
    rejected_outcomes: int = 0
    """Rows and files of the outcomes feed that were rejected."""
    feed: Labels | None = None
    """What became of the outcomes feed. A verdict that an earlier release wrote does not say."""
    unpaired: dict[str, int] = {}
    """Records of the day that were logged on one side only, by reason."""
    unjoined: str = ""
    """Why no outcome can be joined with a record; empty where they can be."""
    changed: str = ""
    """Which of the champion's fields the definition has changed since it was trained, in words: drift in them is not
    judged."""
    confirmed: tuple[str, ...] = ()
    """What has drifted in each of the last ``drift_windows`` judged windows."""
    retrain: bool = False
    reasons: tuple[str, ...] = ()
    """Why to train, or why not."""
    note: str = ""
    """One line for people."""
    data: str = ""
    """The labelled training table of the night."""
    counts: dict[str, Any] = {}
    """Lines read, kept, duplicate, foreign and quarantined of the night, and what waits or is strange in the export."""

    @property
    def drifted(self) -> tuple[str, ...]:
        """What has drifted in this window."""
        names = [finding.name for finding in self.findings if finding.drifted]
        return (*names, "outliers") if self.outliers and self.outliers.drifted else tuple(names)


def judge_window(night: str, window: Window, reference: Reference | None, limits: Limits) -> Verdict:
    """Compare one window with the champion's reference."""
    if reference is None:
        return Verdict(night=night, status="no champion", champion="", records=window.records, own=window.own)
    base = Verdict(
        night=night, status="quiet", champion=reference.version, records=window.records, used=window.used,
        skewed=window.skewed, own=window.own, asked=window.asked, most=window.most,
    )  # fmt: skip
    if window.used < limits.minimum_records:
        return msgspec.structs.replace(base, status="too few records" if window.records else "no records")
    findings = _findings(window, reference, limits)
    low, high = share_interval(window.outliers, window.used)
    expected = reference.outliers / max(len(reference.predictions), 1)
    _, expected_high = share_interval(reference.outliers, len(reference.predictions))
    outliers = Share(
        share=window.outliers / window.used, low=low, high=high, reference=expected,
        drifted=low > max(expected_high, expected + limits.outlier_margin),
    )  # fmt: skip
    judged = msgspec.structs.replace(base, findings=findings, outliers=outliers)
    return msgspec.structs.replace(judged, status="drifted" if judged.drifted else "quiet")


def _findings(window: Window, reference: Reference, limits: Limits) -> tuple[Finding, ...]:
    differences: dict[str, Difference] = {}
    unknown: dict[str, tuple[float, bool]] = {}
    for field in reference.fields:
        seen = window.counts[field.name]
        known = reference.arrays[field.name]
        if field.kind == "category":
            counts = category_counts(seen, field.categories)
            before = known.astype(np.int64)
            differences[field.name] = category_difference(before, counts)
            unknown[field.name] = _unknown(before, counts, limits)
        else:
            values = sorted(seen)
            differences[field.name] = numeric_difference(
                known, np.array(values, np.float64), np.array([seen[value] for value in values], np.int64)
            )
    differences[PREDICTION] = numeric_difference(reference.predictions, *window.predictions)
    adjusted = adjust(np.array([one.p_value for one in differences.values()]))
    findings = []
    for (name, one), p in zip(differences.items(), adjusted, strict=True):
        unknown_share, too_many = unknown.get(name, (0.0, False))
        differs = bool(p < limits.significance and one.effect >= limits.minimum_effect)
        findings.append(
            Finding(name, one.n, one.p_value, float(p), one.effect, one.psi, differs or too_many, unknown_share)
        )
    return tuple(findings)


def _unknown(before: NDArray[np.int64], counts: NDArray[np.int64], limits: Limits) -> tuple[float, bool]:
    """Share of unknown categories in a window, and whether it is surely larger than the reference's."""
    n = int(counts.sum())
    if n == 0:
        return 0.0, False
    expected = before[-1] / max(before.sum(), 1)
    low, _ = share_interval(int(counts[-1]), n)
    return float(counts[-1] / n), bool(low > expected + limits.unknown_share)


def judge_quality(predictions: NDArray[np.float64], positive: NDArray[np.int64], minimum: float) -> Quality:
    """Live AUC and calibration: answers ``[n]`` against outcomes ``[n]`` (1 = positive), the latest first."""
    p, y = predictions[:QUALITY_ROWS], positive[:QUALITY_ROWS]
    labels, positives = len(y), int(y.sum())
    if min(positives, labels - positives) < _QUALITY_CLASS:
        return Quality(labels=labels, positives=positives)
    found = measure(p, y, resamples(y, _SEED))
    return Quality(
        labels=labels, positives=positives, roc_auc=found["roc_auc"], calibration_error=found["calibration_error"],
        predicted_share=float(p.mean()), seen_share=float(y.mean()), lost=found["roc_auc"].high < minimum,
    )  # fmt: skip


def decide(verdict: Verdict, earlier: Sequence[Verdict], limits: Limits, *, by_hand: bool = False) -> Verdict:
    """Confirm drift over the windows before (the latest last), and decide whether to train."""
    confirmed = _confirmed(verdict, earlier, limits.drift_windows)
    started = next((one for one in reversed(earlier) if one.retrain), None)
    fresh = verdict.labels - (started.labels if started else 0)
    wanted = []
    if confirmed:
        wanted.append(f"drift confirmed over {limits.drift_windows} windows: {_listed(confirmed)}")
    if verdict.quality and verdict.quality.lost and verdict.quality.roc_auc:
        auc = verdict.quality.roc_auc
        wanted.append(
            f"live AUC {auc.value:.2f} (95% {auc.low:.2f} to {auc.high:.2f}) is below {limits.minimum_live_auc}"
        )
    reasons = []
    if by_hand:
        reasons.append("asked for by hand")
    if fresh >= limits.new_labels:
        reasons.append(f"{fresh} new outcomes")
    paused = started is not None and _days(started.night, verdict.night) < limits.pause_days
    if not paused:
        reasons += wanted
    if reasons:
        retrain, reasons = True, reasons + [reason for reason in wanted if reason not in reasons]
    else:
        retrain, reasons = False, _why_not(verdict, wanted, started, fresh, limits)
    note = f"{verdict.night}: {_told(verdict)}; {'retrain' if retrain else 'no retraining'}: {'; '.join(reasons)}"
    return msgspec.structs.replace(verdict, confirmed=confirmed, retrain=retrain, reasons=tuple(reasons), note=note)


def _confirmed(verdict: Verdict, earlier: Sequence[Verdict], windows: int) -> tuple[str, ...]:
    """What drifts in each of the last judged windows of this champion. Nights without traffic are passed over."""
    judged = [one for one in earlier if one.champion == verdict.champion and one.status in ("quiet", "drifted")]
    last = [*judged, verdict][-windows:] if verdict.status in ("quiet", "drifted") else []
    if len(last) < windows:
        return ()
    common = set.intersection(*(set(one.drifted) for one in last))
    return tuple(name for name in verdict.drifted if name in common)


def _why_not(verdict: Verdict, wanted: Sequence[str], started: Verdict | None, fresh: int, limits: Limits) -> list[str]:
    if wanted and started:
        return [f"{'; '.join(wanted)}, but the retraining of {started.night} is on its way to the gate"]
    if verdict.drifted:
        return [f"drift is not confirmed yet: {_listed(verdict.drifted)}"]
    if verdict.unjoined:
        return ["no confirmed drift"]
    outcomes = f"{fresh} of {limits.new_labels} new outcomes"
    return [f"no confirmed drift, no sign that the quality is below its minimum, {outcomes}"]


def _told(verdict: Verdict) -> str:
    if verdict.status == "no champion":
        return f"no champion to compare {verdict.records} records with"
    if verdict.status in ("no records", "too few records"):
        return f"{verdict.status} to judge ({verdict.used} of version {verdict.champion})"
    text = f"{verdict.used} records of version {verdict.champion}, "
    text += f"drift in {_listed(verdict.drifted)}" if verdict.drifted else "no drift"
    if verdict.quality and verdict.quality.roc_auc:
        text += f", live AUC {verdict.quality.roc_auc.value:.2f}"
    return text


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _days(first: str, last: str) -> int:
    return int((np.datetime64(last) - np.datetime64(first)).astype(int))
