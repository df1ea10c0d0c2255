"""MLflow stores on SQLite, and real servers of them, for tests.

MLflow makes a new database by all the migrations that it has had since its first version. That is done once for all
tests; each store begins as a copy.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.once import made_once

DATABASE = "mlflow.db"


def empty_store(folder: Path) -> str:
    """Put an empty store into a folder, and return its address."""
    file = folder / DATABASE
    shutil.copyfile(made_once(DATABASE, _migrate), file)
    return f"sqlite:///{file}"


def _migrate(file: Path) -> None:
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine_with_retry

    engine = create_sqlalchemy_engine_with_retry(f"sqlite:///{file}")
    try:
        # The tables alone: what MLflow puts into them knows where artifacts go.
        _initialize_tables(engine)
        with engine.connect() as connection:
            # The file keeps it: a commit waits for the disk once instead of four times.
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    finally:
        engine.dispose()


@contextmanager
def store_in(folder: Path) -> Iterator[None]:
    """Let this process's MLflow keep everything in a folder, which is empty."""
    import mlflow

    address = empty_store(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # with SQLite and no server, artifacts go below the working directory
        mlflow.set_tracking_uri(address)
        mlflow.set_registry_uri(address)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(None)
            mlflow.set_registry_uri(None)
