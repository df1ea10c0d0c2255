"""The table to score, read a part at a time: CSV, Parquet (a file or a folder of them) or Delta."""

import io
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, dataset

from serving.scoring.csv_lines import BadLine, NotTextError, open_text, read_lines
from training.data.data_error import DataError, DataFault
from training.data.delta import DeltaUnread, delta_columns, in_delta, is_delta, open_delta

NOTHING = "nothing is scored"
PART_ROWS = 65_536
"""Rows that are in memory at a time, about; a CSV part is measured in bytes instead."""
_CSV_BYTES = 8 << 20


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
        names = delta_columns(source.location) if source.kind == "delta" else list(_open(source).schema.names)
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
    """Lines that are no rows."""


def read_parts(source: Source, names: Mapping[str, str]) -> Iterator[Part]:
    """The columns ``names``, ours -> the table's, under our names: a part after the other, in the table's order.

    Raises ``DataError`` for a table that ends early.
    """
    number = 1
    with _told(source):
        opened = _open(source)
        for found in opened.batches(list(names.values())):
            batch = found.rename_columns(list(names))
            # A batch's own broken lines are known by the time that it is there, and some of later ones.
            last = number + batch.num_rows
            broken = []
            while opened.broken and opened.broken[0].number <= last:
                broken.append(opened.broken.popleft())
                last += 1
            numbers = np.arange(number, last)
            if broken:
                numbers = np.setdiff1d(numbers, [line.number for line in broken])
            number = last
            yield _text_part(opened, names, batch, numbers, broken) if source.as_text else Part(batch, numbers)
        if opened.broken:
            none = pa.RecordBatch.from_arrays([pa.array([], pa.binary())] * len(names), list(names))
            yield _text_part(opened, names, none, np.empty(0, np.int64), list(opened.broken))


def _text_part(
    opened: "_Opened",
    names: Mapping[str, str],
    cells: pa.RecordBatch,
    numbers: NDArray[np.int64],
    broken: list[BrokenLine],
) -> Part:
    """A part of a CSV file: cells as text, and lines of another width as every reader of such files takes them."""
    width = len(opened.schema.names)
    rows: dict[int, list[str]] = {}
    lines: list[BrokenLine] = []
    for line in broken:
        _, found = next(read_lines(io.StringIO(line.text, newline="")), (0, [""]))
        if isinstance(found, BadLine):
            lines.append(msgspec.structs.replace(line, reason=found.reason))
        elif any(found[width:]):
            lines.append(line)
        else:  # commas of a spreadsheet beyond the last column, or cells that are left out at the end
            rows[line.number] = found[:width] + [""] * (width - len(found))
    if rows:
        places = [opened.schema.names.index(theirs) for theirs in names.values()]
        columns = [pa.array([row[place].encode() for row in rows.values()], pa.binary()) for place in places]
        both = pa.Table.from_batches([cells, pa.RecordBatch.from_arrays(columns, list(names))])
        numbers = np.concatenate([numbers, np.array([*rows], np.int64)])
        order = np.argsort(numbers)
        numbers, cells = numbers[order], both.take(pa.array(order)).combine_chunks().to_batches()[0]
    batch, numbers, unreadable = _as_strings(cells, numbers)
    return Part(batch, numbers, tuple(sorted([*lines, *unreadable], key=lambda line: line.number)))


def _as_strings(
    cells: pa.RecordBatch, numbers: NDArray[np.int64]
) -> tuple[pa.RecordBatch, NDArray[np.int64], list[BrokenLine]]:
    """Cells as text, without the rows that have one that is not UTF-8; each costs its own row and no other."""
    schema = pa.schema([(name, pa.string()) for name in cells.schema.names])
    try:
        return cells.cast(schema), numbers, []
    except pa.ArrowInvalid:
        wrong: dict[int, str] = {}
        for name, column in zip(cells.schema.names, cells.columns, strict=True):
            for row, cell in enumerate(column.to_pylist()):
                if not _is_utf_8(cell):
                    wrong.setdefault(row, name)
    good = np.ones(cells.num_rows, bool)
    good[list(wrong)] = False
    lines = []
    for row, name in sorted(wrong.items()):
        text = ",".join(column[row].as_py().decode("utf-8", "backslashreplace") for column in cells.columns)
        lines.append(BrokenLine(int(numbers[row]), f"{name}: not UTF-8 text: save the file as CSV UTF-8", text))
    return cells.filter(pa.array(good)).cast(schema), numbers[good], lines


def _is_utf_8(cell: bytes) -> bool:
    try:
        cell.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Opened(msgspec.Struct, frozen=True):
    schema: pa.Schema
    batches: Callable[[list[str]], Iterator[pa.RecordBatch]]
    broken: deque[BrokenLine]
    """Lines of a CSV file that were found broken so far."""


class _told:
    """Tell what Arrow cannot read as a fault of the file."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DeltaUnread | NotTextError):
            raise _fault(self._source.location, str(error)) from error
        if isinstance(error, pa.ArrowException | OSError | UnicodeDecodeError):
            message = f"it cannot be read to its end as {self._source.kind} ({str(error).splitlines()[0]})"
            if "Empty CSV" in message:
                message = "it is empty: a header line that ends, and one line for each record are expected"
            raise _fault(self._source.location, message) from error


def _open(source: Source) -> _Opened:
    if source.kind == "csv":
        return _open_csv(source.location)
    if source.kind == "delta":
        table = open_delta(source.location)
    else:
        table = dataset.dataset(source.location, format="parquet")

    def batches(names: list[str]) -> Iterator[pa.RecordBatch]:
        # A row group after the other: Arrow reads a whole table ahead of somebody who is slower than it is.
        for file in table.get_fragments():
            for group in file.split_by_row_group():
                yield from group.to_batches(schema=table.schema, columns=names, batch_size=PART_ROWS)

    return _Opened(table.schema, batches, deque())


def _open_csv(location: str) -> _Opened:
    """Every cell as bytes: what it means is for the table of spellings to say."""
    with open(location, "rb") as file, open_text(file, compressed=location.lower().endswith(".gz")):
        pass  # it is text, as far as its beginning tells
    broken: deque[BrokenLine] = deque()

    def keep(line: Any) -> str:
        reason = f"more cells than the header has columns ({line.expected_columns})"
        broken.append(BrokenLine(line.number - 1, reason, line.text))
        return "skip"

    read = csv.ReadOptions(block_size=_CSV_BYTES, use_threads=False)  # Arrow numbers lines where one thread reads
    parse = csv.ParseOptions(newlines_in_values=True, invalid_row_handler=keep)
    with csv.open_csv(location, read_options=read, parse_options=parse) as opened:
        names = opened.schema.names
    broken.clear()
    kinds = dict.fromkeys(names, pa.binary())
    convert = csv.ConvertOptions(column_types=kinds, strings_can_be_null=False, quoted_strings_can_be_null=False)

    def batches(wanted: list[str]) -> Iterator[pa.RecordBatch]:
        with csv.open_csv(location, read_options=read, parse_options=parse, convert_options=convert) as reader:
            for batch in reader:
                yield batch.select(wanted)

    return _Opened(pa.schema(list(kinds.items())), batches, broken)


def _fault(location: str, message: str) -> DataError:
    return DataError(location, [DataFault("file", None, message)], NOTHING)
