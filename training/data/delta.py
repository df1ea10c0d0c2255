"""A Delta table as it is now: its log says which of the folder's files, and which of their rows, still count."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DELTA_LOG = "_delta_log"


class DeltaUnread(ValueError):
    """Raised for a Delta table that cannot be read here; the message says what to do."""


def is_delta(path: Path) -> bool:
    """Whether a folder is a Delta table."""
    return (path / DELTA_LOG).is_dir()


def in_delta(path: Path) -> bool:
    """Whether a path lies in the folder of a Delta table."""
    return any(is_delta(folder) for folder in path.absolute().parents)


def open_delta(path: str) -> Any:
    """The current rows of a Delta table, as an Arrow dataset. Raises ``DeltaUnread``."""
    with _told():
        return _table(path).to_pyarrow_dataset()


def delta_columns(path: str) -> list[str]:
    """The columns of a Delta table, which may be one that only Spark can read. Raises ``DeltaUnread``."""
    with _told():
        return [field.name for field in _table(path).schema().fields]


def _table(path: str) -> Any:
    # Imported here: most tables are files, and an executor of Spark has no use for it.
    from deltalake import DeltaTable

    return DeltaTable(path)


@contextmanager
def _told() -> Iterator[None]:
    from deltalake.exceptions import DeltaError

    try:
        yield
    except DeltaError as error:
        # Deletion vectors and renamed columns are in the log alone.
        reason = str(error).strip().splitlines()[0]
        raise DeltaUnread(
            f"it is a Delta table that cannot be read without Spark ({reason}): write its current rows to a Parquet "
            "file, and name that"
        ) from error
