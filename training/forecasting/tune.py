"""Choose the settings of the boosting by Optuna, on rolling origins with the gap of real life."""

import functools
import logging
import time
import warnings
from collections.abc import Callable, Mapping

import msgspec
import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray

from training.forecasting.definition import Series
from training.forecasting.features import Rows, future_targets, make_rows
from training.forecasting.forecaster import calibration_origins, training_rows
from training.forecasting.models import Goal, fit_trees
from training.forecasting.recipe import Boosting, Recipe
from training.forecasting.series import Panel, TableError, codes_of, make_panel

log = logging.getLogger("training")

_WHOLE: dict[str, tuple[int, int]] = {"iterations": (50, 1200), "leaves": (8, 160), "rows_in_leaf": (10, 400)}
_REAL: dict[str, tuple[float, float]] = {"learning_rate": (0.02, 0.2), "l2": (0.001, 10.0), "features": (0.2, 1.0)}
"""The ranges that are searched, all on a logarithmic scale."""


class Trial(msgspec.Struct, frozen=True):
    """One set of settings that was tried."""

    number: int
    recipe: Recipe
    score: float
    """WAPE over the origins, or MAPE where the recipe's point forecast is ``percent``, as a share."""
    seconds: float


class _Fold(msgspec.Struct, frozen=True):
    """What is learned from at an origin, and the weeks after it."""

    train: Rows
    test: Rows
    actual: NDArray[np.float64]


def tune(
    start: Recipe,
    definition: Series,
    history: pd.DataFrame,
    plan: pd.DataFrame,
    *,
    trials: int,
    origins: int = 2,
    seed: int = 20,
    recorded: Mapping[int, Trial] | None = None,
    record: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """``trials`` trials, the first being ``start`` within the ranges that are searched; the best has the lowest score.

    Origins are the last ones of the history, a horizon apart: nothing after them is seen by what is fitted at them.
    ``recorded`` trials are not run again, new ones are given to ``record``. Raises ``TableError``.
    """
    panel = make_panel(history, plan, definition, codes_of(history, definition))
    newest = calibration_origins(panel, 1)[0]

    @functools.cache  # made for the first trial that is run: a task that goes on may have all of them recorded
    def folds() -> list[_Fold]:
        return [_fold(start, panel, newest - place * definition.horizon) for place in range(origins - 1, -1, -1)]

    study = _study(seed)
    study.enqueue_trial(_settings(start.boosting))
    known = recorded or {}
    found = []
    for number in range(trials):
        asked = study.ask()
        recipe = msgspec.structs.replace(start, boosting=_suggest(asked, start.boosting))
        if number in known:
            trial = known[number]
        else:
            began = time.monotonic()
            score = float(np.mean([_score(recipe, fold) for fold in folds()]))
            trial = Trial(number, recipe, score, round(time.monotonic() - began, 3))
            record(trial)
        study.tell(asked, trial.score)
        found.append(trial)
        lowest = min(one.score for one in found)
        log.info("trial %d of %d: error %.4f; best so far %.4f", len(found), trials, trial.score, lowest)
    return found


def best(trials: list[Trial]) -> Recipe:
    """The recipe of the lowest score, the earliest of equals."""
    return min(trials, key=lambda trial: (trial.score, trial.number)).recipe


def _study(seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=6, multivariate=True)
    return optuna.create_study(direction="minimize", sampler=sampler)


def _suggest(trial: optuna.Trial, start: Boosting) -> Boosting:
    whole = {name: trial.suggest_int(name, low, high, log=True) for name, (low, high) in _WHOLE.items()}
    real = {name: trial.suggest_float(name, low, high, log=True) for name, (low, high) in _REAL.items()}
    return msgspec.structs.replace(start, **whole, **real)


def _settings(boosting: Boosting) -> dict[str, float]:
    """The starting point, within the ranges that are searched."""
    return {name: min(max(getattr(boosting, name), low), high) for name, (low, high) in (_WHOLE | _REAL).items()}


def _fold(recipe: Recipe, panel: Panel, origin: int) -> _Fold:
    past = panel.until(origin)
    if not len(past.observed):
        raise TableError("the history is too short for the rolling origins that tuning wants: ask for fewer")
    test = make_rows(past, future_targets(past, [origin]))
    actual = test.frame[["series", "t"]].merge(panel.observed[["series", "t", "y"]], how="left", on=["series", "t"])
    return _Fold(training_rows(recipe, past), test, actual["y"].to_numpy(float))


def _score(recipe: Recipe, fold: _Fold) -> float:
    goal: Goal = "percent" if recipe.point == "percent" else "q50"
    model = fit_trees(fold.train.x, fold.train.frame["y"].to_numpy(float), goal, recipe.boosting, recipe.seed)
    off = np.abs(np.maximum(np.expm1(model.predict(fold.test.x)), 0.0) - fold.actual)
    known = ~np.isnan(fold.actual)
    if recipe.point == "percent":
        known &= fold.actual > 0
        return float(np.mean(off[known] / fold.actual[known]))
    return float(off[known].sum() / max(fold.actual[known].sum(), 1.0))
