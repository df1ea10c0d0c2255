"""The search space of a use case: its own ``search.py`` where it has one, otherwise ``training.search.models``."""

from collections.abc import Callable
from typing import Any

import msgspec
import optuna
from sklearn.pipeline import Pipeline

from serving.scoring.contract import Field
from training.search import models
from training.search.features import FeaturesError, OwnFeatures
from training.use_case import UseCase


class SearchSpace(msgspec.Struct, frozen=True):
    """What is searched. It goes to the workers as it is, so its functions stand in modules that they can import."""

    features: tuple[Field, ...]
    """The fields behind the columns of the encoded matrix."""
    families: tuple[str, ...]
    """The ensemble may take the best trial of each."""
    starting_points: tuple[dict[str, Any], ...]
    """Parameters that are tried first."""
    suggest: Callable[[optuna.trial.BaseTrial], dict[str, Any]]
    """Parameters of one pipeline, with member ``family``."""
    make: Callable[[dict[str, Any], tuple[Field, ...], int], Pipeline]
    """``(parameters, features, seed)``: the pipeline, not fitted: a ``DesignMatrix``, and steps that convert to ONNX,
    the last of which is a classifier with ``predict_proba``."""
    make_features: Callable[[], Any] | None = None
    """A scikit-learn transformer, not fitted, that stands behind the design matrix; ``None``: there is none."""

    def build(self, parameters: dict[str, Any], seed: int) -> Pipeline:
        """The pipeline that ``parameters`` describe, not fitted."""
        pipeline = self.make(parameters, self.features, seed)
        if self.make_features is None:
            return pipeline
        (name, design), *rest = pipeline.steps
        own = OwnFeatures(self.make_features())
        return Pipeline([(name, design.set_params(reproducible=True)), ("features", own), *rest])


def space_of(use_case: UseCase) -> SearchSpace:
    """The search space of a use case.

    Its ``search.py`` may define FAMILIES, STARTING_POINTS, suggest and build, its ``features.py`` defines
    make_features. Raises ``FeaturesError`` where it does not.
    """
    own, features = use_case.part("search"), use_case.part("features")
    if features is not None and not hasattr(features, "make_features"):
        raise FeaturesError(f"use_cases/{use_case.name}/features.py defines no make_features(): return a transformer")

    def chosen(name: str) -> Any:
        return getattr(own, name, getattr(models, name))

    return SearchSpace(
        features=use_case.features,
        families=chosen("FAMILIES"),
        starting_points=chosen("STARTING_POINTS"),
        suggest=chosen("suggest"),
        make=chosen("build"),
        make_features=features.make_features if features else None,
    )
