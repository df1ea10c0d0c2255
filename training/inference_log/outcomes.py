"""The outcomes feed, and the labelled training table that it makes of curated inference records.

HR drops CSV or Parquet files with the columns EmployeeNumber, Attrition (Yes or No) and effective_date (ISO).
A row says of one employee that on that day they had left, or were still there. A file is never changed; a
correction comes as a row for the same employee and date in a file whose name sorts later.
"""

import csv
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from training.data.dataset import read_employees
from training.inference_log import layout
from training.inference_log.day_tables import inference_columns
from training.inference_log.parse import write_rows
from training.inference_log.sql_engine import Column, Engine
from training.inference_log.statements import statement
from use_cases.attrition.fields import IDENTIFIER, LABEL, LABELS

HORIZON_DAYS = 365
"""A record older than this says nothing about an outcome."""
SOURCES = "outcomes.json"
REJECTED = "rejected_outcomes.json"
_DATE = "effective_date"
_NAMES = {"employeenumber": IDENTIFIER, "attrition": LABEL, "effectivedate": _DATE}
_FEED = pa.schema(
    [
        (IDENTIFIER, pa.int64()),
        (LABEL, pa.string()),
        (_DATE, pa.date32()),
        ("file", pa.string()),
        ("row_no", pa.int64()),
    ]
)
_FEED_SQL = {IDENTIFIER: "BIGINT", LABEL: "STRING", _DATE: "DATE", "file": "STRING", "row_no": "BIGINT"}


class Labels(msgspec.Struct, frozen=True):
    """What a night's training table holds."""

    night: str
    outcomes: int
    """Readable rows of the feed."""
    rejected: int
    labelled: int
    """Outcomes with a record that they are about."""
    original: int
    rows: int
    """Rows of the training table."""


class OutcomeError(ValueError):
    """Raised for one row or file of the feed that cannot be read; it is listed as rejected."""


def label(engine: Engine, tables: Path, night: date, columns: Sequence[Column], *, feed: Path, original: str) -> Labels:
    """Write ``labelled/night=`` and ``training/night=``.

    ``feed`` is the folder of outcome files, ``original`` the first training set (a CSV or Parquet path).
    A night that is labelled again reads the files that it read first.
    """
    known = layout.night_folder(tables, "nights", night)
    names = layout.read_json(known / SOURCES)
    if names is None:
        names = sorted(path.relative_to(feed).as_posix() for path in feed.rglob("*") if _is_feed(path))
    rows, rejected = read_feed(feed, names)
    work = layout.empty_folder(tables / "labelled" / f".{night}.work")
    write_rows(rows, _FEED, work / "feed.parquet")
    engine.view("outcomes", [work / "feed.parquet"], _FEED_SQL)
    engine.view_days("inference", tables, "inference", inference_columns(columns))
    features = [column.name for column in columns]
    chosen = ", ".join(f"i.{name}" for name in features)
    labelled = layout.night_folder(tables, "labelled", night)
    engine.write(
        [statement("labelled.sql", night=night.isoformat(), features=chosen, horizon_days=str(HORIZON_DAYS))],
        labelled,
        order_by=f"r.{_DATE}, i.{IDENTIFIER}",
    )
    engine.view("labelled", [labelled], labelled_columns(columns))
    _view_original(engine, original, columns, work)
    first = ", ".join(f"CAST({column.name} AS {column.sql_type}) AS {column.name}" for column in columns)
    engine.define("training_rows", statement("training.sql", original=first, features=", ".join(features)))
    target = layout.night_folder(tables, "training", night)
    engine.write(["SELECT * FROM training_rows"], target, order_by=f"source DESC, {_DATE}, {IDENTIFIER}")
    counts = {
        row["source"]: row["n"]
        for row in engine.query("SELECT source, COUNT(*) AS n FROM training_rows GROUP BY source")
    }
    layout.write_json(known / REJECTED, rejected)
    layout.write_json(known / SOURCES, names)
    layout.remove_folder(work)
    return Labels(
        night=night.isoformat(),
        outcomes=len(rows),
        rejected=len(rejected),
        labelled=counts.get("inference", 0),
        original=counts.get("original", 0),
        rows=sum(counts.values()),
    )


def labelled_columns(columns: Sequence[Column]) -> dict[str, str]:
    """Names and types of table ``labelled``."""
    return {
        LABEL: "STRING", _DATE: "DATE", "event_time": "TIMESTAMP", "request_id": "STRING", "record": "INT",
        "model_name": "STRING", "model_version": "STRING", "prediction": "DOUBLE",
        **{column.name: column.sql_type for column in columns},
    }  # fmt: skip


def read_feed(feed: Path, names: Sequence[str]) -> tuple[list[tuple[Any, ...]], list[dict[str, Any]]]:
    """All rows of these files as (employee, attrition, date, file, row), and what was rejected, with reason."""
    rows: list[tuple[Any, ...]] = []
    rejected: list[dict[str, Any]] = []
    for name in names:
        number = 0
        try:
            for number, raw in _rows(feed / name):
                try:
                    rows.append((*_outcome(raw), name, number))
                except OutcomeError as error:
                    rejected.append({"file": name, "row": number, "reason": str(error)})
        except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException, OutcomeError) as error:
            rejected.append({"file": name, "row": number + 1, "reason": f"the file cannot be read on: {error}"})
    return rows, rejected


def _is_feed(path: Path) -> bool:
    return path.is_file() and path.suffix in (".csv", ".parquet") and not path.name.startswith((".", "_"))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """A file's rows, numbered from 1, with our names for the three columns."""
    if path.suffix == ".parquet":
        table = pq.read_table(path, partitioning=None)
        renamed = table.rename_columns(_known(table.column_names)).select(list(_NAMES.values()))
        yield from enumerate(renamed.to_pylist(), start=1)
        return
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        names = _known(next(lines, []))
        for number, values in enumerate(lines, start=1):
            if values:
                yield number, dict(zip(names, values, strict=False))


def _known(names: Sequence[str]) -> list[str]:
    known = [_NAMES.get(name.strip().lower().replace("_", "").replace(" ", ""), name) for name in names]
    if missing := [name for name in _NAMES.values() if name not in known]:
        raise OutcomeError(f"it has no column {', '.join(missing)} (there are: {', '.join(names) or 'none'})")
    return known


def _outcome(raw: dict[str, Any]) -> tuple[int, str, date]:
    try:
        employee = int(str(raw.get(IDENTIFIER)).strip())
    except ValueError as error:
        raise OutcomeError(f"{IDENTIFIER} is no whole number") from error
    attrition = str(raw.get(LABEL)).strip().capitalize()
    if attrition not in LABELS:
        raise OutcomeError(f"{LABEL} is not one of {', '.join(LABELS)}")
    when = raw.get(_DATE)
    if isinstance(when, datetime):
        return employee, attrition, when.date()
    if isinstance(when, date):
        return employee, attrition, when
    try:
        return employee, attrition, date.fromisoformat(str(when).strip())
    except ValueError as error:
        raise OutcomeError(f"{_DATE} is no date such as 2026-09-30") from error


def _view_original(engine: Engine, original: str, columns: Sequence[Column], work: Path) -> None:
    frame = read_employees(original).frame[[*(column.name for column in columns), LABEL]]
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table, work / "original.parquet")
    engine.view("original", [work / "original.parquet"], {name: "" for name in frame.columns})
