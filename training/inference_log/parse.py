"""Read one night's landed lines into the staging tables, and account for every line."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from training.inference_log import layout, partial_lines
from training.inference_log.landing import Manifest, read_manifest
from training.inference_log.sql_engine import Engine, record_columns, sql_text
from training.inference_log.statements import statement
from training.use_case import UseCase

PIECE_NIGHTS = 2
"""Earlier nights in which the other pieces of a cut line are looked for; the export retries for 12 hours."""

_PLACE = {"file_no": "INT", "byte_offset": "BIGINT"}
_LANDED = {**_PLACE, "line": "STRING"}
_READ = {
    **_PLACE, "lines": "INT", "kind": "STRING", "reason": "STRING", "generated": "STRING", "stream": "STRING",
    "message": "STRING", "type": "STRING", "request_id": "STRING", "event_time": "TIMESTAMP",
    "received_at": "TIMESTAMP", "model_name": "STRING", "model_version": "STRING", "client": "STRING",
    "first_record": "INT", "digest": "STRING", "data": "STRING",
}  # fmt: skip
_PIECES = {**_PLACE, "generated": "STRING", "stream": "STRING", "message": "STRING"}
_JOINED = pa.schema(
    [("file_no", pa.int32()), ("byte_offset", pa.int64()), ("lines", pa.int32())]
    + [(name, pa.string()) for name in ("fault", "generated", "stream", "message")]
)
_PLACES = pa.schema([("file_no", pa.int32()), ("byte_offset", pa.int64()), ("reason", pa.string())])
_BLOBS = pa.schema([("file_no", pa.int32()), ("blob", pa.string())])


class CurationError(ValueError):
    """Raised when a night cannot be curated; the message says why and what to do."""


class Staged(msgspec.Struct, frozen=True):
    """The manifest of a night's staging tables; written last."""

    night: str
    days: tuple[str, ...]
    """The days that its messages belong to."""
    read: int
    """Lines of the night, which are the next four together."""
    message: int
    """Lines with messages of the service, first and later copies alike."""
    duplicate: int
    """Second deliveries of the pieces of a cut line."""
    foreign: int
    """Lines of others: other services, access lines, plain text."""
    quarantined: dict[str, int]
    """Lines by the reason why they could not be read."""
    bytes: int


def stage(engine: Engine, tables: Path, night: date, use_case: UseCase) -> Staged:
    """Make (or make again) the staging and quarantine tables of a night that was landed."""
    manifest = read_manifest(tables, night)
    if manifest is None:
        raise CurationError(f"night {night} has not been copied from the export: run the task land_logs for it")
    target = layout.night_folder(tables, "staging", night)
    service = use_case.title
    work = layout.empty_folder(target.with_name(f".{target.name}.work"))
    result = layout.empty_folder(work / "result")
    _read_lines(engine, layout.night_folder(tables, "landing", night), manifest, work, result, service)
    sorting = partial_lines.join(_pieces(engine, tables, night, result, service), service)
    fates = _read_joined(engine, sorting, night, work, service)
    features = ",\n  ".join(f"{column.from_text} AS {column.name}" for column in record_columns(use_case))
    for table in ("messages", "inputs", "outputs"):
        engine.write([statement(f"{table}.sql", features=features)], result / table)
    _write_quarantine(engine, fates, manifest, work, layout.night_folder(tables, "quarantine", night))
    staged = _account(engine, fates, manifest)
    layout.write_json(result / layout.MANIFEST, msgspec.to_builtins(staged))
    layout.replace_folder(result, target)
    layout.remove_folder(work)
    return staged


def read_staged(tables: Path, night: date) -> Staged | None:
    """The manifest of a night's staging tables, or ``None`` when they are not complete."""
    content = layout.read_json(layout.night_folder(tables, "staging", night) / layout.MANIFEST)
    return None if content is None else msgspec.convert(content, Staged)


def _read_lines(engine: Engine, landed: Path, manifest: Manifest, work: Path, result: Path, service: str) -> None:
    engine.view("landed", [landed / name for name in manifest.files], _LANDED)
    engine.write([statement("read.sql") + _message_sql(service)], work / "lines")
    engine.view("lines_read", [work / "lines"], _READ)
    engine.write([f"SELECT {', '.join(_PIECES)} FROM lines_read WHERE kind = 'piece'"], result / "pieces")


def _message_sql(service: str) -> str:
    return statement("message.sql", service=sql_text(service), cut_bytes=str(partial_lines.CUT_BYTES))


def _pieces(engine: Engine, tables: Path, night: date, result: Path, service: str) -> list[partial_lines.Piece]:
    """The pieces of this night and the ones before it, of streams in which a line of ours was cut."""
    known = {night: result / "pieces"}
    for back in range(1, PIECE_NIGHTS + 1):
        earlier = night - timedelta(days=back)
        if read_staged(tables, earlier):
            known[earlier] = layout.night_folder(tables, "staging", earlier) / "pieces"
    for one, folder in known.items():
        engine.view(f"pieces_{(night - one).days}", [folder], _PIECES)
    every = " UNION ALL ".join(f"SELECT '{one}' AS night, * FROM pieces_{(night - one).days}" for one in known)
    engine.define("pieces", every)
    rows = engine.query(
        "SELECT * FROM pieces WHERE stream IN (SELECT stream FROM pieces WHERE "
        f"byte_length(message) >= {partial_lines.CUT_BYTES} AND contains(message, {sql_text(service)}))"
    )
    return [msgspec.convert(row, partial_lines.Piece) for row in rows]


class _Fates(msgspec.Struct):
    """What became of this night's pieces: lines by kind, and the places of those that were not readable."""

    duplicate: int
    foreign: int
    unreadable: list[tuple[int, int, str]]


def _read_joined(engine: Engine, sorting: partial_lines.Sorting, night: date, work: Path, service: str) -> _Fates:
    """Read the lines that were put together with this night's pieces; defines ``texts_read``."""
    today = night.isoformat()
    joined = {(one.last.file_no, one.last.byte_offset): one for one in sorting.joined if one.last.night == today}
    own = {place: [piece for piece in one.pieces if piece.night == today] for place, one in joined.items()}
    rows = [
        (*place, len(own[place]), None, one.last.generated, one.last.stream, one.message)
        for place, one in joined.items()
    ]
    write_rows(rows, _JOINED, work / "joined.parquet")
    engine.view("texts_joined", [work / "joined.parquet"], dict.fromkeys(_JOINED.names, "STRING"))
    engine.write(["WITH texts AS (SELECT * FROM texts_joined)" + _message_sql(service)], work / "joined")
    engine.view("joined_read", [work / "joined"], _READ)
    engine.define("texts_read", "SELECT * FROM lines_read UNION ALL SELECT * FROM joined_read")
    copies = sum(piece.night == today for piece in sorting.copies)
    unreadable = [
        (p.file_no, p.byte_offset, "cut line without its rest") for p in sorting.unfinished if p.night == today
    ]
    foreign = (
        engine.query("SELECT COUNT(*) AS n FROM lines_read WHERE kind = 'piece'")[0]["n"] - copies - len(unreadable)
    )
    for row in engine.query("SELECT file_no, byte_offset, kind, reason FROM joined_read"):
        lines = own[row["file_no"], row["byte_offset"]]
        if row["kind"] != "foreign":
            foreign -= len(lines)
        if row["kind"] not in ("foreign", "message"):
            reason = row["reason"] or "broken JSON in LogMessage"
            unreadable += [(piece.file_no, piece.byte_offset, reason) for piece in lines]
    return _Fates(copies, foreign, unreadable)


def _write_quarantine(engine: Engine, fates: _Fates, manifest: Manifest, work: Path, target: Path) -> None:
    """The quarantine table: blob, byte offset and reason; the line itself stays in the landed files."""
    write_rows(fates.unreadable, _PLACES, work / "unreadable.parquet")
    write_rows([(part.file_no, part.blob) for part in manifest.ranges], _BLOBS, work / "blobs.parquet")
    engine.view("unreadable", [work / "unreadable.parquet"], {**_PLACE, "reason": "STRING"})
    engine.view("blobs", [work / "blobs.parquet"], {"file_no": "INT", "blob": "STRING"})
    engine.define("quarantined", statement("quarantine.sql"))
    engine.write(["SELECT * FROM quarantined"], target, order_by="blob, byte_offset")


def _account(engine: Engine, fates: _Fates, manifest: Manifest) -> Staged:
    kinds = {
        row["kind"]: row["n"] for row in engine.query("SELECT kind, SUM(lines) AS n FROM texts_read GROUP BY kind")
    }
    reasons = {
        row["reason"]: row["n"]
        for row in engine.query("SELECT reason, COUNT(*) AS n FROM quarantined GROUP BY reason ORDER BY reason")
    }
    days = engine.query("SELECT DISTINCT CAST(day AS STRING) AS day FROM (" + statement("messages.sql") + ") AS m")
    foreign_alone = engine.query("SELECT COUNT(*) AS n FROM lines_read WHERE kind = 'foreign'")[0]["n"]
    staged = Staged(
        night=manifest.night,
        days=tuple(sorted(row["day"] for row in days)),
        read=manifest.lines,
        message=int(kinds.get("message", 0)),
        duplicate=fates.duplicate,
        foreign=foreign_alone + fates.foreign,
        quarantined=reasons,
        bytes=manifest.bytes,
    )
    total = staged.message + staged.duplicate + staged.foreign + sum(reasons.values())
    if total != staged.read:
        raise CurationError(f"night {manifest.night}: {staged.read} lines were copied, {total} accounted for: {staged}")
    return staged


def write_rows(rows: Sequence[tuple[Any, ...]], schema: pa.Schema, path: Path) -> None:
    """A few rows that were made in Python, as a Parquet file for the engine."""
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    pq.write_table(pa.table([pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)],
                            schema=schema), path)  # fmt: skip
