"""Rebuild the curated tables of the days that a night's messages belong to, from all nights' staging tables.

A day is rebuilt whenever a late message reaches it, so its content depends on what was delivered and not
on when or in which order. Of several deliveries of one message the first counts.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec

from training.inference_log import layout
from training.inference_log.landing import Unread, read_manifest
from training.inference_log.parse import CurationError, Staged, read_staged
from training.inference_log.sql_engine import Engine, record_columns
from training.inference_log.statements import statement
from training.use_case import UseCase

_PLACE = {"file_no": "INT", "byte_offset": "BIGINT", "request_id": "STRING", "event_time": "TIMESTAMP", "day": "DATE"}
_MESSAGES = {
    **_PLACE, "lines": "INT", "type": "STRING", "model_version": "STRING", "first_record": "INT", "digest": "STRING",
}  # fmt: skip
_OUTPUTS = {**_PLACE, "record": "INT", "prediction": "DOUBLE", "is_outlier": "BOOLEAN", "outlier_score": "DOUBLE"}
_COPIES = {
    "night": "STRING", "file_no": "INT", "byte_offset": "BIGINT", "copy": "BIGINT", "ambiguous": "INT",
    "lines": "INT", "event_time": "TIMESTAMP",
}  # fmt: skip


class Counts(msgspec.Struct, frozen=True):
    """What became of the lines of one night: ``read = kept + duplicate + foreign + quarantined``."""

    night: str
    read: int
    kept: int
    """Lines with messages of the service that no line of this or an earlier night has said before."""
    duplicate: int
    """Lines that say again what another one says."""
    foreign: int
    """Lines of others: other services, access lines, plain text."""
    quarantined: int
    reasons: dict[str, int]
    """Quarantined lines by reason."""
    days: tuple[str, ...]
    """The days that were rebuilt."""
    bytes: int
    blobs: int = 0
    """Exported blobs that were looked at."""
    waiting: int = 0
    """Bytes of them that may be half a line, and wait for the rest."""
    strange: tuple[str, ...] = ()
    """Files among them that no export is named like, and that nobody read."""
    unread: tuple[Unread, ...] = ()
    """What the folders of older days hold that no night has read, where no earlier night has told it."""

    @property
    def note(self) -> str:
        """One line for people."""
        if not self.read:
            return f"night {self.night}: the export held no new lines"
        return (
            f"night {self.night}: {self.read} lines read = {self.kept} kept + {self.duplicate} duplicate "
            f"+ {self.foreign} foreign + {self.quarantined} quarantined"
        )


def inference_columns(use_case: UseCase) -> dict[str, str]:
    """Names and types of table ``inference``.

    ``source_*`` is the place of the input's line; ``curated_night`` the night in which input and output were there.
    """
    return {
        "request_id": "STRING", "record": "INT", "event_time": "TIMESTAMP", "received_at": "TIMESTAMP",
        "model_name": "STRING", "model_version": "STRING", "client": "STRING",
        **{column.name: column.sql_type for column in record_columns(use_case)},
        "prediction": "DOUBLE", "is_outlier": "BOOLEAN", "outlier_score": "DOUBLE",
        "source_night": "STRING", "source_file": "INT", "source_offset": "BIGINT",
        "curated_night": "STRING",
    }  # fmt: skip


def rebuild(engine: Engine, tables: Path, night: date, use_case: UseCase) -> Counts:
    """Rebuild the days of a staged night and account for the night's lines."""
    staged = read_staged(tables, night)
    if staged is None:
        raise CurationError(f"night {night} is not staged: run the curation of that night first")
    repeated = sum(rebuild_day(engine, tables, date.fromisoformat(day), use_case, night) for day in staged.days)
    manifest = read_manifest(tables, night)
    counts = _count(staged, repeated)
    if manifest:
        waiting = sum(one.bytes for one in manifest.waiting)
        counts = msgspec.structs.replace(
            counts, blobs=manifest.blobs, waiting=waiting, strange=manifest.strange, unread=manifest.unread
        )
    layout.write_json(layout.night_folder(tables, "nights", night) / layout.COUNTS, msgspec.to_builtins(counts))
    return counts


def rebuild_day(engine: Engine, tables: Path, day: date, use_case: UseCase, night: date) -> int:
    """Write partitions ``inference/day=`` and ``unpaired/day=``; returns the lines of ``night`` that repeat others."""
    work = layout.empty_folder(tables / f".{day}.work")
    nights = _nights_of(day, tables)
    inputs = _PLACE | {
        name: kind for name, kind in inference_columns(use_case).items() if name in _input_names(use_case)
    }
    _define(engine, tables, "messages", nights, _MESSAGES)
    _define(engine, tables, "inputs", nights, inputs)
    _define(engine, tables, "outputs", nights, _OUTPUTS)
    spans = _spans(engine, day)
    _number_copies(engine, work, spans, use_case)
    features = ", ".join(f"i.{column.name}" for column in record_columns(use_case))
    parts = [statement("inference.sql", chosen=span, features=features) for span in spans]
    engine.write_day(parts, tables, "inference", day, order_by="event_time, request_id, record")
    order = "event_time, request_id, record, type, night, file_no, byte_offset"
    parts = [statement("unpaired.sql", chosen=span) for span in spans]
    engine.write_day(parts, tables, "unpaired", day, order_by=order)
    # Copies are numbered night by night: what later nights delivered changes nothing in an earlier one's counts.
    found = engine.query(f"SELECT COALESCE(SUM(lines), 0) AS n FROM copies WHERE copy > 1 AND night = '{night}'")
    layout.remove_folder(work)
    return int(found[0]["n"])


def _number_copies(engine: Engine, work: Path, spans: Sequence[str], use_case: UseCase) -> None:
    """Let ``copies`` stand for a day's messages with the number of their delivery.

    Equal texts say the same. Only where one request id was told in several texts, values are compared: the rare case.
    """
    by_text, by_value = work / "copies_by_text", work / "copies"
    engine.write([statement("copies.sql", chosen=span, messages="messages") for span in spans], by_text)
    engine.view("copies", [by_text], _COPIES)
    if not engine.query("SELECT COUNT(*) AS n FROM copies WHERE ambiguous = 1")[0]["n"]:
        return
    engine.view("copies_by_text", [by_text], _COPIES)
    fields = [column.name for column in record_columns(use_case)]
    answer = [name for name in _OUTPUTS if name not in _PLACE]
    values = statement("by_value.sql", input=_said(["record", *fields]), output=_said(answer))
    engine.define("messages_by_value", values)
    engine.write([statement("copies.sql", chosen=span, messages="messages_by_value") for span in spans], by_value)
    engine.view("copies", [by_value], _COPIES)


def _said(columns: Sequence[str]) -> str:
    """SQL for the arguments of CONCAT: values of row ``r`` so that different ones never make the same text."""
    return ", ".join(f"COALESCE(MD5(CAST(r.{name} AS STRING)), '-')" for name in columns)


def _spans(engine: Engine, day: date) -> list[str]:
    """Conditions that part a day by time, minute by minute: what is compared or joined has the same time.

    The parts are of one size, whatever the day's, so that time grows with the rows and memory does not.
    """
    cuts, rows = [f"{day} 00:00:00"], 0
    if engine.part_rows:
        for minute in engine.query(statement("minutes.sql", day=day.isoformat())):
            if rows and rows + minute["n"] > engine.part_rows:
                cuts.append(minute["minute"])
                rows = 0
            rows += minute["n"]
    cuts.append(f"{day + timedelta(days=1)} 00:00:00")
    return [f"event_time >= TIMESTAMP '{start}' AND event_time < TIMESTAMP '{end}'" for start, end in pairwise(cuts)]


def _nights_of(day: date, tables: Path) -> list[date]:
    """The staged nights with messages of a day."""
    staged = {night: read_staged(tables, night) for night in layout.partitions(tables, "staging")}
    return [night for night, found in staged.items() if found and day.isoformat() in found.days]


def _input_names(use_case: UseCase) -> set[str]:
    names = {"received_at", "model_name", "model_version", "client", "record"}
    return names | {column.name for column in record_columns(use_case)}


def _define(engine: Engine, tables: Path, table: str, nights: Sequence[date], columns: dict[str, str]) -> None:
    """Let ``table`` stand for a staging table over several nights, with the night as a column."""
    engine.view(f"{table}_none", [], columns)
    parts = [f"SELECT '' AS night, * FROM {table}_none"]
    for number, night in enumerate(nights):
        engine.view(f"{table}_{number}", [layout.night_folder(tables, "staging", night) / table], columns)
        parts.append(f"SELECT '{night}' AS night, * FROM {table}_{number}")
    engine.define(table, " UNION ALL ".join(parts))


def _count(staged: Staged, repeated: int) -> Counts:
    return Counts(
        night=staged.night,
        read=staged.read,
        kept=staged.message - repeated,
        duplicate=staged.duplicate + repeated,
        foreign=staged.foreign,
        quarantined=sum(staged.quarantined.values()),
        reasons=staged.quarantined,
        days=staged.days,
        bytes=staged.bytes,
    )
