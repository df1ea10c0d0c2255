"""Choose the settings of the boosting by Optuna, on rolling origins with the gap of real life."""

from collections.abc import Callable, Mapping

import msgspec
import pandas as pd

from training.forecasting.definition import Series
from training.forecasting.recipe import Recipe


class Trial(msgspec.Struct, frozen=True):
    """One set of settings that was tried."""

    number: int
    recipe: Recipe
    score: float
    """WAPE over the origins, or MAPE where the recipe's point forecast is ``percent``."""
    seconds: float


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
    """``trials`` trials, ``start`` being the first; the best has the lowest score. Recorded ones are not run again."""
    raise NotImplementedError


def best(trials: list[Trial]) -> Recipe:
    """The recipe of the lowest score, the earliest of equals."""
    raise NotImplementedError
