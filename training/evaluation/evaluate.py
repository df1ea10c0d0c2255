"""Fit the chosen ensemble, export and check the bundle, and measure it on the hold-out."""

import logging
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.scoring.bundle import Bundle
from serving.scoring.encode import encode_columns
from training.config import JobConfig
from training.data.changes import changes, columns_as_before, told
from training.data.dataset import Dataset, compared_rows, holdout_rows
from training.evaluation import binary
from training.evaluation.acceptance import check_thresholds, missed_thresholds, single_record_latency, worse_than
from training.evaluation.binary import Comparison, Estimate, calibration_error, roc_auc
from training.evaluation.fairness import assess
from training.evaluation.plain import plain_probabilities
from training.evaluation.plots import draw_all
from training.export.bundle import as_records, write_bundle
from training.export.outliers import Outliers
from training.export.parity import Parity, check_parity
from training.registry import tags
from training.search.ensemble import Member, StackedEnsemble
from training.search.space import space_of

log = logging.getLogger(__name__)

_SHUFFLES = 5
_TIMED_RECORDS = 20


class Tuning(msgspec.Struct, frozen=True):
    """What ``tune`` hands over: the ensemble, and how it was found."""

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


class Judged(msgspec.Struct, frozen=True):
    """The challenger on the hold-out, and what others are compared with it by."""

    development: Dataset
    holdout: Dataset
    ensemble: StackedEnsemble
    p: NDArray[np.float64]
    """The challenger's answers on the hold-out, ``[n]``."""
    weights: NDArray[np.float64]
    """Resamples of the hold-out, ``[resamples, n]``."""
    seed: int


class _Comparison(msgspec.Struct, frozen=True):
    """Challenger and champion, as ``evaluation.json`` has it."""

    champion_version: str
    rows: int
    """Rows of the hold-out that both are compared on."""
    metrics: dict[str, Comparison]
    champion_lacks: str
    """What the champion has to do without here: it may look worse than it is."""


class _OfChampion(msgspec.Struct, frozen=True):
    """The champion on the hold-out."""

    p: NDArray[np.float64]
    figures: dict[str, Estimate]
    comparison: _Comparison


def evaluate(
    config: JobConfig, dataset: Dataset, tuning: Tuning, champion: Champion | None, folder: Path
) -> dict[str, Any]:
    """Write ``bundle/`` and ``plots/`` into ``folder``; returns the content of ``evaluation.json``.

    A part that a use case has nothing for is absent: ``fairness`` without groups, ``without_protected`` where the model
    sees no field that groups are compared by. Raises ``ParityError`` when the export is not exact.
    """
    use_case = dataset.use_case
    held_out = holdout_rows(use_case, dataset.groups)
    development, holdout = dataset.take(~held_out), dataset.take(held_out)
    ensemble, parity = _exported(config, dataset, tuning, development, holdout, folder / "bundle")

    bundle = Bundle.load(folder / "bundle")
    x, y = holdout.x, holdout.y
    p = bundle.probabilities(x)
    judged = Judged(development, holdout, ensemble, p, binary.resamples(y, config.seed), config.seed)
    figures = binary.measure(p, y, judged.weights)
    fairness = assess(holdout, p, judged.weights) if use_case.groups else None
    latency = single_record_latency(bundle, as_records(holdout, np.arange(min(_TIMED_RECORDS, len(y)))))
    checks = check_thresholds(use_case.thresholds, figures, fairness, latency["latency_ms"])
    plain, compared_with_plain = _plain(judged)
    old = _against_champion(judged, champion) if champion else None

    titles = binary.titles(use_case.binary)
    reasons = missed_thresholds(checks)
    if use_case.thresholds.not_worse_than_plain:
        reasons += worse_than("plain logistic regression", compared_with_plain, titles)
    if old:
        reasons += worse_than(f"champion (version {old.comparison.champion_version})", old.comparison.metrics, titles)

    importance = permutation_importance(bundle, x, y, config.seed)
    curves = {"challenger": p, "plain": plain, **({"champion": old.p} if old else {})}
    draw_all(folder / tags.PLOTS_FOLDER, holdout, curves, importance, development)
    evaluation: dict[str, Any] = msgspec.to_builtins(
        {
            "verdict": "failed" if reasons else "passed",
            "reasons": reasons,
            "titles": titles,
            # The evidence of a release keeps its members sorted: the order, the first figure above all, is told apart.
            "figures": list(titles),
            "challenger": figures,
            "champion": old.figures if old else None,
            "comparison": old.comparison if old else None,
            "plain": {"metrics": binary.measure(plain, y, judged.weights), "comparison": compared_with_plain},
            "thresholds": checks,
            **({"fairness": fairness} if fairness else {}),
            **_without_protected(judged),
            "calibration": {"before": _error_before(ensemble, x, y), "after": figures["calibration_error"].value},
            "importance": {name: {"mean": mean, "sd": sd} for name, (mean, sd) in importance.items()},
            **_band(bundle, p),
            "gives_reasons": bundle.reasons is not None,
            "latency": latency,
            "parity": parity,
            "tuning": {"trials": tuning.trials, "pruned": tuning.pruned, "best_roc_auc": tuning.best_roc_auc},
            "data": _rows(config, dataset, judged),
        }
    )
    return evaluation


def _exported(
    config: JobConfig, dataset: Dataset, tuning: Tuning, development: Dataset, holdout: Dataset, folder: Path
) -> tuple[StackedEnsemble, Parity]:
    """Fit on the development rows and write the bundle; returns the ensemble, and how exact the export is."""
    ensemble = StackedEnsemble(space_of(dataset.use_case), tuning.members, tuning.bias, config.seed)
    ensemble.fit(development.x, development.y)
    outliers = Outliers(config.seed).fit(development.x)
    write_bundle(folder, config.model_name, ensemble, outliers, development, holdout)
    return ensemble, check_parity(folder, ensemble, outliers, dataset.x, config.seed)


def _rows(config: JobConfig, dataset: Dataset, judged: Judged) -> dict[str, Any]:
    """What the version was trained and judged on."""
    return {
        "source": config.data,
        "digest": dataset.digest,
        "rows": len(dataset.frame),
        "original_rows": len(dataset.frame) - dataset.labelled,
        "labelled_rows": dataset.labelled,
        "development_rows": len(judged.development.frame),
        "holdout_rows": len(judged.holdout.y),
        "holdout_positives": int(judged.holdout.y.sum()),
    }


def _plain(judged: Judged) -> tuple[NDArray[np.float64], dict[str, Comparison]]:
    """A plain logistic regression's answers on the hold-out, and the challenger compared with it."""
    development, holdout = judged.development, judged.holdout
    use_case = holdout.use_case
    plain = plain_probabilities(use_case.features, development.x, development.y, holdout.x)
    return plain, binary.compare(judged.p, plain, holdout.y, judged.weights)


def _against_champion(judged: Judged, champion: Champion) -> _OfChampion:
    """The champion, scored from the same records by its own bundle: it may have another contract or other inputs."""
    holdout = judged.holdout
    fields = holdout.use_case.fields
    bundle = Bundle.load(champion.bundle)
    p = bundle.probabilities(
        encode_columns(columns_as_before(holdout.columns(), bundle.contract.fields, fields), bundle.contract)
    )
    lacks = told(changes(bundle.contract.features, fields))
    if lacks:
        log.warning(
            "version %s is compared without fields that the definition has changed: %s", champion.version, lacks
        )
    rows = compared_rows(holdout)
    y = holdout.y[rows]
    found = binary.compare(judged.p[rows], p[rows], y, binary.resamples(y, judged.seed))
    return _OfChampion(
        p, binary.measure(p, holdout.y, judged.weights), _Comparison(champion.version, int(rows.sum()), found, lacks)
    )


def _band(bundle: Bundle, p: NDArray[np.float64]) -> dict[str, Any]:
    """What answers call the top, and how many rows of the hold-out are in it."""
    band = bundle.contract.band
    return {"band": {"share": band.share, "cut": band.cut, "records": int((p > band.cut).sum())}} if band else {}


def _without_protected(judged: Judged) -> dict[str, Any]:
    """The same ensemble fitted without the features that groups are compared by: what feeding them is worth."""
    use_case, holdout = judged.holdout.use_case, judged.holdout
    reasons = {group.field: group.fed_because for group in use_case.groups}
    fed = [column for column, field in enumerate(use_case.features) if field.name in reasons]
    if not fed:
        return {}
    seen, unseen = judged.development.x.copy(), holdout.x.copy()
    seen[:, fed] = unseen[:, fed] = np.nan
    ensemble = StackedEnsemble(judged.ensemble.space, judged.ensemble.members, judged.ensemble.bias, judged.seed)
    p = ensemble.fit(seen, judged.development.y).predict_proba(unseen)[:, 1]
    return {
        "without_protected": {
            "reasons": {use_case.features[column].name: reasons[use_case.features[column].name] for column in fed},
            "metrics": binary.measure(p, holdout.y, judged.weights),
            "comparison": binary.compare(judged.p, p, holdout.y, judged.weights),
            "fairness": assess(holdout, p, judged.weights),
        }
    }


def permutation_importance(
    bundle: Bundle, x: NDArray[np.float32], y: NDArray[np.int64], seed: int
) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of the loss in ROC AUC when a feature is shuffled, by feature."""
    rng = np.random.default_rng(seed)
    once = np.ones((1, len(y)))
    whole = roc_auc(bundle.probabilities(x), y, once)[0]
    found = {}
    for column, field in enumerate(bundle.contract.features):
        losses = []
        for _ in range(_SHUFFLES):
            shuffled = x.copy()
            shuffled[:, column] = rng.permutation(x[:, column])
            losses.append(whole - roc_auc(bundle.probabilities(shuffled), y, once)[0])
        found[field.name] = (round(float(np.mean(losses)), 6), round(float(np.std(losses)), 6))
    return found


def _error_before(ensemble: StackedEnsemble, x: NDArray[np.float32], y: NDArray[np.int64]) -> float:
    """Calibration error of the plain mean of the members' own probabilities, as if nothing had been fitted."""
    plain = np.mean([pipeline.predict_proba(x)[:, 1] for pipeline in ensemble.pipelines_], axis=0)
    return round(float(calibration_error(plain, y, np.ones((1, len(y))))[0]), 6)
