"""The partitions of forecasts: one for each date, replaced as a whole. Parquet embedded, Delta on Databricks.

``scores`` is what people read; ``beside`` has the forecasts of a version that has not taken over; ``former`` keeps what
``scores`` had before another version replaced it, so that a rollback can put it back. ``sums`` adds up what stands in
``scores``.
"""

from datetime import date
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from pyarrow import parquet

from training.batch.spark import SQL_TYPES
from training.batch.tables import Draft
from training.inference_log import layout
from training.inference_log.sql_engine import on_databricks, open_spark
from training.use_case import UseCase

BESIDE, FORMER, SUMS = "beside", "former", "sums"


class Store(Protocol):
    """Reads and replaces partitions; ``order`` says by which columns the rows of a table are sorted."""

    def read(self, table: str, day: date) -> pa.Table | None:
        """A partition, or ``None`` where there is none."""

    def write(self, table: str, day: date, rows: pa.Table) -> None:
        """Replace a partition. Killed at any point and repeated, it leaves the same rows."""


def open_store(use_case: UseCase, tables: Path, schema: pa.Schema) -> Store:
    """The store of this machine."""
    return DeltaStore(use_case, tables, schema) if on_databricks() else ParquetStore(tables)


class ParquetStore:
    """A folder a partition; the same rows give the same bytes."""

    def __init__(self, tables: Path) -> None:
        self._tables = tables

    def read(self, table: str, day: date) -> pa.Table | None:
        folder = layout.day_folder(self._tables, table, day)
        return parquet.read_table(folder, partitioning=None) if folder.is_dir() else None

    def write(self, table: str, day: date, rows: pa.Table) -> None:
        folder = layout.day_folder(self._tables, table, day)
        draft = Draft(folder, rows.schema)
        with draft:
            draft.add(rows)
        draft.publish()


class DeltaStore:
    """Through Spark, with the tables' own log: a partition is replaced by one commit."""

    def __init__(self, use_case: UseCase, tables: Path, schema: pa.Schema) -> None:
        self._engine: Any = open_spark(use_case)
        self._tables = tables
        self._schema = schema
        self._order = ", ".join(schema.names[: schema.names.index("horizon")])

    def read(self, table: str, day: date) -> pa.Table | None:
        kinds = {field.name: SQL_TYPES[field.type] for field in self._schema}
        self._engine.view_days("kept", self._tables, table, kinds, day)
        rows = self._engine.query(f"SELECT * FROM kept ORDER BY {self._order}")
        return pa.Table.from_pylist(rows, schema=self._schema) if rows else None

    def write(self, table: str, day: date, rows: pa.Table) -> None:
        # The kinds of an Arrow table are known without any row; those of a pandas frame are guessed from its first one.
        self._engine.session.createDataFrame(rows).createOrReplaceTempView("made")
        self._engine.write_day(["SELECT * FROM made"], self._tables, table, day, self._order)
