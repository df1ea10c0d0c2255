"""The outcomes feed: people's files, read row by row, with everything that cannot be read named by file and row.

HR, or whoever knows how things ended, drops CSV or Parquet files with three columns: the key, the label and
``effective_date``. A row says of one entity what was true of it on that day. A file is never changed; a correction
comes as a row for the same key and date in a file whose name sorts later. Within one file the last row counts, and each
that contradicts it is rejected. Values are read by ``serving.scoring.spelling``, as the training file's are.
"""

import os
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from serving.scoring import spelling
from serving.scoring.contract import Field
from serving.scoring.csv_lines import BadLine, NotTextError, is_utf_8, open_text, read_lines
from serving.scoring.spelling import Refusal, shown
from training.inference_log.layout import LEFT_OUT
from training.inference_log.sql_engine import Column
from training.use_case import Binary, column_name

EFFECTIVE_DATE = "effective_date"
_TEXT_SUFFIXES = (".csv", ".csv.gz")
_READ_SUFFIXES = (*_TEXT_SUFFIXES, ".parquet")
_DELTA_LOG = "_delta_log"
_DELTA = "it is a Delta table, whose files hold deleted rows too: save its rows as CSV or Parquet"
_BATCH_ROWS = 10_000


class OutcomeError(ValueError):
    """Raised for one row or file of the feed that cannot be read; it is listed as rejected."""


class Outcome(msgspec.Struct, frozen=True):
    """One readable row of the feed."""

    key: int | float | str
    label: str
    """As the definition of the use case spells it."""
    effective_date: date
    file: str
    row: int
    """From 1, without the header."""
    where: str = ""
    """The row's line, where the file has lines."""


class Rejected(msgspec.Struct, frozen=True):
    """A row, or a file from a row on, that could not be read, or that its own file contradicts."""

    file: str
    row: int
    """From 1, without the header; 0 for a file of which nothing was read."""
    reason: str


class Listing(msgspec.Struct, frozen=True):
    """What the folder of the feed holds, as paths within it: every entry is in one of the three."""

    files: tuple[str, ...] = ()
    """To be read."""
    ignored: tuple[str, ...] = ()
    """Hidden files and folders (``.``, ``_``), and what Excel keeps beside a file that is open (``~$``)."""
    unread: tuple[Rejected, ...] = ()
    """What cannot be read as files of rows."""


def list_feed(feed: Path | None) -> Listing:
    """List the feed. A folder that is not there yet, or has no name, holds nothing."""
    files: list[str] = []
    ignored: list[str] = []
    unread: list[Rejected] = []

    def refused(error: OSError) -> None:
        if not (isinstance(error, FileNotFoundError) and Path(error.filename) == feed):
            place = Path(error.filename).relative_to(str(feed)).as_posix()
            unread.append(Rejected(_readable(place), 0, f"the folder cannot be listed: {error.strerror}"))

    for folder, folders, names in os.walk(feed, onerror=refused) if feed else ():
        place = Path(folder).relative_to(str(feed))
        if _DELTA_LOG in folders:
            unread.append(Rejected(_readable(place.as_posix()), 0, _DELTA))
            folders.clear()
            continue
        linked = [name for name in folders if not name.startswith(LEFT_OUT) and Path(folder, name).is_symlink()]
        link = "a link to a folder is not followed: put the folder itself here"
        unread += [Rejected(_readable((place / name).as_posix()), 0, link) for name in linked]
        ignored += [_readable((place / name).as_posix()) for name in [*folders, *names] if name.startswith(LEFT_OUT)]
        folders[:] = [name for name in folders if not name.startswith(LEFT_OUT) and name not in linked]
        for name in (name for name in names if not name.startswith(LEFT_OUT)):
            path = (place / name).as_posix()
            if Path(folder, name).is_file():
                files.append(path)
            else:
                unread.append(Rejected(_readable(path), 0, "it is a link to nothing, or something else than a file"))
    return Listing(tuple(sorted(files)), tuple(sorted(ignored)), tuple(sorted(unread, key=lambda one: one.file)))


def read_feed(feed: Path, names: Sequence[str], key: Column, label: Binary) -> tuple[list[Outcome], list[Rejected]]:
    """All rows of these files, and what was rejected with its reason. Whatever is wrong with one costs no other."""
    outcomes: list[Outcome] = []
    rejected: list[Rejected] = []
    for name in names:
        good, bad = _read_file(feed / name, _readable(name), key, label)
        outcomes += good
        rejected += bad
    return outcomes, rejected


def _read_file(path: Path, name: str, key: Column, label: Binary) -> tuple[list[Outcome], list[Rejected]]:
    outcomes: list[Outcome] = []
    rejected: list[Rejected] = []
    number = 0
    try:
        before = _state(path)
        for number, row in _rows(path, key, label):
            try:
                outcomes.append(_outcome(row, key, label, name, number))
            except Exception as error:  # noqa: BLE001 - a value of somebody's file may raise anything; it is listed
                rejected.append(Rejected(name, number, _plain(error) + row.where))
        if _state(path) != before:
            # Half a row may read like one of somebody else.
            changed = (
                "it was written to while it was read: none of its rows counts before the next night, which reads it"
            )
            return [], [Rejected(name, 0, changed)]
    except Exception as error:  # noqa: BLE001 - as above, for the file
        what = f"the file cannot be read after row {number}" if number else "the file cannot be read"
        rejected.append(Rejected(name, number + 1 if number else 0, f"{what}: {_plain(error)}"))
    outcomes, contradicted = _agreed(outcomes, key, label)
    return outcomes, sorted([*rejected, *contradicted], key=lambda one: one.row)


def _agreed(outcomes: list[Outcome], key: Column, label: Binary) -> tuple[list[Outcome], list[Rejected]]:
    """A file's rows without those that a later one of the same key and date contradicts."""
    last = {(one.key, one.effective_date): one for one in outcomes}
    kept: list[Outcome] = []
    contradicted: list[Rejected] = []
    for one in outcomes:
        counts = last[one.key, one.effective_date]
        if one.label == counts.label:
            kept.append(one)
            continue
        reason = (
            f"{label.field} is {one.label!r}, and {counts.label!r} for the same {key.field} {one.key!r} and date in "
            f"row {counts.row}{counts.where}, which counts: leave one of the two{one.where}"
        )
        contradicted.append(Rejected(one.file, one.row, _readable(reason)))
    return kept, contradicted


def _state(path: Path) -> tuple[int, int]:
    """What changes when a file is written to or replaced; a mounted object store need not keep its inode."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _plain(error: Exception) -> str:
    """The error in words that every log and file can hold."""
    ours = isinstance(error, OutcomeError | NotTextError)
    return _readable(str(error) if ours else f"{type(error).__name__}: {error}")


def _readable(text: str) -> str:
    """The text with its surrogates (bytes that are not UTF-8) written out."""
    return text.encode("utf-8", "backslashreplace").decode()


# --- files ---


class _Unread:
    """Stands for a value that could not be made of what the file holds."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Row(msgspec.Struct, frozen=True):
    """The three values of a row by our names, as the file has them."""

    values: dict[str, Any]
    text: bool = False
    """Whether they are cells of a CSV file."""
    where: str = ""
    """The line, where the file has lines."""


def _rows(path: Path, key: Column, label: Binary) -> Iterator[tuple[int, _Row]]:
    """A file's rows, numbered from 1, by our names for the three columns."""
    name = path.name.lower()
    if not name.endswith(_READ_SUFFIXES):
        raise OutcomeError(f"its name ends in none of {', '.join(_READ_SUFFIXES)}: save it as CSV or Parquet")
    return _csv_rows(path, key, label) if name.endswith(_TEXT_SUFFIXES) else _parquet_rows(path, key, label)


def _csv_rows(path: Path, key: Column, label: Binary) -> Iterator[tuple[int, _Row]]:
    compressed = path.name.lower().endswith(".gz")
    # What is not UTF-8 comes as surrogates, so that it costs its own row and no other.
    with path.open("rb") as file, open_text(file, compressed=compressed) as text:
        lines = read_lines(text)
        _, header = next(lines, (0, []))
        if isinstance(header, BadLine):
            raise OutcomeError(f"its header line cannot be read: {header.reason}")
        places = {header.index(column): ours for column, ours in _known(header, key, label).items()}
        for number, (line, cells) in enumerate(lines, start=1):
            where = f" (line {line})"
            if isinstance(cells, BadLine):
                unread = dict.fromkeys(places.values(), _Unread(OutcomeError(cells.reason)))
                yield number, _Row(unread, True, where)
            else:
                values = {ours: cells[at] for at, ours in places.items() if at < len(cells)}
                yield number, _Row(values, True, where)


def _parquet_rows(path: Path, key: Column, label: Binary) -> Iterator[tuple[int, _Row]]:
    file = pq.ParquetFile(path)
    known = _known(file.schema_arrow.names, key, label)
    number = 0
    for batch in file.iter_batches(_BATCH_ROWS, columns=list(known)):
        for row in range(batch.num_rows):
            number += 1
            yield number, _Row({ours: _value(batch.column(column)[row]) for column, ours in known.items()})


def _value(scalar: Any) -> Any:
    """A Parquet value as Python's, which not every one can be: there is no year 10000."""
    try:
        return scalar.as_py()
    except Exception as error:  # noqa: BLE001 - pyarrow raises what Python's types raise; the row is listed
        return _Unread(error)


def _known(names: Sequence[str], key: Column, label: Binary) -> dict[str, str]:
    """The file's names of the three columns, with ours."""
    wanted = {name: (column_name(name),) for name in (key.field, label.field)} | {EFFECTIVE_DATE: ()}
    found = spelling.find_columns(names, wanted)
    for ours, spelled in found.items():
        if len(spelled) > 1:
            raise OutcomeError(f"it has {len(spelled)} columns {ours} ({', '.join(spelled)}): leave one of them")
    if missing := [ours for ours, spelled in found.items() if not spelled]:
        raise OutcomeError(f"it has no column {', '.join(missing)} (there are: {', '.join(names) or 'none'})")
    return {spelled[0]: ours for ours, spelled in found.items()}


# --- values ---


def _outcome(row: _Row, key: Column, label: Binary, file: str, number: int) -> Outcome:
    readers = {
        key.field: lambda value: _key(value, key, as_text=row.text),
        label.field: lambda value: spelling.label(value, list(label.values), as_text=row.text),
        EFFECTIVE_DATE: spelling.day,
    }
    found: dict[str, Any] = {}
    for name, read in readers.items():
        value = row.values.get(name)
        if isinstance(value, _Unread) and not row.text and name == EFFECTIVE_DATE:
            raise OutcomeError(f"{name} is {spelling.BEYOND}: {value.error}")
        if isinstance(value, _Unread):
            raise OutcomeError(f"{name} cannot be read: {value.error}")
        if isinstance(value, str) and not is_utf_8([value]):
            raise OutcomeError(f"{name} is not UTF-8 text: save the file as CSV UTF-8")
        try:
            found[name] = read(value)
        except Refusal as refusal:
            hint = f"; {refusal.hint}" if refusal.hint else ""
            raise OutcomeError(f"{name} is {refusal.reason}: {shown(value)}{hint}") from refusal
        if found[name] is None or found[name] == "":
            raise OutcomeError(f"{name} is empty")
    return Outcome(found[key.field], found[label.field], found[EFFECTIVE_DATE], file, number, row.where)


def _key(value: Any, key: Column, *, as_text: bool) -> int | float | str | None:
    """The key by its field's kind: ``0007`` is the whole number 7, and a text of four characters."""
    field = Field(key.field, key.kind, "", "")
    found = spelling.text(value or "", field) if as_text else spelling.typed(value, field)
    spelling.hold(found, field)
    return int(found) if key.kind == "integer" and isinstance(found, float) else found
