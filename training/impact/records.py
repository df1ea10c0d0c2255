"""The list that a release is previewed on: the rows of the newest batch, or what clients asked about.

A long list is sampled by the hash of each record's key: the same records on every day and engine, and memory that does
not grow with the list.
"""

from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.scoring.contract import RELEASE_CLIENT
from training.batch.record import newest_batch
from training.batch.tables import SCORES
from training.drift.window import entity
from training.inference_log import layout
from training.inference_log.day_tables import inference_columns
from training.inference_log.sql_engine import Engine, key_column, record_columns
from training.inference_log.statements import statement
from training.use_case import UseCase

LIMIT = 20_000
"""Records that are scored, about: of a longer list a sample."""
LOGGED_DAYS = 7
"""Newest curated days that are looked through for one on which a client asked."""
_HASHES = 16**8
_NO_HASH = "g"
"""Comes after every hexadecimal digit."""
_LIST = "listed_rows"
_BETWEEN = "'|'"


class Records(msgspec.Struct, frozen=True):
    """Some records, and how they were answered when they were scored or asked about."""

    source: str
    """Which list, in words."""
    rows: int
    """Records of the whole list."""
    columns: dict[str, NDArray[np.object_]]
    """Each field by its name, ``[n]``; missing values are ``None``."""
    answers: NDArray[np.float64]
    """The recorded probabilities, ``[n]``."""
    versions: NDArray[np.object_]
    """The versions that gave them, ``[n]``."""


def read_records(engine: Engine, tables: Path, use_case: UseCase, today: date) -> Records | None:
    """The newest batch; without one, the newest day up to ``today`` on which clients asked; ``None`` without either."""
    if (batch := newest_batch(tables)) and batch.scored:
        _view_batch(engine, tables, use_case, date.fromisoformat(batch.day))
        found = _read(engine, use_case, f"the batch of {batch.day}")
        if found is None:
            raise RuntimeError(
                f"the scores of {batch.day} are not there, although {batch.scored} rows were scored: they may be being "
                "replaced at this moment, so try again"
            )
        return found
    days = [day for day in layout.partitions(tables, "inference", layout.DAY) if day <= today]
    for day in reversed(days[-LOGGED_DAYS:]):
        _view_logged(engine, tables, use_case, day)
        if found := _read(engine, use_case, f"the requests of {day}"):
            return found
    return None


def _view_batch(engine: Engine, tables: Path, use_case: UseCase, day: date) -> None:
    kinds = inference_columns(use_case)
    engine.view_days(_LIST, tables, SCORES, {name: kinds[name] for name in _selected(use_case)}, day)


def _view_logged(engine: Engine, tables: Path, use_case: UseCase, day: date) -> None:
    """Of several requests about one entity the latest counts; a release's own verification is nobody's."""
    engine.view_days("every_row", tables, "inference", inference_columns(use_case), day)
    latest = statement(
        "latest.sql", columns=", ".join(_selected(use_case)), entity=entity(use_case), own=RELEASE_CLIENT
    )
    engine.define(_LIST, latest)


def _selected(use_case: UseCase) -> list[str]:
    return [*(column.name for column in record_columns(use_case)), "prediction", "model_version"]


def _read(engine: Engine, use_case: UseCase, source: str) -> Records | None:
    rows = int(engine.query("SELECT COUNT(*) AS n FROM listed_rows")[0]["n"])
    if not rows:
        return None
    below = f"{int(LIMIT / rows * _HASHES):08x}" if rows > LIMIT else _NO_HASH
    columns, mark = ", ".join(_selected(use_case)), f"MD5({_identity(use_case)})"
    # By the hash, so that equal scores are ranked in the same order for both models, whatever wrote the rows.
    found = engine.query(statement("sample.sql", columns=columns, mark=mark, below=below))
    return Records(
        source=source,
        rows=rows,
        columns={column.field: _column(found, column.name) for column in record_columns(use_case)},
        answers=_column(found, "prediction").astype(np.float64),
        versions=_column(found, "model_version"),
    )


def _identity(use_case: UseCase) -> str:
    """SQL for what tells one record from another: its key, and without one all that it says."""
    parts = [f"COALESCE(CAST({column.name} AS STRING), '-')" for column in record_columns(use_case)]
    whole = f"CONCAT({', '.join(part for one in parts for part in (one, _BETWEEN))})"
    key = key_column(use_case)
    return f"COALESCE(CAST({key.name} AS STRING), {whole})" if key else whole


def _column(rows: list[dict[str, Any]], name: str) -> NDArray[np.object_]:
    values = np.empty(len(rows), object)
    values[:] = [row[name] for row in rows]
    return values
