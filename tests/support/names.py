"""The names of a use case in Airflow, from the one list that there is: the DAG files, and what ``UseCase`` calls them.

``tests/use_cases/test_use_case.py`` holds the two together.
"""

from pathlib import Path

from training.use_case import UseCase

_NO_KIND = "broken_use_cases"
"""A file that tells Airflow of definitions which do not hold, and makes no DAG."""
KINDS = tuple(
    sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "dags").glob("*.py") if path.stem != _NO_KIND)
)
"""What the DAGs of a use case with a server do: each is named ``<use case>_<kind>``, as its file is."""


def dags(use_case: UseCase) -> set[str]:
    """The ids of its DAGs."""
    return _named(use_case, "_dag")


def assets(use_case: UseCase) -> set[str]:
    """The names of its assets."""
    return _named(use_case, "_asset")


def _named(use_case: UseCase, ending: str) -> set[str]:
    return {getattr(use_case, name) for name in vars(UseCase) if name.endswith(ending)}
