"""Run a night of the curation in a test, and read what it made."""

import hashlib
from collections import Counter
from datetime import UTC, date
from pathlib import Path

import pyarrow.parquet as pq

from tests.support.simulate import CONTAINER, Export
from training.inference_log import day_tables, landing, parse
from training.inference_log.azure_export import FolderSource
from training.inference_log.sql_engine import Engine, open_engine
from training.use_case import UseCase
from use_cases.attrition import USE_CASE as ATTRITION

FIRST = date(2026, 11, 2)
"""The first of the nights that tests make."""
START = date(2026, 1, 1)
END = date(2026, 12, 31)
PART_ROWS = 800
"""So few that the fullest days of these tests are made in parts; each part costs a night a tenth of a second."""
CURATED = ("inference", "unpaired", "quarantine")


def open_duckdb(scratch: Path, part_rows: int = PART_ROWS, use_case: UseCase = ATTRITION, threads: int = 1) -> Engine:
    """Two threads cost small tables a third more than they bring."""
    engine = open_engine(use_case, scratch, "300MB", threads)
    engine.part_rows = part_rows
    return engine


def curate(engine: Engine, export: Export, tables: Path, closed: date) -> day_tables.Counts:
    """Let the export write the night, then copy and curate it."""
    export.close(closed)
    return process(engine, export.root / CONTAINER, tables, closed, export.use_case)


def process(
    engine: Engine, container: Path, tables: Path, closed: date, use_case: UseCase = ATTRITION
) -> day_tables.Counts:
    landing.land(FolderSource(container), tables, closed, START, END)
    parse.stage(engine, tables, closed, use_case)
    return day_tables.rebuild(engine, tables, closed, use_case)


def rows(tables: Path, table: str) -> list[dict]:
    """All rows of a curated table."""
    files = sorted((tables / table).rglob("*.parquet"))
    return [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]


def inference(tables: Path, like: dict) -> dict:
    """Table ``inference`` in the shape of ``Export.rows``; fails on a row that is there twice."""
    names = next(iter(like.values())).keys()
    found = {}
    for row in rows(tables, "inference"):
        key = (row["request_id"], row["event_time"].replace(tzinfo=UTC), row["record"])
        assert key not in found, f"{key} is there twice"
        found[key] = {name: row[name] for name in names}
    return found


def unpaired(tables: Path) -> Counter:
    keys = ("request_id", "event_time", "record", "type", "reason")
    return Counter(
        tuple(row[k].replace(tzinfo=UTC) if k == "event_time" else row[k] for k in keys)
        for row in rows(tables, "unpaired")
    )


def fingerprint(tables: Path) -> dict[str, str]:
    """Path to hash of every file of the curated tables and of the nights' counts."""
    files = [file for table in (*CURATED, "nights") for file in (tables / table).rglob("*") if file.is_file()]
    return {str(file.relative_to(tables)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
