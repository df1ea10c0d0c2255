"""Fit the chosen blend, export and check the bundle, and measure it on the hold-out."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.scoring.bundle import Bundle
from serving.scoring.encode import encode_columns
from training.config import JobConfig
from training.data.dataset import Employees, compared_rows, holdout_rows
from training.evaluation.acceptance import check_floors, reasons_to_fail, single_record_latency
from training.evaluation.binary import calibration_error, compare, measure, resamples, roc_auc
from training.evaluation.fairness import assess
from training.evaluation.plots import draw_all
from training.export.bundle import as_records, write_bundle
from training.export.outliers import Outliers
from training.export.parity import check_parity
from training.search.ensemble import Blend, Member
from use_cases.attrition.fields import FEATURES

_SHUFFLES = 5
_TIMED_RECORDS = 20


class Tuning(msgspec.Struct, frozen=True):
    """What ``tune`` hands over: the blend, and how it was found."""

    members: list[Member]
    bias: float
    trials: int
    pruned: int
    best_roc_auc: float
    """Of the best single trial, in the folds of the development rows."""


class Champion(msgspec.Struct, frozen=True):
    """The model in production, by its registry version and its bundle's folder."""

    version: str
    bundle: Path


def evaluate(
    config: JobConfig, employees: Employees, tuning: Tuning, champion: Champion | None, folder: Path
) -> dict[str, Any]:
    """Write ``bundle/`` and ``plots/`` into ``folder``; returns the content of ``evaluation.json``.

    Raises ``ParityError`` when the export is not exact.
    """
    held_out = holdout_rows(employees.groups)
    development, holdout = employees.take(~held_out), employees.take(held_out)
    blend = Blend(tuning.members, tuning.bias, config.seed).fit(development.x, development.y)
    outliers = Outliers(config.seed).fit(development.x)
    write_bundle(folder / "bundle", config.model_name, blend, outliers, development)
    parity = check_parity(folder / "bundle", blend, outliers, employees.x, config.seed)

    bundle = Bundle.load(folder / "bundle")
    x, y = holdout.x, holdout.y
    p = bundle.probabilities(x)
    weights = resamples(y, config.seed)
    metrics = measure(p, y, weights)
    champion_metrics, comparison = None, None
    compared = compared_rows(holdout)
    curves = {"challenger": p}
    if champion:
        # Scored from the same records by its own bundle, so it may have another contract or other inputs.
        old = Bundle.load(champion.bundle)
        curves["champion"] = old.probabilities(encode_columns(holdout.columns(), old.contract))
        champion_metrics = measure(curves["champion"], y, weights)
        recent = y[compared]
        comparison = compare(p[compared], curves["champion"][compared], recent, resamples(recent, config.seed))
    fairness = assess(holdout, p, weights)
    latency = single_record_latency(bundle, as_records(holdout, np.arange(min(_TIMED_RECORDS, len(y)))))
    checks = check_floors(config.floors, metrics, fairness, latency["latency_ms"])
    reasons = reasons_to_fail(checks, comparison)
    importance = permutation_importance(bundle, x, y, config.seed)
    draw_all(folder / "plots", y, curves, importance, development)
    evaluation: dict[str, Any] = msgspec.to_builtins(
        {
            "verdict": "failed" if reasons else "passed",
            "reasons": reasons,
            "challenger": metrics,
            "champion": champion_metrics,
            "comparison": {
                "champion_version": champion.version,
                "rows": int(compared.sum()),
                "metrics": comparison,
            }
            if champion
            else None,
            "floors": checks,
            "fairness": fairness,
            "calibration": {
                "before": _error_before(blend, x, y),
                "after": metrics["calibration_error"].value,
            },
            "importance": {name: {"mean": mean, "sd": sd} for name, (mean, sd) in importance.items()},
            "latency": latency,
            "parity": parity,
            "tuning": {"trials": tuning.trials, "pruned": tuning.pruned, "best_roc_auc": tuning.best_roc_auc},
            "data": {
                "digest": employees.digest,
                "rows": len(employees.frame),
                "development_rows": len(development.frame),
                "holdout_rows": len(y),
                "holdout_leavers": int(y.sum()),
            },
        }
    )
    return evaluation


def permutation_importance(
    bundle: Bundle, x: NDArray[np.float32], y: NDArray[np.int64], seed: int
) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of the loss in ROC AUC when a feature is shuffled, by feature."""
    rng = np.random.default_rng(seed)
    once = np.ones((1, len(y)))
    whole = roc_auc(bundle.probabilities(x), y, once)[0]
    found = {}
    for column, field in enumerate(FEATURES):
        losses = []
        for _ in range(_SHUFFLES):
            shuffled = x.copy()
            shuffled[:, column] = rng.permutation(x[:, column])
            losses.append(whole - roc_auc(bundle.probabilities(shuffled), y, once)[0])
        found[field.name] = (round(float(np.mean(losses)), 6), round(float(np.std(losses)), 6))
    return found


def _error_before(blend: Blend, x: NDArray[np.float32], y: NDArray[np.int64]) -> float:
    """Calibration error of the plain mean of the members' own probabilities, as if nothing had been fitted."""
    plain = np.mean([pipeline.predict_proba(x)[:, 1] for pipeline in blend.pipelines_], axis=0)
    return round(float(calibration_error(plain, y, np.ones((1, len(y))))[0]), 6)
