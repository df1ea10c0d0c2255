"""The names of a use case in Airflow, from the one list that there is: the DAG files, and what ``UseCase`` calls them.

``tests/use_cases/test_use_case.py`` holds the two together.
"""

from pathlib import Path

from training.use_case import UseCase

_NO_KIND = "broken_use_cases"
"""A file that tells Airflow of definitions which do not hold, and makes no DAG."""
_WITHOUT_A_SERVER = {"release_table": "release_dag", "rollback_table": "rollback_dag"}
_OF_FORECASTS = {"forecast": "score_dag", "retrain_weekly": "retrain_dag"}
"""Files that make a DAG in place of another one, and what ``UseCase`` calls its id."""
KINDS = tuple(
    sorted(
        path.stem
        for path in (Path(__file__).resolve().parents[2] / "dags").glob("*.py")
        if path.stem not in (_NO_KIND, *_WITHOUT_A_SERVER, *_OF_FORECASTS)
    )
)
"""What the DAGs of a use case with a server do: each is named ``<use case>_<kind>``, as its file is."""


def dags(use_case: UseCase) -> set[str]:
    """The ids of its DAGs."""
    return set(files(use_case))


def files(use_case: UseCase) -> dict[str, str]:
    """Its DAGs, each with the file that makes it."""
    made = {dag_id: dag_id.removeprefix(f"{use_case.name}_") for dag_id in _named(use_case, "_dag")}
    if not use_case.online:
        del made[use_case.stop_dag], made[use_case.resume_dag], made[use_case.retrain_dag]
        made |= {getattr(use_case, name): file for file, name in _WITHOUT_A_SERVER.items()}
    if use_case.series:
        made |= {getattr(use_case, name): file for file, name in _OF_FORECASTS.items()}
    return made


def assets(use_case: UseCase) -> set[str]:
    """The names of its assets."""
    return _named(use_case, "_asset")


def _named(use_case: UseCase, ending: str) -> set[str]:
    return {getattr(use_case, name) for name in vars(UseCase) if name.endswith(ending)}
