"""The search space of a use case: its own ``search.py`` where it has one, otherwise ``training.search.models``."""

from collections.abc import Callable
from typing import Any

import msgspec
import optuna
from sklearn.pipeline import Pipeline

from serving.scoring.contract import Field
from training.search import models
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
    """``(parameters, features, seed)``: the pipeline, not fitted: a ``DesignMatrix``, and a model that
    ``training.export.classifier`` knows how to export."""

    def build(self, parameters: dict[str, Any], seed: int) -> Pipeline:
        """The pipeline that ``parameters`` describe, not fitted."""
        return self.make(parameters, self.features, seed)


def space_of(use_case: UseCase) -> SearchSpace:
    """The search space of a use case. Its ``search.py`` may define FAMILIES, STARTING_POINTS, suggest and build."""
    own = use_case.part("search")

    def chosen(name: str) -> Any:
        return getattr(own, name, getattr(models, name))

    return SearchSpace(
        features=use_case.features,
        families=chosen("FAMILIES"),
        starting_points=chosen("STARTING_POINTS"),
        suggest=chosen("suggest"),
        make=chosen("build"),
    )
