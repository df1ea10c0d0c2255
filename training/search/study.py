"""The search: Optuna's TPE with pruning over the model families, and the ensemble of their best.

Trials are asked for in generations of fixed size, their folds are spread over an engine, and results are
told in order. So a seed gives the same trials on one process, on many, and on Spark. Trials that an
interrupted try of the same job has recorded are not computed again.
"""

import logging
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from training.search.ensemble import Member, fit_weights
from training.search.executor import Engine
from training.search.space import SearchSpace
from training.search.trial_result import REPEATS, TrialResult
from training.search.trials import FOLDS, Fit, TrialData, fit_fold

log = logging.getLogger("training")

GENERATION = 4
"""Trials that are asked for at once: more means more side by side, less means better informed."""
Recorder = Callable[[TrialResult], None]


def search(
    data: TrialData,
    engine: Engine,
    *,
    trials: int,
    seed: int,
    recorded: Mapping[int, TrialResult] | None = None,
    record: Recorder = lambda result: None,
    scored: dict[int, NDArray[np.float64]] | None = None,
) -> list[TrialResult]:
    """Run ``trials`` trials; ``recorded`` ones are taken as they are, new ones are given to ``record``.

    ``scored`` gets the out-of-fold scores of each new trial in the first repeat, ``{number: [n]}``, for ``choose``.
    """
    study = _study(data.space, seed)
    results: list[TrialResult] = []
    known = recorded or {}
    for first in range(0, trials, GENERATION):
        asked = [study.ask() for _ in range(first, min(first + GENERATION, trials))]
        parameters = {trial.number: data.space.suggest(trial) for trial in asked}
        started = time.monotonic()
        scores: dict[int, list[float]] = {
            trial.number: list(known[trial.number].scores) if trial.number in known else [] for trial in asked
        }
        alive = asked
        for repeat in range(REPEATS):
            fresh = {trial.number: parameters[trial.number] for trial in alive if len(scores[trial.number]) <= repeat}
            for number, whole in _out_of_fold(data, engine, fresh, seed, repeat).items():
                scores[number].append(float(roc_auc_score(data.y, whole)))
                if repeat == 0 and scored is not None:
                    scored[number] = whole
            for trial in alive:
                trial.report(scores[trial.number][repeat], repeat)
            alive = [trial for trial in alive if repeat == REPEATS - 1 or not trial.should_prune()]
        seconds = (time.monotonic() - started) / len(asked)
        for trial in asked:
            result = TrialResult(trial.number, parameters[trial.number], tuple(scores[trial.number]), round(seconds, 3))
            if result.pruned:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                study.tell(trial, result.score)
            if trial.number not in known:
                record(result)
            results.append(result)
            _tell(results, trials)
    return results


def _tell(results: list[TrialResult], trials: int) -> None:
    """One line on the trial that has just ended."""
    last = results[-1]
    best = max((result.score for result in results if not result.pruned), default=None)
    log.info(
        "trial %d of %d, %s: %s%s",
        len(results),
        trials,
        last.parameters["family"],
        "given up early" if last.pruned else f"ROC AUC {last.score:.4f}",
        f"; best so far {best:.4f}" if best is not None else "",
    )


def choose(
    data: TrialData,
    engine: Engine,
    results: list[TrialResult],
    *,
    seed: int,
    scored: Mapping[int, NDArray[np.float64]] | None = None,
) -> tuple[list[Member], float]:
    """The ensemble: best trial of each family, with weights fitted on out-of-fold scores; members and bias.

    Only trials that are not ``scored`` (see ``search``) are fitted again.
    """
    best: dict[int, dict[str, Any]] = {}
    for family in data.space.families:
        complete = [r for r in results if r.parameters["family"] == family and not r.pruned]
        if complete:
            winner = max(complete, key=lambda result: (result.score, -result.number))
            best[winner.number] = winner.parameters
    known = scored or {}
    unknown = {number: own for number, own in best.items() if number not in known}
    whole = {**known, **_out_of_fold(data, engine, unknown, seed, 0)}
    return fit_weights(list(best.values()), np.column_stack([whole[number] for number in best]), data.y)


def _study(space: SearchSpace, seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=2 * GENERATION, multivariate=True, group=True, constant_liar=True
        )
    pruner = optuna.pruners.MedianPruner(n_startup_trials=GENERATION, n_warmup_steps=0)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    for point in space.starting_points:
        study.enqueue_trial(point)
    return study


def _out_of_fold(
    data: TrialData, engine: Engine, parameters: Mapping[int, dict[str, Any]], seed: int, repeat: int
) -> dict[int, NDArray[np.float64]]:
    """Score of every row by the model that has not seen it, for each trial: ``{number: float64 [n]}``."""
    # What takes longest comes first, so that no process is left with it at the end.
    order = sorted(parameters, key=lambda number: parameters[number]["family"] == "logistic")
    fits = [Fit(parameters[number], seed, repeat, fold) for number in order for fold in range(FOLDS)]
    answers = iter(engine.map(fit_fold, fits) if fits else [])
    whole: dict[int, NDArray[np.float64]] = {}
    for number in order:
        whole[number] = np.empty(len(data.y))
        for fold in range(FOLDS):
            whole[number][data.fold_of[repeat] == fold] = next(answers)
    return whole
