"""Read the tables of a forecast, and hold them to the definition at the door.

Files are CSV, Parquet or Delta; columns and values are read as everywhere (``serving.scoring.spelling``). What is wrong
with a file is found all at once, and told by column with the lines that it is about.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serving.scoring import spelling
from serving.scoring.contract import Field
from serving.scoring.spelling import Refusal
from training.data.data_error import DataError, DataFault
from training.data.read_file import read_raw
from training.data.table import RawTable, frame_digest, is_nameless, read_days
from training.data.validation import ROWS_SHOWN, told_values
from training.use_case import UseCase

CONSEQUENCE = "nothing is trained or registered"
"""What does not happen because of a bad table, where a training reads it."""
_WEEK = 7
_EMPTY = Refusal("the value is missing")


class History(msgspec.Struct, frozen=True):
    """A checked history."""

    frame: pd.DataFrame
    """The columns of the definition, sorted by key and time: time datetime64, keys int64 or text, all else float64."""
    digest: str
    """Sixteen hexadecimal digits over all values: equal histories have equal digests, whatever the file type."""


def read_history(use_case: UseCase, location: str, consequence: str) -> History:
    """Read and check a history; raises ``DataError`` with every fault found.

    ``consequence``: what does not happen because of faults.
    """
    frame = _read(use_case, location, use_case.forecast.columns, consequence)
    return History(frame, frame_digest(frame))


def read_plan(use_case: UseCase, location: str, consequence: str) -> pd.DataFrame:
    """Read and check a plan, as ``read_history`` does; no rows where ``location`` is empty: nothing is planned."""
    columns = use_case.forecast.plan_columns
    if not location:
        return pd.DataFrame(columns=list(columns)).astype({name: _dtype(use_case, name) for name in columns})
    return _read(use_case, location, columns, consequence)


def plan_of(use_case: UseCase, history: pd.DataFrame, location: str, consequence: str) -> pd.DataFrame:
    """The plan; where nobody keeps one, what came of planned fields stands for what was planned in ended weeks."""
    plan = read_plan(use_case, location, consequence)
    return plan if len(plan) else history[list(use_case.forecast.plan_columns)]


def _read(use_case: UseCase, location: str, columns: Sequence[str], consequence: str) -> pd.DataFrame:
    raw = read_raw(location)
    names = [str(name) for name in raw.frame.columns]
    sql = use_case.columns
    found = spelling.find_columns(names, {name: (sql[name],) for name in columns})
    if faults := _structure_faults(found, names):
        raise DataError(location, faults, consequence)
    read: dict[str, Any] = {}
    for name in columns:
        given = raw.frame[found[name][0]]
        values, refused = _column(use_case, name, spelling.column_values(given), raw.text)
        faults += told_values(name, dict(sorted(refused.items())), raw, given)
        read[name] = values
    if faults := faults or _row_faults(use_case, raw, read):
        raise DataError(location, faults, consequence)
    frame = pd.DataFrame({name: read[name] for name in columns}).astype(
        {name: _dtype(use_case, name) for name in columns}
    )
    return frame.sort_values([*use_case.forecast.key, use_case.forecast.time]).reset_index(drop=True)


def _structure_faults(found: dict[str, list[str]], names: Sequence[str]) -> list[DataFault]:
    faults = [
        DataFault(name, None, f"the column is there more than once ({', '.join(spelled)})" if spelled else _MISSING)
        for name, spelled in found.items()
        if len(spelled) != 1
    ]
    known = {spelled for several in found.values() for spelled in several}
    others = [name for name in names if name not in known]
    faults += [DataFault(name, None, "the column is not expected") for name in others if not is_nameless(name)]
    return faults + [DataFault("table", None, "a column has no name") for name in others if is_nameless(name)]


_MISSING = "the column is missing"


def _dtype(use_case: UseCase, name: str) -> str:
    if name == use_case.forecast.time:
        return "datetime64[us]"
    if name not in use_case.forecast.key:
        return "float64"
    return "object" if _field(use_case, name).kind == "category" else "int64"


def _field(use_case: UseCase, name: str) -> Field:
    """A column of the history as a field; the label is an amount, at least zero."""
    label = use_case.label
    if name == label.field:
        return Field(name, "number", "What is forecast", 1.0, minimum=0.0)
    return next(field for field in use_case.fields if field.name == name)


def _column(
    use_case: UseCase, name: str, values: NDArray[Any], as_text: bool
) -> tuple[NDArray[Any], dict[int, Refusal]]:
    """A column's values, and what is wrong with them by row."""
    series = use_case.forecast
    if name == series.time:
        days, refused = read_days(values)
        return days, {**dict.fromkeys(np.flatnonzero(np.isnat(days)).tolist(), _EMPTY), **refused}
    field = _field(use_case, name)
    found, refused = spelling.read_column(values, field, as_text=as_text)
    missing = np.flatnonzero(pd.isna(found)).tolist()
    held = spelling.hold_column(found, msgspec.structs.replace(field, nullable=True))
    wrong = {row: refusal for row, refusal in held.items() if row not in missing}
    if name in series.key:
        wrong |= dict.fromkeys(missing, _EMPTY)
    return found, {**wrong, **refused}


def _row_faults(use_case: UseCase, raw: RawTable, read: dict[str, Any]) -> list[DataFault]:
    """What is wrong with rows whose values are right: other days of the week, and weeks that are there twice."""
    series = use_case.forecast
    if not len(raw.frame):
        return [DataFault("table", None, "it has no rows")]
    faults = []
    weekdays = read[series.time].astype(np.int64) % _WEEK
    usual = np.bincount(weekdays).argmax()
    if odd := np.flatnonzero(weekdays != usual).tolist():
        name = (date(1970, 1, 1) + timedelta(days=int(usual))).strftime("%A")
        message = f"not a {name}, by which the other rows name their week ({raw.places(odd, ROWS_SHOWN)})"
        faults.append(DataFault(series.time, len(odd), message))
    index = pd.DataFrame({name: read[name] for name in (*series.key, series.time)})
    if again := np.flatnonzero(index.duplicated()).tolist():
        names = ", ".join(series.key)
        message = f"the same {names} and {series.time} as a row before ({raw.places(again, ROWS_SHOWN)})"
        faults.append(DataFault("table", len(again), message))
    return faults
