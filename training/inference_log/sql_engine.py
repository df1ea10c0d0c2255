"""What the curation asks of an SQL engine, so that one set of statements runs on DuckDB and on Spark.

The statements use what both understand, and a few functions that each engine defines for itself, under
these names:

- ``as_export(text)``, ``as_message(text)``, ``as_record(text)``: a JSON object's named keys as a struct of
  strings, null (or a struct of nulls) for what is not a JSON object; a key that is absent or null is null, an object
  or list is its JSON text. The struct of ``as_record`` is named by column and not by field: a field may have any name
- ``json_items(text)``: a JSON list as an array of structs ``i`` (from 0), ``item`` (JSON text)
- ``as_answer(text)``: an answer's lists; ``answer_items(answer)``: those as an array of structs
  ``i, prediction, is_outlier, score``
- ``output_count(text)``: the number of an answer's predictions, null where it has none
- ``byte_length(text)``
"""

import os
import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from training.inference_log import layout
from training.use_case import UseCase

if TYPE_CHECKING:
    from training.inference_log.spark_engine import SparkEngine

EXPORT_KEYS = (
    "TimeGenerated",
    "LogMessage",
    "PodNamespace",
    "PodName",
    "ContainerId",
    "ContainerName",
    "LogSource",
)
MESSAGE_KEYS = (
    "service_name",
    "type",
    "request_id",
    "timestamp",
    "model_name",
    "model_version",
    "client",
    "first_record",
    "data",
)
OUTPUT_LISTS = {
    "prediction": "classifier__predictions",
    "is_outlier": "outliers__is_outlier",
    "score": "outliers__score",
}


class Column(msgspec.Struct, frozen=True):
    """One field of a scored record, as a table column: text, whole number (64 bit) or double."""

    field: str
    """Its key in a record's JSON."""
    name: str
    """Its name in SQL."""
    kind: Literal["integer", "number", "category"]

    @property
    def sql_type(self) -> str:
        return {"integer": "BIGINT", "number": "DOUBLE", "category": "STRING"}[self.kind]

    @property
    def from_text(self) -> str:
        """SQL that reads the column from struct ``r``; a text that is not such a value becomes null."""
        value = f"r.{self.name}"
        if self.kind == "category":
            return value
        number = f"(TRY_CAST({value} AS DOUBLE) + 0)"  # -0.0 is 0.0, as it was scored
        # A whole number may have more digits than a double holds, or be written as 253.0.
        return (
            number
            if self.kind == "number"
            else f"COALESCE(TRY_CAST({value} AS BIGINT), TRY_CAST(ROUND({number}) AS BIGINT))"
        )


def record_columns(use_case: UseCase) -> tuple[Column, ...]:
    """The fields of a request as columns, in request order."""
    columns = use_case.columns
    return tuple(Column(field.name, columns[field.name], field.kind) for field in use_case.fields)


def key_column(use_case: UseCase) -> Column | None:
    """The column that tells one entity from another, or ``None``."""
    return next((column for column in record_columns(use_case) if column.field == use_case.key), None)


def as_declared(column: str, kind: str, holds_text: bool | None) -> str:
    """SQL that selects a column of files as its declared kind; an empty kind takes it as it is.

    Files of a definition before this one may lack the field (``holds_text`` is ``None`` then), or hold it as text where
    it is a number now, or the other way round: what is not a value of the declared kind becomes null.
    """
    if holds_text is None:
        return f"CAST(NULL AS {kind}) AS {column}"
    if kind and (kind == "STRING") != holds_text:
        return f"TRY_CAST({column} AS {kind}) AS {column}"
    return column


def sql_text(text: str) -> str:
    """SQL for a text. Engines disagree about how to write a quotation mark or a backslash: both are spelled out."""
    parts = [f"CHR({ord(part)})" if part in ("'", "\\") else f"'{part}'" for part in re.split(r"(['\\])", text) if part]
    return f"CONCAT({', '.join(parts)})" if len(parts) > 1 else "".join(parts) or "''"


class Engine(Protocol):
    """An SQL engine with the functions above, in UTC."""

    part_rows: int | None
    """Rows, about, that one statement may sort or join: a larger day is made in parts of this size. ``None``: any."""

    def view(self, name: str, files: Sequence[Path], columns: Mapping[str, str]) -> None:
        """Let ``name`` stand for Parquet files (or folders of them); without any, for an empty table of ``columns``."""

    def define(self, name: str, sql: str) -> None:
        """Let ``name`` stand for a query."""

    def query(self, sql: str) -> list[dict[str, Any]]:
        """A small result, as rows."""

    def write(self, parts: list[str], folder: Path, order_by: str = "") -> None:
        """Write the results of queries as Parquet into ``folder``, which appears whole or not at all.

        With ``order_by``, which orders each part, the same rows give the same bytes (on DuckDB).
        """

    def view_days(
        self, name: str, tables: Path, table: str, columns: Mapping[str, str], day: date | None = None
    ) -> None:
        """Let ``name`` stand for a curated table, or for one day of it."""
        days = layout.partitions(tables, table, layout.DAY)
        folders = [layout.day_folder(tables, table, one) for one in days if day in (None, one)]
        self.view(name, folders, columns)

    def write_day(self, parts: list[str], tables: Path, table: str, day: date, order_by: str) -> None:
        """Replace one day of a curated table; a reader never finds a part of a day."""
        self.write(parts, layout.day_folder(tables, table, day), order_by)

    def close(self) -> None:
        """Give back memory and scratch space."""


def on_databricks() -> bool:
    """Whether this process runs on a Databricks cluster."""
    return "DATABRICKS_RUNTIME_VERSION" in os.environ


def open_spark(use_case: UseCase) -> "SparkEngine":
    """The cluster's Spark, with Delta tables."""
    from pyspark.sql import SparkSession

    from training.inference_log.spark_engine import DeltaEngine

    return DeltaEngine(SparkSession.builder.getOrCreate(), use_case)


def open_engine(use_case: UseCase, scratch: Path, memory: str, threads: int) -> Engine:
    """Spark with Delta tables on Databricks, otherwise DuckDB in this process."""
    if on_databricks():
        return open_spark(use_case)
    from training.inference_log.duckdb_engine import DuckEngine

    return DuckEngine(use_case, scratch, memory, threads)
