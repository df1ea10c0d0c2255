"""One window of production: a day's records as value counts, one record for each employee.

Whoever is asked about many times a day would otherwise count many times; of several records of one employee
the latest counts. Records without an employee number count each.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from training.inference_log import layout
from training.inference_log.day_tables import inference_columns
from training.inference_log.sql_engine import Column, Engine
from training.inference_log.statements import statement

SKEW_HOURS = 24


class Window(msgspec.Struct, frozen=True):
    """The records of one day."""

    records: int
    """All records, of every model version."""
    used: int
    """Records of the champion, one for each employee: what the figures are about."""
    skewed: int
    """Records whose own time is more than a day from the time the log pipeline saw them."""
    versions: dict[str, int]
    """Records by model version."""
    counts: dict[str, dict[Any, int]]
    """By field: how often each value occurs; missing ones are left out."""
    predictions: tuple[NDArray[np.float64], NDArray[np.int64]]
    """Sorted distinct answers and their counts."""
    outliers: int


def read_window(
    engine: Engine, tables: Path, day: date, columns: Sequence[Column], fields: Sequence[str], version: str
) -> Window:
    """Count the records of ``day`` that ``version`` answered, by the values of ``fields``."""
    engine.view_days("day_rows", tables, "inference", inference_columns(columns), day)
    versions = engine.query("SELECT model_version, COUNT(*) AS n FROM day_rows GROUP BY model_version")
    work = layout.empty_folder(tables / "nights" / f".{day}.window")
    engine.write([statement("window.sql", columns=", ".join(fields), version=version)], work / "used")
    engine.view("used_rows", [work / "used"], dict.fromkeys([*fields, "prediction", "is_outlier"], "STRING"))
    counts = {name: _counts(engine, name) for name in fields}
    predictions = _counts(engine, "prediction")
    totals = engine.query(
        "SELECT COUNT(*) AS n, COALESCE(SUM(CASE WHEN is_outlier THEN 1 ELSE 0 END), 0) AS o FROM used_rows"
    )[0]
    skewed = engine.query(statement("skewed.sql", hours=str(SKEW_HOURS)))[0]["n"]
    layout.remove_folder(work)
    ordered = sorted(predictions)
    return Window(
        records=sum(row["n"] for row in versions),
        used=totals["n"],
        skewed=skewed,
        versions={str(row["model_version"]): row["n"] for row in versions},
        counts=counts,
        predictions=(np.array(ordered, np.float64), np.array([predictions[value] for value in ordered], np.int64)),
        outliers=int(totals["o"]),
    )


def _counts(engine: Engine, name: str) -> dict[Any, int]:
    rows = engine.query(
        f"SELECT {name} AS value, COUNT(*) AS n FROM used_rows WHERE {name} IS NOT NULL GROUP BY {name}"
    )
    return {row["value"]: row["n"] for row in rows}
