"""A use case from a table, in memory: read, judged, measured, and held to every check before anything is written."""

import msgspec

from training.data.data_error import DataError
from training.data.dataset import read_table
from training.data.read_file import read_raw
from training.scaffold.measure import Measured, measure_table
from training.scaffold.profile import Profile, ScaffoldError, profile
from training.use_case import UseCase, UseCaseError

_MANY_ROWS = 20_000
"""Rows above which the trials are lowered, in proportion."""
_FEWEST_TRIALS = 6
_TRIALS = 30


class Draft(msgspec.Struct, frozen=True):
    """What came of a table."""

    use_case: UseCase
    profile: Profile
    measured: Measured


def draft(name: str, data: str, label: str, key: str | None = None, positive: str | None = None) -> Draft:
    """Read ``data`` (CSV or Parquet) and draft a use case that accepts it.

    Raises ``ScaffoldError`` with all that stands in the way, in the caller's words.
    """
    try:
        found = profile(read_raw(data), label, key, positive)
        use_case = _use_case(name, found)
        dataset = read_table(use_case, data)
    except DataError as error:
        raise ScaffoldError([str(fault) for fault in error.faults]) from error
    except UseCaseError as error:
        raise ScaffoldError([str(error)]) from error
    measured = measure_table(dataset)
    return Draft(msgspec.structs.replace(use_case, thresholds=measured.thresholds), found, measured)


def _use_case(name: str, found: Profile) -> UseCase:
    label = found.label
    return UseCase(
        name=name,
        title=f"{name.replace('_', ' ').capitalize()} API",
        description=(
            f"Probability that {label.field} is {label.positive}. A figure to start from, and not a decision."
        ),
        owner="mlops",
        fields=found.fields,
        label=label,
        key=found.key,
        groups=found.groups,
        purpose=f"It estimates the probability that {label.field} is {label.positive}.",
        misuse=(
            "It is not made to decide about a person on its own, and it says nothing about why a single outcome comes "
            "about. Data of other places or times may follow other rules: watch drift."
        ),
        trials=max(_FEWEST_TRIALS, min(_TRIALS, _TRIALS * _MANY_ROWS // found.rows)),
    )
