"""One window of production: a day's records as value counts, one record for each entity.

An entity that is asked about many times a day would otherwise count many times; of several records of one key the
latest counts. Each record without a key counts, and so does every record of a use case that has no key.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.scoring.contract import RELEASE_CLIENT
from training.inference_log import layout
from training.inference_log.day_tables import inference_columns
from training.inference_log.sql_engine import Engine, key_column
from training.inference_log.statements import statement
from training.use_case import UseCase

SKEW_HOURS = 24


class Window(msgspec.Struct, frozen=True):
    """The records of one day."""

    records: int
    """All records that clients asked for, of every model version."""
    used: int
    """Records of the champion, one for each entity: what the figures are about."""
    skewed: int
    """Records whose own time is more than a day from the time the log pipeline saw them."""
    versions: dict[str, int]
    """Records by model version."""
    counts: dict[str, dict[Any, int]]
    """By field: how often each value occurs; missing ones are left out."""
    predictions: tuple[NDArray[np.float64], NDArray[np.int64]]
    """Sorted distinct answers and their counts."""
    outliers: int
    own: int = 0
    """Records that releases asked for to verify a server. Nothing else counts them."""
    asked: int = 0
    """Records of the champion, several of one entity among them."""
    most: int = 0
    """How many of these are about the one entity that was asked about most."""


def read_window(
    engine: Engine, tables: Path, day: date, use_case: UseCase, fields: Sequence[str], version: str
) -> Window:
    """Count the records of ``day`` that ``version`` answered, by the values of ``fields``."""
    engine.view_days("every_row", tables, "inference", inference_columns(use_case), day)
    # By the name of the API key, which the server logs: a request id is the client's own choice.
    engine.define("day_rows", f"SELECT * FROM every_row WHERE COALESCE(client, '') <> '{RELEASE_CLIENT}'")
    own = engine.query(f"SELECT COUNT(*) AS n FROM every_row WHERE client = '{RELEASE_CLIENT}'")[0]["n"]
    versions = engine.query("SELECT model_version, COUNT(*) AS n FROM day_rows GROUP BY model_version")
    columns = [*(use_case.columns[name] for name in fields), "prediction", "is_outlier"]
    work = layout.empty_folder(tables / "nights" / f".{day}.window")
    chosen = statement("window.sql", columns=", ".join(columns), entity=entity(use_case), version=version)
    engine.write([chosen], work / "used")
    kinds = inference_columns(use_case)
    engine.view("used_rows", [work / "used"], {column: kinds[column] for column in columns})
    counts = {name: _counts(engine, use_case.columns[name]) for name in fields}
    predictions = _counts(engine, "prediction")
    totals = engine.query(
        "SELECT COUNT(*) AS n, COALESCE(SUM(CASE WHEN is_outlier THEN 1 ELSE 0 END), 0) AS o FROM used_rows"
    )[0]
    asked = engine.query(statement("asked.sql", entity=entity(use_case), version=version))[0]
    skewed = engine.query(statement("skewed.sql", hours=str(SKEW_HOURS)))[0]["n"]
    layout.remove_folder(work)
    ordered = sorted(predictions)
    return Window(
        records=sum(row["n"] for row in versions),
        own=own,
        asked=asked["n"],
        most=asked["most"],
        used=totals["n"],
        skewed=skewed,
        versions={str(row["model_version"]): row["n"] for row in versions},
        counts=counts,
        predictions=(np.array(ordered, np.float64), np.array([predictions[value] for value in ordered], np.int64)),
        outliers=int(totals["o"]),
    )


def entity(use_case: UseCase) -> str:
    """SQL that tells one entity from another: by its key, and without one by the record."""
    record = "CONCAT(request_id, '/', CAST(event_time AS STRING), '/', CAST(record AS STRING))"
    key = key_column(use_case)
    return f"COALESCE(CAST({key.name} AS STRING), {record})" if key else record


def _counts(engine: Engine, column: str) -> dict[Any, int]:
    rows = engine.query(
        f"SELECT u.{column} AS value, COUNT(*) AS n FROM used_rows AS u "
        f"WHERE u.{column} IS NOT NULL GROUP BY u.{column}"
    )
    return {row["value"]: row["n"] for row in rows}
