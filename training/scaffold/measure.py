"""Thresholds that follow from the table: what a plain model reaches on it, with room."""

import math
import warnings

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from training.data.dataset import HOLDOUT_SHARE, Dataset
from training.evaluation.binary import CONFIDENCE, Estimate, calibration_error, measure, resamples
from training.evaluation.fairness import assess
from training.evaluation.plain import plain_model
from training.use_case import Thresholds

_ROWS = 5_000
"""Rows that are measured on: more would change the thresholds little, and take long."""
_FOLDS = 5
_DRAWS = 200
_SEED = 20
_CALIBRATION_ROOM = 0.03
_LEAST_CALIBRATION_ERROR = 0.05
_GAP_ROOM = 0.1
_LEAST_GAP = 0.2


class Measured(msgspec.Struct, frozen=True):
    """What cross-validation of a plain logistic regression found, and the thresholds that follow."""

    roc_auc: Estimate
    thresholds: Thresholds
    reasons: dict[str, str]
    """Why each threshold is what it is, by its name."""

    @property
    def signal(self) -> bool:
        """Whether the table tells more about the label than chance would."""
        return self.roc_auc.low > self.thresholds.minimum_roc_auc_low


def measure_table(dataset: Dataset) -> Measured:
    """Cross-validate the plain model on the table, or on a sample of a large one."""
    measured = _sampled(dataset)
    p, y = _out_of_fold(measured), measured.y
    weights = resamples(y, _SEED)
    auc = measure(p, y, weights, ("roc_auc",))["roc_auc"]
    holdout = min(round(HOLDOUT_SHARE * len(dataset.frame)), len(y))
    error = _largest_calibration_error(p, y, holdout)
    limits = {"minimum_roc_auc_low": 0.5, "maximum_calibration_error": _calibration_limit(error)}
    reasons = {
        "minimum_roc_auc_low": f"A table without signal does not pass. A plain logistic regression reaches "
        f"{auc.value:.3f} in five folds ({CONFIDENCE:.0%} interval {auc.low:.3f} to {auc.high:.3f}).",
        "maximum_calibration_error": f"On {holdout:,} hold-out rows the plain model's is up to {error:.3f}, by chance "
        f"alone for the most part; plus {_CALIBRATION_ROOM:g}.",
        "not_worse_than_plain": "What is tuned has to be worth it.",
    }
    if dataset.use_case.groups:
        gap = assess(measured, p, weights)["largest_gaps"]["true_positive_rate"]
        limits["maximum_fairness_gap"] = _up(max(gap["value"] + _GAP_ROOM, _LEAST_GAP), 0.05)
        reasons["maximum_fairness_gap"] = (
            f"The plain model's largest gap in true-positive rate is {gap['value']:.2f}"
            + (f" ({gap['attribute']})" if gap["attribute"] else ": no two groups are large enough to compare")
            + f"; plus {_GAP_ROOM:g}, at least {_LEAST_GAP:g}. Lower it to what you can answer for."
        )
    return Measured(auc, msgspec.convert(limits, Thresholds), reasons)


def _calibration_limit(error: float) -> float:
    return _up(max(error + _CALIBRATION_ROOM, _LEAST_CALIBRATION_ERROR), 0.01)


def _sampled(dataset: Dataset) -> Dataset:
    rows = len(dataset.frame)
    if rows <= _ROWS:
        return dataset
    chosen = np.zeros(rows, bool)
    rng, y = np.random.default_rng(_SEED), dataset.y
    for outcome in (0, 1):
        own = np.flatnonzero(y == outcome)
        chosen[rng.choice(own, max(round(_ROWS * len(own) / rows), min(len(own), _FOLDS * 10)), replace=False)] = True
    return dataset.take(chosen)


def _out_of_fold(dataset: Dataset) -> NDArray[np.float64]:
    """The plain model's probability for each row, by a fit that has not seen it, ``[n]``."""
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=_SEED)
    with warnings.catch_warnings():
        # A figure to set limits by: one that has nearly converged is good enough.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = plain_model(dataset.use_case.features)
        answers = cross_val_predict(model, dataset.x, dataset.y, cv=folds, method="predict_proba")
    probabilities: NDArray[np.float64] = answers[:, 1]
    return probabilities


def _largest_calibration_error(p: NDArray[np.float64], y: NDArray[np.int64], rows: int) -> float:
    """The calibration error that hold-outs of so many rows stay below, but for one in forty."""
    rng = np.random.default_rng(_SEED)
    drawn = (rng.choice(len(y), rows, replace=False) for _ in range(_DRAWS))
    errors = [calibration_error(p[own], y[own], np.ones((1, rows)))[0] for own in drawn]
    return float(np.quantile(errors, 0.975))


def _up(value: float, step: float) -> float:
    """The next multiple of ``step``, at most 1."""
    return min(round(math.ceil(round(value / step, 6)) * step, 6), 1.0)
