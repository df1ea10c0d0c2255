"""What a worker computes: one pipeline, fitted on one training fold, asked about its test fold.

A pure function of its arguments, so that it gives the same numbers in this process, in a pool of local
processes and on Spark.
"""

import warnings
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from training.search.models import score
from training.search.space import SearchSpace

FOLDS = 5


class TrialData(msgspec.Struct, frozen=True):
    """What every fit of a search needs: encoded matrix, outcome and test rows of each fold."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    fold_of: NDArray[np.int8]
    """Fold of each row in each repeat, int8 ``[repeats, n]``."""
    space: SearchSpace


class Fit(msgspec.Struct, frozen=True):
    """One fit to do."""

    parameters: dict[str, Any]
    seed: int
    repeat: int
    fold: int


def split_folds(y: NDArray[np.int64], groups: NDArray[Any], repeats: int, seed: int) -> NDArray[np.int8]:
    """Stratified folds, ``[repeats, n]``; rows of one group stay in one fold."""
    _, groups = np.unique(groups, return_inverse=True)
    grouped = len(groups) > 0 and int(groups.max()) + 1 < len(groups)
    splitter = StratifiedGroupKFold if grouped else StratifiedKFold
    fold_of = np.zeros((repeats, len(y)), np.int8)
    for repeat in range(repeats):
        folds = splitter(FOLDS, shuffle=True, random_state=seed + repeat)
        for number, (_, test) in enumerate(folds.split(np.zeros(len(y)), y, groups if grouped else None)):
            fold_of[repeat, test] = number
    return fold_of


def fit_fold(data: TrialData, fit: Fit) -> NDArray[np.float64]:
    """Fit on all but one fold; scores of that fold's rows, in row order, float64 ``[test rows]``."""
    test = data.fold_of[fit.repeat] == fit.fold
    with warnings.catch_warnings():
        # A search meets settings that converge slowly; their score tells what they are worth.
        warnings.simplefilter("ignore", ConvergenceWarning)
        pipeline = data.space.build(fit.parameters, fit.seed).fit(data.x[~test], data.y[~test])
    return score(pipeline, data.x[test])
