"""The model families, and what is searched in each, for a use case that brings no ``search.py`` of its own.

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

from serving.scoring.contract import Field
from serving.scoring.parts import by_parts
from training.search.design import DesignMatrix

FAMILIES = ("logistic", "forest", "boosting")

STARTING_POINTS: tuple[dict[str, Any], ...] = (
    {"family": "logistic", "knots": 2, "alpha": 0.5, "C": 0.07},
    {"family": "boosting", "learning_rate": 0.1, "max_iter": 160, "max_depth": 1, "min_samples_leaf": 20,
     "l2_regularization": 5.0},
    {"family": "forest", "n_estimators": 80, "max_depth": 12, "min_samples_leaf": 2, "max_features": 0.1},
)  # fmt: skip
"""Tried first, one of each family, so that every family has been tried however few the trials."""


def suggest(trial: optuna.trial.BaseTrial) -> dict[str, Any]:
    """Ask a trial for the parameters of one pipeline; ``build`` takes them."""
    family = trial.suggest_categorical("family", FAMILIES)
    if family == "logistic":
        return {
            "family": family,
            "knots": trial.suggest_int("knots", 0, 4),
            "alpha": trial.suggest_categorical("alpha", [0.3, 0.5, 0.7, 1.0]),
            "C": trial.suggest_float("C", 0.02, 0.5, log=True),
        }
    if family == "forest":
        return {
            "family": family,
            "n_estimators": trial.suggest_int("n_estimators", 60, 120, step=20),
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


def build(parameters: dict[str, Any], features: tuple[Field, ...], seed: int) -> Pipeline:
    """The pipeline that ``parameters`` describe, not fitted. Single-threaded: trials run side by side.

    ``features`` are the fields behind the columns of the encoded matrix.
    """
    categories = tuple(column for column, field in enumerate(features) if field.kind == "category")
    chosen = dict(parameters)
    family = chosen.pop("family")
    if family == "logistic":
        design = DesignMatrix(categories, knots=chosen.pop("knots"), alpha=chosen.pop("alpha"))
        model = LogisticRegression(**chosen, max_iter=1000)
    elif family == "forest":
        design = DesignMatrix(categories, linear=False)
        model = ExtraTreesClassifier(**chosen, n_jobs=1, random_state=seed)
    elif family == "boosting":
        design = DesignMatrix(categories, linear=False)
        model = HistGradientBoostingClassifier(**chosen, early_stopping=False, random_state=seed)
    else:
        raise ValueError(f"family {family!r} is unknown: use one of {', '.join(FAMILIES)}")
    return Pipeline([("design", design), ("model", model)])


def score(pipeline: Pipeline, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """What a fitted pipeline says of encoded rows, float64 ``[n]``: what the ensemble weighs and adds up.

    Log-odds of a linear model and of boosting, the probability of a forest. All three are sums, over fields
    or over trees, so the ensemble is one as well. Of any other model it is the probability too.
    """
    return by_parts(lambda part: _score(pipeline, part), x)


def _score(pipeline: Pipeline, x: NDArray[np.float32]) -> NDArray[np.float64]:
    if isinstance(pipeline[-1], LogisticRegression | HistGradientBoostingClassifier):
        decided: NDArray[np.float64] = pipeline.decision_function(x)
        return decided
    probability: NDArray[np.float64] = pipeline.predict_proba(x)[:, 1]
    return probability
