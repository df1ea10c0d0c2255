"""What a trial of the search found. Apart from the search, so that keeping it needs no scikit-learn."""

from typing import Any

import msgspec

REPEATS = 2
"""Repeats of the folds. After each but the last, a trial that is worse than the median is pruned."""


class TrialResult(msgspec.Struct, frozen=True):
    """One trial: its parameters, and ROC AUC over the test rows of each repeat that it was given."""

    number: int
    parameters: dict[str, Any]
    scores: tuple[float, ...]
    seconds: float = 0.0

    @property
    def title(self) -> str:
        """What people call it, counted from 1 as the log does."""
        return f"trial {self.number + 1:02d} {self.parameters['family']}"

    @property
    def pruned(self) -> bool:
        return len(self.scores) < REPEATS

    @property
    def score(self) -> float:
        return sum(self.scores) / len(self.scores)
