"""The engine on Databricks: Spark, whose own dialect the curation's statements are in."""

import functools
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from training.inference_log import layout
from training.inference_log.sql_engine import (
    EXPORT_KEYS,
    MESSAGE_KEYS,
    OUTPUT_LISTS,
    Engine,
    as_declared,
    record_columns,
    sql_text,
)
from training.use_case import UseCase


class KindError(ValueError):
    """Raised where a table that stays holds a column as another kind than the definition has now."""


class SparkEngine(Engine):
    """A Spark session (4.0 or later), with all tables as Parquet."""

    part_rows = None
    """Spark parts the work itself."""

    def __init__(self, session: Any, use_case: UseCase) -> None:
        self._session = session
        session.conf.set("spark.sql.session.timeZone", "UTC")
        for statement in _functions(use_case):
            session.sql(statement)

    @property
    def session(self) -> Any:
        """The Spark session."""
        return self._session

    def view(self, name: str, files: Sequence[Path], columns: Mapping[str, str]) -> None:
        if not files:
            nothing = ", ".join(f"CAST(NULL AS {kind}) AS {column}" for column, kind in columns.items())
            self.define(name, f"SELECT {nothing} WHERE false")
            return
        # Spark takes the schema of some file for that of all, and does not merge two kinds: each schema is read alone.
        alike: dict[str, list[str]] = {}
        for path in map(str, files):
            alike.setdefault(self._session.read.parquet(path).schema.json(), []).append(path)
        frames = [_declared(self._session.read.parquet(*paths), columns) for paths in alike.values()]
        functools.reduce(lambda one, other: one.unionAll(other), frames).createOrReplaceTempView(name)

    def define(self, name: str, sql: str) -> None:
        self._session.sql(sql).createOrReplaceTempView(name)

    def query(self, sql: str) -> list[dict[str, Any]]:
        return [row.asDict() for row in self._session.sql(sql).collect()]

    def write(self, parts: list[str], folder: Path, order_by: str = "") -> None:
        """As ``Engine.write``; Spark names its files at random, so equal rows are not equal bytes here."""
        scratch = folder.with_name(f".{folder.name}.part")
        layout.empty_folder(scratch)
        scratch.rmdir()
        (sql,) = parts
        ordered = f"{sql} ORDER BY {order_by}" if order_by else sql
        self._session.sql(ordered).write.option("compression", "zstd").parquet(str(scratch))
        layout.replace_folder(scratch, folder)

    def close(self) -> None:
        """The session belongs to the cluster."""


class DeltaEngine(SparkEngine):
    """Spark with the curated tables as Delta tables: a day is replaced by one commit of the table's log."""

    def view_days(
        self, name: str, tables: Path, table: str, columns: Mapping[str, str], day: date | None = None
    ) -> None:
        if not (tables / table / "_delta_log").is_dir():
            self.view(name, [], columns)
            return
        frame = self._session.read.format("delta").load(str(tables / table))
        chosen = frame.where(f"day = DATE '{day}'") if day else frame
        _declared(chosen, columns).createOrReplaceTempView(name)

    def write_day(self, parts: list[str], tables: Path, table: str, day: date, order_by: str) -> None:
        (sql,) = parts
        frame = self._session.sql(f"{sql} ORDER BY {order_by}").selectExpr(f"DATE '{day}' AS day", "*")
        if (tables / table / "_delta_log").is_dir():
            held = self._session.read.format("delta").load(str(tables / table))
            refuse_other_kinds(table, dict(held.dtypes), dict(frame.dtypes))
        writer = frame.write.format("delta").mode("overwrite").partitionBy("day")
        # The table gets the columns of fields that the definition has got since.
        writer = writer.option("mergeSchema", "true").option("replaceWhere", f"day = DATE '{day}'")
        writer.save(str(tables / table))


def refuse_other_kinds(table: str, held: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise ``KindError`` where a Delta table has a column as text that is a number now, or the other way round."""
    for name, kind in now.items():
        if name in held and (held[name] == "string") != (kind == "string"):
            raise KindError(
                f"the Delta table {table} has column {name} as {held[name]}, and the definition has made it {kind}: "
                "give the field a new name there, or rewrite the table with that column cast and overwriteSchema"
            )


def _declared(frame: Any, columns: Mapping[str, str]) -> Any:
    """A frame with exactly these columns, each as its declared kind."""
    texts = {name.lower(): kind == "string" for name, kind in frame.dtypes}
    return frame.selectExpr(*(as_declared(name, kind, texts.get(name.lower())) for name, kind in columns.items()))


def _functions(use_case: UseCase) -> list[str]:
    columns = record_columns(use_case)
    lists = ", ".join(f"{name} ARRAY<STRING>" for name in OUTPUT_LISTS.values())
    item = ", ".join(f"{key} STRING" for key in OUTPUT_LISTS)
    values = ", ".join(f"get(answer.{name}, n) AS {key}" for key, name in OUTPUT_LISTS.items())
    first = OUTPUT_LISTS["prediction"]
    return [
        _document("as_export", _struct(EXPORT_KEYS)),
        _document("as_message", _struct(MESSAGE_KEYS)),
        _document(
            "as_record",
            _struct([column.name for column in columns]),
            _struct([_identifier(column.field) for column in columns]),
        ),
        _document("as_answer", lists),
        _function(
            "json_items",
            "text STRING",
            "ARRAY<STRUCT<i INT, item STRING>>",
            "transform(from_json(text, 'ARRAY<STRING>'), (item, n) -> struct(n AS i, item AS item))",
        ),
        _function(
            "answer_items",
            f"answer STRUCT<{lists}>",
            f"ARRAY<STRUCT<i INT, {item}>>",
            f"transform(answer.{first}, (one, n) -> struct(n AS i, {values}))",
        ),
        _function("output_count", "text STRING", "INT", f"json_array_length(get_json_object(text, '$.{first}'))"),
        _function("byte_length", "text STRING", "INT", "octet_length(text)"),
    ]


def _document(name: str, fields: str, keys: str | None = None) -> str:
    """A function that reads JSON ``keys`` as ``fields``, one after the other (a cast of structs goes by position)."""
    # from_json makes something of half a document; try_parse_json does not, but stops after the first document.
    whole = "text LIKE '{%' AND trim(TRAILING ' \\n\\r' FROM text) LIKE '%}' AND try_parse_json(text) IS NOT NULL"
    document = f"CAST(from_json(text, {sql_text(keys or fields)}) AS STRUCT<{fields}>)"
    return _function(name, "text STRING", f"STRUCT<{fields}>", f"CASE WHEN {whole} THEN {document} END")


def _identifier(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _function(name: str, arguments: str, returns: str, body: str) -> str:
    return f"CREATE OR REPLACE TEMPORARY FUNCTION {name}({arguments}) RETURNS {returns} RETURN {body}"


def _struct(keys: Sequence[str]) -> str:
    return ", ".join(f"{key} STRING" for key in keys)
