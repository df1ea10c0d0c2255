"""A data file as it is: CSV, Parquet or Delta, by its name."""

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pandas as pd

from serving.scoring.csv_lines import BadLine, NotTextError, is_utf_8, open_text, read_lines, surplus
from training.data.data_error import DataError, DataFault
from training.data.delta import DELTA_LOG, DeltaUnread, in_delta, is_delta, open_delta
from training.data.table import RawTable

_TEXT_SUFFIXES = (".csv", ".csv.gz")
_WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers")
_ARCHIVES = (".zip", ".gz", ".tgz", ".tar", ".7z", ".rar", ".bz2", ".xz", ".zst")
_MARKS = ((";", "semicolons"), ("\t", "tabs"), ("|", "bars"))
"""What stands between cells where it is not commas."""
_LINES_SHOWN = 5


def read_raw(location: str) -> RawTable:
    """The file as it is: cells of a CSV file as text, without the blanks around them. Raises ``DataError``."""
    if not location:
        raise DataError("(none)", [DataFault("file", None, "no location is given: set the parameter data")])
    path = _local(location).rstrip("/")
    try:
        if path.lower().endswith(_TEXT_SUFFIXES):
            with _opened(path) as file:
                return _read_csv(location, file)
        if path.lower().endswith(_WORKBOOKS):
            raise _Unread("it is a workbook of a spreadsheet: save it as CSV UTF-8")
        if path.lower().endswith(_ARCHIVES):
            raise _Unread("it is an archive or a compressed file: unpack it; only .csv.gz is read as it is")
        if _is_delta(path):
            return _typed(_read_delta(path))
        if "://" not in path and Path(path).is_dir() and not _holds_files(Path(path)):
            raise _Unread("the folder holds no files: name the folder that holds the Parquet files")
        return _typed(pd.read_parquet(path))
    except DataError:
        raise
    except (OSError, EOFError, ValueError, KeyError, ImportError, OverflowError) as error:
        raise DataError(location, [DataFault("file", None, _plain(error))]) from error


def _holds_files(folder: Path) -> bool:
    """Whether a folder holds anything that is read: names that begin with ``_`` or ``.`` are not."""
    return any(one.is_file() and not one.name.startswith(("_", ".")) for one in folder.rglob("*"))


def _is_delta(path: str) -> bool:
    """Whether the path is a Delta table; raises ``_Unread`` for a file of one, which may hold deleted rows."""
    if "://" in path:
        remote = _remote(path)
        return bool(remote.fs.isdir(f"{remote.path}/{DELTA_LOG}"))
    if in_delta(Path(path)):
        raise _Unread("it is a file of a Delta table, and may hold deleted rows: name the table's folder")
    return is_delta(Path(path))


def _read_delta(path: str) -> pd.DataFrame:
    frame: pd.DataFrame = open_delta(path).to_table().to_pandas()
    return frame


class _Unread(ValueError):
    """Raised for a file that is not read, with what people are told."""


def _typed(frame: pd.DataFrame) -> RawTable:
    if not isinstance(frame.index, pd.RangeIndex):  # a column of the file that pandas takes for names of rows
        frame = frame.reset_index([name for name in frame.index.names if name is not None])
    return RawTable(frame.reset_index(drop=True), False, range(1, len(frame) + 1))


_PLAIN: tuple[tuple[type[Exception], str], ...] = (
    (FileNotFoundError, "it does not exist where the job runs: check the path and its spelling"),
    (PermissionError, "the job may not read it: check the file's rights"),
    (IsADirectoryError, "it is a folder: name the CSV file, or a folder of Parquet files without .csv in its name"),
    (gzip.BadGzipFile, "it is not compressed with gzip, as its name says: name it .csv"),
    (EOFError, "it breaks off: the compressed file is not complete"),
)
_JARGON = (
    ("magic bytes", "it is not a Parquet file, or not all of one"),
    ("footer", "it is not a Parquet file, or not all of one"),
    ("file size", "it is not a Parquet file, or not all of one"),
    ("multiple times", "it has two columns of one name: rename or remove one"),
    ("exists 2 times", "it has two columns of one name: rename or remove one"),
)


def _plain(error: Exception) -> str:
    """A library's words in those of people, where they are known."""
    if isinstance(error, _Unread | DeltaUnread | NotTextError):
        return str(error)
    for kind, words in _PLAIN:
        if isinstance(error, kind):
            return words
    text = str(error).strip()
    reason = next((words for part, words in _JARGON if part in text), text)
    return f"it cannot be read as CSV (name ends in .csv or .csv.gz) or Parquet: {reason}"


def _remote(address: str) -> Any:
    import fsspec  # only where an address is given, as pandas does: the job's environment need not have it

    return fsspec.open(address, "rb")


@contextmanager
def _opened(path: str) -> Iterator[IO[str]]:
    """A file or address, as text in which what is not UTF-8 is a surrogate."""
    compressed = path.lower().endswith(".gz")
    with (
        _remote(path).open() if "://" in path else open(path, "rb") as file,
        open_text(file, compressed=compressed) as text,
    ):
        yield text


def _read_csv(location: str, file: IO[str]) -> RawTable:
    lines = read_lines(file)
    _, header = next(lines, (0, None))
    if header is None:
        message = "it is empty: a header line and one line for each record are expected"
        raise DataError(location, [DataFault("file", None, message)])
    if isinstance(header, BadLine) or not is_utf_8(header):
        reason = header.reason if isinstance(header, BadLine) else _not_utf_8([1])
        raise DataError(location, [DataFault("file", None, reason)])
    if len(header) == 1 and (found := next((words for mark, words in _MARKS if mark in header[0]), None)):
        message = f"its cells are separated by {found}: save it with commas between them, and numbers with a point"
        raise DataError(location, [DataFault("file", None, message)])
    rows: list[list[str]] = []
    numbers: list[int] = []
    wrong: dict[str, list[int]] = {}
    for number, cells in lines:
        if fault := _line_fault(cells, len(header)):
            wrong.setdefault(fault, []).append(number)
        elif not isinstance(cells, BadLine):
            rows.append((cells + [""] * (len(header) - len(cells)))[: len(header)])
            numbers.append(number)
    if wrong:
        raise DataError(location, [DataFault("file", None, _told(fault, found)) for fault, found in wrong.items()])
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    frame = pd.DataFrame({place: pd.Series(cells, dtype=object) for place, cells in enumerate(columns)})
    frame.columns = pd.Index(header, dtype=object)
    return RawTable(frame, True, numbers)


_NOT_UTF_8 = "not UTF-8"


def _line_fault(cells: list[str] | BadLine, width: int) -> str:
    if isinstance(cells, BadLine):
        return cells.reason
    return surplus(cells, width) or ("" if is_utf_8(cells) else _NOT_UTF_8)


def _told(fault: str, numbers: list[int]) -> str:
    if fault == _NOT_UTF_8:
        return _not_utf_8(numbers)
    return f"it is not a CSV table: {fault} ({_lines(numbers)})"


def _not_utf_8(numbers: list[int]) -> str:
    return f"it is not UTF-8 text ({_lines(numbers)}): save it as CSV UTF-8"


def _lines(numbers: list[int]) -> str:
    more = ", ..." if len(numbers) > _LINES_SHOWN else ""
    return f"line{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers[:_LINES_SHOWN]))}{more}"


def _local(location: str) -> str:
    """``dbfs:/x`` and ``file:/x`` as the paths that Databricks mounts."""
    if location.startswith("dbfs:/"):
        location = location.removeprefix("dbfs:")
        return location if location.startswith("/Volumes/") else f"/dbfs{location}"
    return os.path.expanduser(location.removeprefix("file://"))
