"""A table as it was read, in the use case's own words: its field names, its values by the table of spellings."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serving.scoring import spelling
from serving.scoring.spelling import Refusal
from training.use_case import TECHNICAL_COLUMNS, UseCase

EFFECTIVE_DATE = "effective_date"
_SOURCE = "source"


class RawTable(msgspec.Struct, frozen=True):
    """A file as it is."""

    frame: pd.DataFrame
    """Cells of a CSV file as text, or the values of a Parquet file. Row numbers are 0, 1, ..."""
    text: bool
    """Whether the values are cells of a CSV file."""
    numbers: Sequence[int]
    """Where each row stands: its line, as an editor counts, or its number in a Parquet file."""

    def places(self, rows: Sequence[int], most: int) -> str:
        """Where these rows stand, for people: ``lines 2, 3, ...``."""
        word = "line" if self.text else "row"
        shown = ", ".join(str(self.numbers[row]) for row in rows[:most])
        return f"{word}{'' if len(rows) == 1 else 's'} {shown}{', ...' if len(rows) > most else ''}"


def frame_digest(frame: pd.DataFrame) -> str:
    """Sixteen hexadecimal digits over all values: equal tables have equal digests, whatever the file type."""
    text = frame.to_csv(index=False, float_format="%.9g", lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Table(msgspec.Struct, frozen=True):
    """One table whose values were read. What could not be is missing, and listed."""

    frame: pd.DataFrame
    """The columns of the use case that are there, under its names: numbers as float64, texts as object."""
    dates: NDArray[np.datetime64] | None
    """The effective dates, datetime64[D] ``[n]``, of a table that has them."""
    curated: bool
    """Whether it holds scored records, whose unknown categories the service has accepted."""
    refused: Mapping[str, Mapping[int, Refusal]]
    """By column and row, in any column that was read."""
    given: Mapping[str, pd.Series]
    """The columns as the file has them, under the use case's names."""
    spelled: Mapping[str, Sequence[str]]
    """The file's names for each column of the use case: none where it is missing, several where it is repeated."""
    unexpected: Sequence[str]
    """Names of columns that are neither of the use case nor technical."""
    nameless: Sequence[int]
    """Numbers of the columns without a name, from 1."""


def split_table(use_case: UseCase, raw: RawTable) -> Table:
    """Find the columns of the use case and read their values.

    A curated table names its columns as SQL takes them (``UseCase.columns``). Where a field has the name of a technical
    column, as ``source`` may, the plain name means the field, unless the table holds the field's SQL name as well.
    """
    columns = use_case.columns
    names = [str(name) for name in raw.frame.columns]
    curated = _SOURCE in names and columns.get(_SOURCE, "") in ("", *names)
    fields = () if curated else tuple(columns)
    technical = [name for name in names if name in TECHNICAL_COLUMNS and name not in fields]
    nameless = [place for place, name in enumerate(names, 1) if is_nameless(name)]
    others = [name for name in names if name not in technical and not is_nameless(name)]
    spelled = spelling.find_columns(others, {name: (column,) for name, column in columns.items()})
    known = {one for found in spelled.values() for one in found}
    given = {name: raw.frame[found[0]] for name, found in spelled.items() if len(found) == 1}
    values, refused = {}, {}
    for name, column in given.items():
        values[name], refused[name] = _read(use_case, name, spelling.column_values(column), raw.text)
    dates = None
    if technical.count(EFFECTIVE_DATE) == 1:
        dates, refused[EFFECTIVE_DATE] = read_days(spelling.column_values(raw.frame[EFFECTIVE_DATE]))
        given[EFFECTIVE_DATE] = raw.frame[EFFECTIVE_DATE]
    # As they are: pandas would make a type of its own of texts.
    read = {name: pd.Series(values[name], dtype=values[name].dtype) for name in columns if name in values}
    return Table(
        frame=pd.DataFrame(read, index=range(len(raw.frame))),
        dates=dates,
        curated=curated,
        refused=refused,
        given=given,
        spelled=spelled,
        unexpected=[name for name in dict.fromkeys(others) if name not in known],
        nameless=nameless,
    )


def is_nameless(name: str) -> bool:
    """Whether a header says nothing of a column: pandas writes and reads such names for its row numbers."""
    return not name.strip() or name.startswith("Unnamed: ")


def plain_columns(raw: RawTable) -> pd.DataFrame:
    """A table before it has a use case: cells that stand for missing values are ``None``, and all else is as it is."""
    if not raw.text:
        return raw.frame
    return raw.frame.map(lambda cell: None if cell in spelling.MISSING else cell).astype(object)


def _read(use_case: UseCase, name: str, values: NDArray[Any], as_text: bool) -> tuple[NDArray[Any], dict[int, Refusal]]:
    field = next((field for field in use_case.fields if field.name == name), None)
    if field is not None:
        return spelling.read_column(values, field, as_text=as_text)
    known = list(use_case.binary.values)
    return _each(values, lambda value: spelling.label(value, known, as_text=as_text))


def read_days(values: NDArray[Any]) -> tuple[NDArray[np.datetime64], dict[int, Refusal]]:
    """Dates, datetime64[D] ``[n]`` (NaT: missing), and the refusals by row."""
    days, refused = _each(values, spelling.day)
    return days.astype("datetime64[D]"), refused


def _each(values: NDArray[Any], read: Any) -> tuple[NDArray[np.object_], dict[int, Refusal]]:
    found = np.full(len(values), None, object)
    refused: dict[int, Refusal] = {}
    for row, value in enumerate(values):
        try:
            found[row] = read(value)
        except Refusal as refusal:
            refused[row] = refusal
    return found, refused
