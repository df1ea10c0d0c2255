"""The folder of curated tables: what lies where, and how a file appears whole or not at all.

::

    landing/night=D/lines-N.parquet, manifest.json      raw lines as they were copied from the export
    staging/night=D/*.parquet, manifest.json            the night's lines, read: messages, inputs, outputs, pieces
    inference/day=D/                                    curated: one row per scored record
    unpaired/day=D/                                     inputs without output and the reverse
    quarantine/night=D/                                 lines that could not be read: reason and source offset
    training/night=D/training.parquet                   original training set and labelled records
    nights/night=D/*.json, report.html                  counts, labels, feed, verdict, alerts that were sent
    arrivals/KEY.json                                   a new file that was looked at, and what it started
    runs/KEY.json                                       the nights that a DAG run closes, however often it is repeated

On Databricks ``inference`` and ``unpaired`` are Delta tables, partitioned by day.

A night is the UTC day that a run closes. ``landing`` and ``staging`` hold the full story and no other table
does: every curated table can be deleted and made again from them.
"""

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

NIGHT = "night="
DAY = "day="
MANIFEST = "manifest.json"
COUNTS = "counts.json"
VERDICT = "verdict.json"
ALERTS = "alerts.json"
REPORT = "report.html"
TRAINING = "training.parquet"
LEFT_OUT = (".", "_", "~$")
"""How the names of files and folders begin that programs keep beside people's data."""


class NightError(ValueError):
    """Raised for a night that cannot be closed."""


def check_nights(nights: Iterable[str], today: date) -> None:
    """Raise ``NightError`` where one of these ISO dates is not a date, or lies ahead: it has no records yet."""
    for night in nights:
        try:
            ahead = date.fromisoformat(night) > today
        except ValueError as error:
            raise NightError(f"the night {night!r} is not a date: write it as in {today}") from error
        if ahead:
            raise NightError(f"the night {night} is still to come (today is {today}, UTC): close nights up to today")


def night_folder(tables: Any, table: str, night: date) -> Any:
    """``<tables>/<table>/night=YYYY-MM-DD``; ``tables`` may be any path that can be joined with ``/``.

    A folder that a killed replacement has left beside its place is put back by this question, as by ``day_folder``
    and ``partitions``: whoever reads a table asks one of them first.
    """
    return _put_back(tables / table / f"{NIGHT}{night.isoformat()}")


def day_folder(tables: Path, table: str, day: date) -> Path:
    folder: Path = _put_back(tables / table / f"{DAY}{day.isoformat()}")
    return folder


def partitions(tables: Any, table: str, prefix: str = NIGHT) -> list[date]:
    """The nights (or days) of a table, in order."""
    for entry in entries(tables / table):
        if moved := _ASIDE.fullmatch(entry.name):
            _put_back(entry.with_name(moved[1]))
    names = (entry.name for entry in entries(tables / table))
    return sorted(date.fromisoformat(name.removeprefix(prefix)) for name in names if name.startswith(prefix))


def entries(folder: Any) -> list[Any]:
    """What lies in a folder. One that is not there holds nothing: an object store knows no empty folders."""
    return list(folder.iterdir()) if folder.is_dir() else []


def read_json(path: Any) -> Any:
    """The content of a JSON file, or ``None`` when there is none."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def write_text(path: Any, text: str) -> None:
    """Write a file so that a reader finds the old one or the new one, never a part.

    A local file is renamed into place; an object store shows an object once it is complete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(path, Path):
        path.write_text(text)
        return
    scratch = path.with_name(f".{path.name}.part")
    scratch.write_text(text)
    os.replace(scratch, path)


def write_json(path: Any, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


_ASIDE = re.compile(r"\.(.+)\.old")
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)


def _aside(folder: Path) -> Path:
    """Where a folder is moved while another one takes its place: a name that ``_ASIDE`` fits."""
    return folder.with_name(f".{folder.name}.old")


def _put_back(folder: Any) -> Any:
    """Undo the first move of a replacement whose second one never came; returns the folder's path."""
    if isinstance(folder, Path) and not folder.exists():
        with contextlib.suppress(FileNotFoundError):  # nothing was moved, or another process is quicker
            _moved(_aside(folder), folder)
    return folder


def _moved(folder: Path, to: Path) -> bool:
    """Move a folder; ``False`` where another one has taken the place."""
    try:
        os.replace(folder, to)
    except OSError as error:
        if error.errno not in _OCCUPIED:
            raise
        return False
    return True


def replace_folder(scratch: Path, target: Path) -> None:
    """Put a finished folder in the place of an older one, which is moved away as a whole first.

    There is never a part of either. No call makes both moves at once on every system and disk: where a process is
    killed between them, whoever asks for the folder next puts the older one back (``night_folder``).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _put_back(target)
    _remove_aside(target)
    placed = False
    while not placed:  # again where somebody has asked between the two moves
        if target.exists():
            os.replace(target, _aside(target))
        placed = _moved(scratch, target)
    _remove_aside(target)


def _remove_aside(target: Path) -> None:
    """Remove what a folder has replaced. It loses its name first: nothing puts a part of a folder back."""
    gone = target.with_name(f".{target.name}.gone")
    remove_folder(gone)
    if (old := _aside(target)).exists():
        os.replace(old, gone)
        remove_folder(gone)


def remove_folder(folder: Path) -> None:
    """Remove a folder, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)


def empty_folder(folder: Path) -> Path:
    """Make an empty folder, in place of whatever a killed run has left there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
