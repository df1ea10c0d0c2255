"""How long a training run will take, said before it starts."""

from training.use_case import UseCase

_FIXED_SECONDS = 30.0
"""What a training run takes whatever its data: the starts of its steps, mostly."""
_TRIAL_SECONDS, _FIT_SECONDS = 4.5e-5, 2e-5
"""For each row and feature, on two cores: a trial of the search, and the fits after it. Measured by
``make bench-large-table`` on 100,000 rows; a row of a small table takes less."""
_LONG_MINUTES = 2.0


def expected_minutes(rows: int, use_case: UseCase) -> float:
    """An estimate by rows, features and trials alone, for two cores."""
    cells = rows * len(use_case.features)
    return (_FIXED_SECONDS + cells * (use_case.trials * _TRIAL_SECONDS + _FIT_SECONDS)) / 60


def long_training(rows: int, use_case: UseCase) -> str:
    """What people are told of a training run that takes minutes; empty where it does not."""
    minutes = expected_minutes(rows, use_case)
    if minutes < _LONG_MINUTES:
        return ""
    return (
        f"With {use_case.trials} trials the training will take about {minutes:.0f} minutes on two cores. "
        f"Fewer trials take less: set them in [use_cases.{use_case.name}] of the settings."
    )
