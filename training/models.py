"""The model families, and what is searched in each.

Every pipeline takes the encoded matrix and does all preprocessing inside, so that nothing is learned from
rows outside a training fold.
"""

from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from training.features import Design

FAMILIES = ("logistic", "forest", "boosting")
SMALLEST_PROBABILITY = 0.002
"""Probabilities of a forest are kept away from 0 and 1 by this before their log-odds are taken."""

STARTING_POINTS: tuple[dict[str, Any], ...] = (
    {"family": "logistic", "knots": 2, "alpha": 0.5, "C": 0.1, "l1_ratio": 0.0},
    {"family": "boosting", "learning_rate": 0.1, "max_iter": 120, "max_depth": 2, "min_samples_leaf": 20,
     "l2_regularization": 5.0},
    {"family": "forest", "n_estimators": 150, "max_depth": 12, "min_samples_leaf": 3, "max_features": 0.3},
)  # fmt: skip
"""Tried first, one of each family, so that every family has been tried however few the trials."""


def suggest(trial: optuna.trial.BaseTrial) -> dict[str, Any]:
    """Ask a trial for the parameters of one pipeline; ``build`` takes them."""
    family = trial.suggest_categorical("family", FAMILIES)
    if family == "logistic":
        return {
            "family": family,
            "knots": trial.suggest_int("knots", 0, 4),
            "alpha": trial.suggest_categorical("alpha", [0.1, 0.25, 0.5, 1.0]),
            "C": trial.suggest_float("C", 0.02, 1.0, log=True),
            "l1_ratio": trial.suggest_categorical("l1_ratio", [0.0, 0.5, 1.0]),
        }
    if family == "forest":
        return {
            "family": family,
            "n_estimators": trial.suggest_int("n_estimators", 100, 200, step=50),
            "max_depth": trial.suggest_int("max_depth", 6, 16),
            "min_samples_leaf": trial.suggest_int("min_samples_leaf", 2, 10),
            "max_features": trial.suggest_float("max_features", 0.1, 0.6),
        }
    return {
        "family": family,
        "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.2, log=True),
        "max_iter": trial.suggest_int("max_iter", 60, 240, step=20),
        "max_depth": trial.suggest_int("max_depth", 1, 3),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 10, 50),
        "l2_regularization": trial.suggest_float("l2_regularization", 0.1, 30.0, log=True),
    }


def build(parameters: dict[str, Any], seed: int) -> Pipeline:
    """The pipeline that ``parameters`` describe, not fitted. Single-threaded: trials run side by side."""
    chosen = dict(parameters)
    family = chosen.pop("family")
    if family == "logistic":
        design = Design(linear=True, knots=chosen.pop("knots"), alpha=chosen.pop("alpha"))
        sparse = chosen["l1_ratio"] > 0
        model = LogisticRegression(
            **chosen,
            solver="saga" if sparse else "lbfgs",
            max_iter=300 if sparse else 1000,
            tol=1e-3 if sparse else 1e-4,
            random_state=seed,
        )
    elif family == "forest":
        design = Design(linear=False)
        model = ExtraTreesClassifier(**chosen, n_jobs=1, random_state=seed)
    elif family == "boosting":
        design = Design(linear=False)
        model = HistGradientBoostingClassifier(**chosen, early_stopping=False, random_state=seed)
    else:
        raise ValueError(f"family {family!r} is unknown: use one of {', '.join(FAMILIES)}")
    return Pipeline([("design", design), ("model", model)])


def log_odds(pipeline: Pipeline, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """What a fitted pipeline says of encoded rows, as log-odds, float64 ``[n]``."""
    if isinstance(pipeline[-1], ExtraTreesClassifier):
        probability = np.clip(pipeline.predict_proba(x)[:, 1], SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        odds: NDArray[np.float64] = np.log(probability / (1 - probability))
        return odds
    decided: NDArray[np.float64] = pipeline.decision_function(x)
    return decided
