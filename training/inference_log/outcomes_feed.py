"""The outcomes feed: people's files, read row by row, with everything that cannot be read named by file and row.

HR, or whoever knows how things ended, drops CSV or Parquet files with three columns: the key, the label and
``effective_date``. A row says of one entity what was true of it on that day. A file is never changed; a correction
comes as a row for the same key and date in a file whose name sorts later.
"""

import csv
import gzip
import math
import os
import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from training.inference_log.sql_engine import Column
from training.use_case import Binary, column_name

EFFECTIVE_DATE = "effective_date"
_TEXT_SUFFIXES = (".csv", ".csv.gz")
_READ_SUFFIXES = (*_TEXT_SUFFIXES, ".parquet")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_LEFT_OUT = (".", "_", "~$")
_DELTA_LOG = "_delta_log"
_DELTA = "it is a Delta table, whose files hold deleted rows too: save its rows as CSV or Parquet"
_SHOWN = 40
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


class Rejected(msgspec.Struct, frozen=True):
    """A row, or a file from a row on, that could not be read."""

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
        linked = [name for name in folders if not name.startswith(_LEFT_OUT) and Path(folder, name).is_symlink()]
        link = "a link to a folder is not followed: put the folder itself here"
        unread += [Rejected(_readable((place / name).as_posix()), 0, link) for name in linked]
        ignored += [_readable((place / name).as_posix()) for name in [*folders, *names] if name.startswith(_LEFT_OUT)]
        folders[:] = [name for name in folders if not name.startswith(_LEFT_OUT) and name not in linked]
        for name in (name for name in names if not name.startswith(_LEFT_OUT)):
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
        number = 0
        try:
            for number, raw in _rows(feed / name, key, label):
                try:
                    outcomes.append(_outcome(raw, key, label, _readable(name), number))
                except Exception as error:  # noqa: BLE001 - a value of somebody's file may raise anything; it is listed
                    rejected.append(Rejected(_readable(name), number, _plain(error)))
        except Exception as error:  # noqa: BLE001 - as above, for the file
            what = f"the file cannot be read after row {number}" if number else "the file cannot be read"
            rejected.append(Rejected(_readable(name), number + 1 if number else 0, f"{what}: {_plain(error)}"))
    return outcomes, rejected


def _plain(error: Exception) -> str:
    """The error in words that every log and file can hold."""
    return _readable(str(error) if isinstance(error, OutcomeError) else f"{type(error).__name__}: {error}")


def _readable(text: str) -> str:
    """The text with its surrogates (bytes that are not UTF-8) written out."""
    return text.encode("utf-8", "backslashreplace").decode()


# --- files ---


class _Unread:
    """Stands for a value that could not be made of what the file holds."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _rows(path: Path, key: Column, label: Binary) -> Iterator[tuple[int, dict[str, Any]]]:
    """A file's rows, numbered from 1, by our names for the three columns."""
    name = path.name.lower()
    if not name.endswith(_READ_SUFFIXES):
        raise OutcomeError(f"its name ends in none of {', '.join(_READ_SUFFIXES)}: save it as CSV or Parquet")
    return _csv_rows(path, key, label) if name.endswith(_TEXT_SUFFIXES) else _parquet_rows(path, key, label)


def _csv_rows(path: Path, key: Column, label: Binary) -> Iterator[tuple[int, dict[str, Any]]]:
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    # What is not UTF-8 comes as surrogates, so that it costs its own row and no other.
    with opened(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        places = {header.index(column): ours for column, ours in _known(header, key, label).items()}
        for number, values in enumerate(_lines(lines), start=1):
            if isinstance(values, _Unread):
                yield number, dict.fromkeys(places.values(), values)
            elif values:
                yield number, {ours: values[at].strip() for at, ours in places.items() if at < len(values)}


def _lines(lines: Iterator[list[str]]) -> Iterator[list[str] | _Unread]:
    """The lines of a CSV file. A reader that could not make cells of one goes on with the next."""
    while True:
        try:
            yield next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            yield _Unread(error)


def _parquet_rows(path: Path, key: Column, label: Binary) -> Iterator[tuple[int, dict[str, Any]]]:
    file = pq.ParquetFile(path)
    known = _known(file.schema_arrow.names, key, label)
    number = 0
    for batch in file.iter_batches(_BATCH_ROWS, columns=list(known)):
        for row in range(batch.num_rows):
            number += 1
            yield number, {ours: _value(batch.column(column)[row]) for column, ours in known.items()}


def _value(scalar: Any) -> Any:
    """A Parquet value as Python's, which not every one can be: there is no year 10000."""
    try:
        return scalar.as_py()
    except Exception as error:  # noqa: BLE001 - pyarrow raises what Python's types raise; the row is listed
        return _Unread(error)


def _known(names: Sequence[str], key: Column, label: Binary) -> dict[str, str]:
    """The file's names of the three columns, with ours: spelled in any case, with and without ``_`` and blanks."""
    spellings = {_folded(EFFECTIVE_DATE): EFFECTIVE_DATE}
    for ours in (key.field, label.field):
        spellings |= {_folded(ours): ours, _folded(column_name(ours)): ours}
    found: dict[str, list[str]] = {key.field: [], label.field: [], EFFECTIVE_DATE: []}
    for name in names:
        if (known := spellings.get(_folded(name))) is not None:
            found[known].append(name)
    for ours, spelled in found.items():
        if len(spelled) > 1:
            raise OutcomeError(f"it has {len(spelled)} columns {ours} ({', '.join(spelled)}): leave one of them")
    if missing := [ours for ours, spelled in found.items() if not spelled]:
        raise OutcomeError(f"it has no column {', '.join(missing)} (there are: {', '.join(names) or 'none'})")
    return {spelled[0]: ours for ours, spelled in found.items()}


def _folded(name: str) -> str:
    return re.sub(r"[\s_]", "", name).casefold()


# --- values ---


def _outcome(raw: dict[str, Any], key: Column, label: Binary, file: str, number: int) -> Outcome:
    for name in (key.field, label.field, EFFECTIVE_DATE):
        value = raw.get(name)
        if isinstance(value, _Unread):
            raise OutcomeError(f"{name} cannot be read: {value.error}")
        if value is None or value == "":
            raise OutcomeError(f"{name} is empty")
        if isinstance(value, str) and not value.isascii():
            _check_unicode(name, value)
    return Outcome(
        _key(raw[key.field], key),
        _label(raw[label.field], label),
        _date(raw[EFFECTIVE_DATE]),
        file,
        number,
    )


def _check_unicode(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise OutcomeError(f"{name} is not UTF-8 text: save the file as CSV UTF-8") from error


def _key(value: Any, key: Column) -> int | float | str:
    """The key by its field's kind: ``0007`` is the whole number 7, and a text of four characters."""
    if key.kind == "category":
        if isinstance(value, str):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise OutcomeError(f"{key.field} is a text, and the file holds {_shown(value)}: write it as text")
    number = _number(value)
    if number is None:
        raise OutcomeError(f"{key.field} is not a number: {_shown(value)}")
    if key.kind == "number":
        return float(number)
    if not -(2**63) <= number < 2**63:
        raise OutcomeError(f"{key.field} has more digits than a whole number of 64 bits: {_shown(value)}")
    if number != int(number):
        raise OutcomeError(f"{key.field} is not a whole number: {_shown(value)}")
    return int(number)


def _number(value: Any) -> Decimal | None:
    """The exact value of a number or of a text that is one; ``None`` otherwise."""
    if isinstance(value, str):
        return Decimal(value) if _NUMBER.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not math.isfinite(value):
        return None
    return Decimal(value)


def _label(value: Any, label: Binary) -> str:
    """The label's value as the definition spells it, whatever case the file has it in."""
    text = str(value).strip()
    if isinstance(value, float) and value.is_integer():
        text = str(int(value))
    if text in label.values:
        return text
    alike = [known for known in label.values if known.casefold() == text.casefold()]
    if len(alike) != 1:
        raise OutcomeError(f"{label.field} is not one of {', '.join(label.values)}: {_shown(value)}")
    return alike[0]


def _date(value: Any) -> date:
    """The day that is written there, in the time zone that it is written in."""
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return datetime.fromisoformat(str(value)).date()
    except ValueError as error:
        raise OutcomeError(f"{EFFECTIVE_DATE} is not a date such as 2026-09-30: {_shown(value)}") from error


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
