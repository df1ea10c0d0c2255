"""The embedded engine: DuckDB within a memory limit, spilling to disk beyond it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from training.inference_log import layout
from training.inference_log.sql_engine import (
    EXPORT_KEYS,
    MESSAGE_KEYS,
    OUTPUT_LISTS,
    Engine,
    as_declared,
    record_columns,
)
from training.use_case import UseCase

# Fixed, so that the bytes of a file follow from its rows alone.
_COPY = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 30720"
# Where no order fixes the bytes, a row group may end early: log lines may be long, and threads hold one each.
_COPY_UNORDERED = f"{_COPY}, ROW_GROUP_SIZE_BYTES '32MB'"


class DuckEngine(Engine):
    """Peak memory of the process is about ``memory``, whatever the number of rows: it spills to ``scratch``."""

    part_rows = 500_000

    def __init__(self, use_case: UseCase, scratch: Path, memory: str, threads: int) -> None:
        self._connection = duckdb.connect(
            config={
                "memory_limit": memory,
                "threads": threads,
                "temp_directory": str(scratch),
                "preserve_insertion_order": False,
                "autoinstall_known_extensions": False,
                # It keeps blocks of files by name. Of files replaced under their name, one read in a thousand met
                # blocks of the earlier one, and failed at best (DuckDB 1.5.6).
                "enable_external_file_cache": False,
            }
        )
        self._connection.execute("SET TimeZone = 'UTC'")
        for statement in _functions(use_case):
            self._connection.execute(statement)

    def view(self, name: str, files: Sequence[Path], columns: Mapping[str, str]) -> None:
        if not files:
            self.define(name, _empty(columns))
            return
        paths = ", ".join(_quoted(str(path / "*.parquet" if path.is_dir() else path)) for path in files)
        source = f"read_parquet([{paths}], union_by_name=true)"
        texts = {
            row["column_name"].lower(): row["column_type"] == "VARCHAR"
            for row in self.query(f"DESCRIBE SELECT * FROM {source}")
        }
        chosen = [as_declared(column, kind, texts.get(column.lower())) for column, kind in columns.items()]
        self.define(name, f"SELECT {', '.join(chosen)} FROM {source}")

    def define(self, name: str, sql: str) -> None:
        self._connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {sql}")

    def query(self, sql: str) -> list[dict[str, Any]]:
        result = self._connection.execute(sql)
        names = [column[0] for column in result.description or []]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def write(self, parts: list[str], folder: Path, order_by: str = "") -> None:
        scratch = layout.empty_folder(folder.with_name(f".{folder.name}.part"))
        order, options = (f"ORDER BY {order_by}", _COPY) if order_by else ("", _COPY_UNORDERED)
        for number, sql in enumerate(parts):
            path = _quoted(str(scratch / f"part-{number:05d}.parquet"))
            self._connection.execute(f"COPY ({sql} {order}) TO {path} ({options})")
        layout.replace_folder(scratch, folder)

    def close(self) -> None:
        self._connection.close()


def _functions(use_case: UseCase) -> list[str]:
    lists = ", ".join(f'"{name}":["VARCHAR"]' for name in OUTPUT_LISTS.values())
    values = ", ".join(f"'{key}': answer.{name}[n + 1]" for key, name in OUTPUT_LISTS.items())
    first = OUTPUT_LISTS["prediction"]
    return [
        _macro("as_export", _document(EXPORT_KEYS)),
        _macro("as_message", _document(MESSAGE_KEYS)),
        _macro("as_record", _record(use_case)),
        _macro("as_answer", _from_json(f"'{{{lists}}}'")),
        "CREATE TEMP MACRO json_items(text) AS list_transform(json_extract(text, '$[*]'), "
        "lambda item, n: {'i': n - 1, 'item': CAST(item AS VARCHAR)})",
        f"CREATE TEMP MACRO answer_items(answer) AS list_transform(range(len(answer.{first})), "
        f"lambda n: {{'i': n, {values}}})",
        "CREATE TEMP MACRO explode(items) AS unnest(items)",
        f"CREATE TEMP MACRO output_count(text) AS json_array_length(text, '$.{first}')",
        "CREATE TEMP MACRO byte_length(text) AS strlen(text)",
    ]


def _macro(name: str, body: str) -> str:
    return f"CREATE TEMP MACRO {name}(text) AS {body}"


def _from_json(struct: str) -> str:
    """DuckDB's ``from_json`` raises on what is not JSON. TRY is slow for such a text: most are told by their start."""
    return f"CASE WHEN text LIKE '{{%' THEN TRY(from_json(text, {struct})) END"


def _document(keys: Sequence[str]) -> str:
    return _from_json(_quoted(json.dumps(dict.fromkeys(keys, "VARCHAR"), ensure_ascii=False)))


def _record(use_case: UseCase) -> str:
    columns = record_columns(use_case)
    document = _document([column.field for column in columns])
    if all(column.name == column.field for column in columns):
        return document
    named = ", ".join(f"'{column.name}': d[{_quoted(column.field)}]" for column in columns)
    # A list of one, because only a lambda gives a value a name: a macro would read the text once for each column.
    return f"list_transform([{document}], lambda d: {{{named}}})[1]"


def _empty(columns: Mapping[str, str]) -> str:
    nothing = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns.items())
    return f"SELECT {nothing} WHERE false"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
