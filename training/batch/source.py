"""The table to score, read a part at a time: CSV, Parquet (a file or a folder of them) or Delta."""

import csv
import io
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import dataset

from serving.scoring.csv_lines import BadLine, NotTextError, is_utf_8, open_text, read_lines, surplus
from training.data.data_error import DataError, DataFault
from training.data.delta import DeltaUnread, delta_columns, in_delta, is_delta, open_delta

NOTHING = "nothing is scored"
PART_ROWS = 65_536
"""Rows of a part, at most: so many are in memory at a time."""
_CSV_CHARACTERS = 8 << 20
"""Characters of a CSV file's part, about: a row may be long."""
_NOT_UTF_8 = "not UTF-8 text: save the file as CSV UTF-8"


class Source(msgspec.Struct, frozen=True):
    """Where a table lies, and what it is."""

    location: str
    kind: Literal["csv", "parquet", "delta"]

    @property
    def as_text(self) -> bool:
        """Whether its values are cells of a text."""
        return self.kind == "csv"


class BrokenLine(msgspec.Struct, frozen=True):
    """A line of a CSV file that is not a row of its table."""

    number: int
    """Of the row that it would have been, from 1."""
    reason: str
    text: str
    """In characters that every file can hold."""


def find(location: str) -> Source:
    """What lies at a path that the job can read; raises ``DataError`` where that is nothing to score."""
    path = Path(location)
    if not path.exists():
        raise _fault(location, "it does not exist where the job runs: check the path and its spelling")
    if in_delta(path):
        raise _fault(location, "it is a file of a Delta table, and may hold deleted rows: name the table's folder")
    if is_delta(path):
        return Source(location, "delta")
    name = location.rstrip("/").lower()
    if name.endswith((".csv", ".csv.gz")) and path.is_file():
        return Source(location, "csv")
    if name.endswith(".parquet") or path.is_dir():
        return Source(location, "parquet")
    raise _fault(location, "its name ends in none of .csv, .csv.gz, .parquet, and it is not a folder of Parquet files")


def columns_of(source: Source) -> list[str]:
    """The table's columns, in order; raises ``DataError`` where one is there twice."""
    with _told(source):
        if source.kind == "csv":
            with _open_csv(source.location) as (names, _):
                pass
        elif source.kind == "delta":
            names = delta_columns(source.location)
        else:
            names = list(_open(source).schema.names)
    names = [name for name in names if name.strip()]  # spreadsheets write commas beyond the last column
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise _fault(source.location, f"the columns {', '.join(twice)} are there more than once")
    return names


class Part(msgspec.Struct, frozen=True):
    """Some rows of a table."""

    rows: pa.RecordBatch
    numbers: NDArray[np.int64]
    """The number of each row in the table, from 1, int64 ``[n]``."""
    broken: tuple[BrokenLine, ...] = ()
    """Lines that do not make a row."""


def read_parts(source: Source, names: Mapping[str, str]) -> Iterator[Part]:
    """The columns ``names``, ours -> the table's, under our names: a part after the other, in the table's order.

    A CSV file has a part even where it has no rows. Raises ``DataError`` for a table that ends early.
    """
    with _told(source):
        if source.kind == "csv":
            with _open_csv(source.location) as (header, lines):
                yield from _csv_parts(header, lines, names)
            return
        number = 1
        for batch in _batches(_open(source), list(names.values())):
            yield Part(batch.rename_columns(list(names)), np.arange(number, number + batch.num_rows))
            number += batch.num_rows


def _csv_parts(
    header: list[str], lines: Iterator[tuple[int, list[str] | BadLine]], names: Mapping[str, str]
) -> Iterator[Part]:
    """Cells as text: what they mean is for the table of spellings to say."""
    places = {ours: header.index(theirs) for ours, theirs in names.items()}
    rows: dict[int, list[str]] = {}
    broken: list[BrokenLine] = []
    characters = 0
    for number, (_, cells) in enumerate(lines, start=1):
        if isinstance(cells, BadLine):
            broken.append(BrokenLine(number, cells.reason, _readable(cells.text)))
            characters += len(cells.text)
        elif reason := surplus(cells, len(header)) or _not_utf_8(cells, places):
            broken.append(BrokenLine(number, reason, _readable(_as_line(cells))))
            characters += sum(map(len, cells))
        else:  # cells that are left out at the end of a line are missing
            rows[number] = [cells[place] if place < len(cells) else "" for place in places.values()]
            characters += sum(map(len, rows[number]))
        if len(rows) + len(broken) == PART_ROWS or characters >= _CSV_CHARACTERS:
            yield _text_part(rows, broken, names)
            rows, broken, characters = {}, [], 0
    yield _text_part(rows, broken, names)


def _text_part(rows: Mapping[int, list[str]], broken: list[BrokenLine], names: Mapping[str, str]) -> Part:
    columns = zip(*rows.values(), strict=True) if rows else [()] * len(names)
    batch = pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in columns], list(names))
    return Part(batch, np.fromiter(rows, np.int64, count=len(rows)), tuple(broken))


def _not_utf_8(cells: list[str], places: Mapping[str, int]) -> str:
    """What is wrong with a line of which some cell that is read is not UTF-8; empty where none is."""
    if is_utf_8(cells):
        return ""
    wrong = (ours for ours, place in places.items() if not is_utf_8(cells[place : place + 1]))
    return next((f"{ours}: {_NOT_UTF_8}" for ours in wrong), "")


def _as_line(cells: list[str]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def _readable(text: str) -> str:
    """The text, with bytes that are not UTF-8 written out."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@contextmanager
def _open_csv(location: str) -> Iterator[tuple[list[str], Iterator[tuple[int, list[str] | BadLine]]]]:
    """A CSV file's header, and the lines after it."""
    with open(location, "rb") as file, open_text(file, compressed=location.lower().endswith(".gz")) as text:
        lines = read_lines(text)
        _, header = next(lines, (0, None))
        if header is None:
            raise _fault(location, "it is empty: a header line and one line for each record are expected")
        if isinstance(header, BadLine) or not is_utf_8(header):
            reason = header.reason if isinstance(header, BadLine) else _NOT_UTF_8
            raise _fault(location, f"its header line cannot be read: {reason}")
        yield header, lines


class _told:
    """Tell what Arrow cannot read as a fault of the file."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DeltaUnread | NotTextError):
            raise _fault(self._source.location, str(error)) from error
        if isinstance(error, pa.ArrowException | OSError | EOFError | zlib.error):
            message = f"it cannot be read to its end as {self._source.kind} ({str(error).splitlines()[0]})"
            raise _fault(self._source.location, message) from error


def _open(source: Source) -> Any:
    """A table of typed values, as Arrow's dataset."""
    return open_delta(source.location) if source.kind == "delta" else dataset.dataset(source.location, format="parquet")


def _batches(table: Any, names: list[str]) -> Iterator[pa.RecordBatch]:
    """A row group after the other: Arrow reads a whole table ahead of somebody who is slower than it is."""
    for file in table.get_fragments():
        for group in file.split_by_row_group():
            yield from group.to_batches(schema=table.schema, columns=names, batch_size=PART_ROWS)


def _fault(location: str, message: str) -> DataError:
    return DataError(location, [DataFault("file", None, message)], NOTHING)
