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

import json
import os
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
    """``<tables>/<table>/night=YYYY-MM-DD``; ``tables`` may be any path that can be joined with ``/``."""
    return tables / table / f"{NIGHT}{night.isoformat()}"


def day_folder(tables: Path, table: str, day: date) -> Path:
    return tables / table / f"{DAY}{day.isoformat()}"


def partitions(tables: Any, table: str, prefix: str = NIGHT) -> list[date]:
    """The nights (or days) of a table, in order."""
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


def replace_folder(scratch: Path, target: Path) -> None:
    """Put a finished folder in the place of an older one, which is moved away as a whole first.

    There is never a part of either. A process killed between the two moves leaves no folder: the night that was
    under way has no counts file yet, so its next run writes the folder again.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    old = target.with_name(f".{target.name}.old")
    remove_folder(old)
    if target.exists():
        os.replace(target, old)
    os.replace(scratch, target)
    remove_folder(old)


def remove_folder(folder: Path) -> None:
    """Remove a folder, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)


def empty_folder(folder: Path) -> Path:
    """Make an empty folder, in place of whatever a killed run has left there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
