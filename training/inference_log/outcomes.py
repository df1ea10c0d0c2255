"""The labelled training table that the outcomes feed makes of curated inference records."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from serving.scoring.contract import RELEASE_CLIENT
from training.data.dataset import Dataset
from training.inference_log import layout
from training.inference_log.day_tables import inference_columns
from training.inference_log.labels import Labels
from training.inference_log.outcomes_feed import EFFECTIVE_DATE, Listing, Outcome, Rejected, list_feed, read_feed
from training.inference_log.parse import write_rows
from training.inference_log.sql_engine import Column, Engine, key_column, record_columns
from training.inference_log.statements import statement
from training.use_case import TECHNICAL_COLUMNS, UseCase

SOURCES = "outcomes.json"
REJECTED = "rejected_outcomes.json"
LABELS = "labels.json"
_ARROW = {"BIGINT": pa.int64(), "DOUBLE": pa.float64(), "STRING": pa.string(), "DATE": pa.date32()}


class Original(msgspec.Struct, frozen=True):
    """The rows that a training table begins with."""

    data: Dataset
    name: str
    """What people call them."""


def label(
    engine: Engine, tables: Path, night: date, use_case: UseCase, *, feed: Path | None, original: Original
) -> Labels:
    """Write ``labelled/night=`` and ``training/night=``.

    ``feed`` is the folder of outcome files. Of ``original``, rows that came with the feed are left out: they come with
    it again. A night that is labelled again reads the files that it read first.
    """
    known = layout.night_folder(tables, "nights", night)
    work = layout.empty_folder(tables / "labelled" / f".{night}.work")
    listed = _read_listing(known) or list_feed(feed)
    earlier, before = _listing_before(tables, night)
    labelled = layout.night_folder(tables, "labelled", night)
    outcomes: list[Outcome] = []
    rejected: list[Rejected] = []
    if key := key_column(use_case):
        outcomes, rejected = read_feed(feed, listed.files, key, use_case.binary) if feed else ([], [])
        rejected = [*listed.unread, *rejected]
        _join(engine, tables, night, use_case, key, outcomes, work, labelled)
    else:
        engine.view("labelled", [], labelled_columns(use_case))
        engine.write(["SELECT * FROM labelled"], labelled)
    engine.view("labelled", [labelled], labelled_columns(use_case))
    counts = _write_training(engine, use_case, original.data, work, layout.night_folder(tables, "training", night))
    labels = Labels(
        night=night.isoformat(),
        outcomes=len(outcomes),
        later=sum(outcome.effective_date > night for outcome in outcomes),
        rejected=len(rejected),
        labelled=counts.get("inference", 0),
        original=counts.get("original", 0),
        rows=sum(counts.values()),
        unjoined=why_unjoined(use_case),
        origin=original.name,
        files=len(listed.files) + len(listed.unread),
        unread=sum(one.row == 0 for one in rejected),
        ignored=listed.ignored,
        gone=tuple(sorted(set(before.files) - set(listed.files))),
    )
    labels = msgspec.structs.replace(labels, newest=_newest(labels, listed, before, earlier))
    layout.write_json(known / REJECTED, msgspec.to_builtins(rejected))
    layout.write_json(known / LABELS, msgspec.to_builtins(labels))
    layout.write_json(known / SOURCES, msgspec.to_builtins(listed))
    layout.remove_folder(work)
    return labels


def _listing_before(tables: Path, night: date) -> tuple[Labels | None, Listing]:
    """What the latest labelled night before this one made of the feed, and what the feed held then."""
    for earlier in reversed(layout.partitions(tables, "nights")):
        if earlier < night and (listing := _read_listing(layout.night_folder(tables, "nights", earlier))) is not None:
            return read_labels(tables, earlier), listing
    return None, Listing()


def _read_listing(folder: Path) -> Listing | None:
    """What the feed held when a night was labelled first; release 0.1.0 kept the names of the files alone."""
    found = layout.read_json(folder / SOURCES)
    return None if found is None else msgspec.convert({"files": found} if isinstance(found, list) else found, Listing)


def _newest(labels: Labels, listed: Listing, before: Listing, earlier: Labels | None) -> str:
    """The night in which the feed's newest file, or newest row of a file, came; empty while it has none."""
    if not listed.files:
        return earlier.newest if earlier else ""
    if earlier is None or set(listed.files) - set(before.files) or labels.outcomes > earlier.outcomes:
        return labels.night
    return earlier.newest


def why_unjoined(use_case: UseCase) -> str:
    """Why outcomes cannot be joined with records; empty where they can be."""
    return "" if use_case.key else "this use case has no key, so outcomes cannot be joined to records"


def read_rejected(tables: Path, night: date) -> list[Rejected]:
    """What was rejected of the feed in a night that was labelled."""
    found = layout.read_json(layout.night_folder(tables, "nights", night) / REJECTED)
    return msgspec.convert(found or [], list[Rejected])


def read_labels(tables: Path, night: date) -> Labels | None:
    """What a night's training table was made of, or ``None`` where the night was not labelled."""
    found = layout.read_json(layout.night_folder(tables, "nights", night) / LABELS)
    return None if found is None else msgspec.convert(found, Labels)


def labelled_columns(use_case: UseCase) -> dict[str, str]:
    """Names and types of table ``labelled``."""
    return {
        use_case.columns[use_case.label.field]: "STRING", EFFECTIVE_DATE: "DATE", "event_time": "TIMESTAMP",
        "request_id": "STRING", "record": "INT", "model_name": "STRING", "model_version": "STRING",
        "prediction": "DOUBLE", **{column.name: column.sql_type for column in record_columns(use_case)},
    }  # fmt: skip


def _join(
    engine: Engine,
    tables: Path,
    night: date,
    use_case: UseCase,
    key: Column,
    outcomes: Sequence[Outcome],
    work: Path,
    target: Path,
) -> None:
    """Write table ``labelled``: each outcome of the night or before with the record that it is about."""
    label_column = use_case.columns[use_case.label.field]
    columns = {
        key.name: key.sql_type,
        label_column: "STRING",
        EFFECTIVE_DATE: "DATE",
        "file": "STRING",
        "row_no": "BIGINT",
    }
    rows = [(one.key, one.label, one.effective_date, one.file, one.row) for one in outcomes]
    write_rows(rows, pa.schema([(name, _ARROW[kind]) for name, kind in columns.items()]), work / "feed.parquet")
    engine.view("outcomes", [work / "feed.parquet"], columns)
    engine.view_days("inference", tables, "inference", inference_columns(use_case))
    chosen = statement(
        "labelled.sql",
        night=night.isoformat(),
        key=key.name,
        label=label_column,
        features=", ".join(f"i.{column.name}" for column in record_columns(use_case)),
        horizon_days=str(use_case.horizon_days),
        release_client=RELEASE_CLIENT,
    )
    engine.write([chosen], target, order_by=f"r.{EFFECTIVE_DATE}, i.{key.name}")


def _write_training(engine: Engine, use_case: UseCase, original: Dataset, work: Path, target: Path) -> dict[str, int]:
    """Write the training table of the original set and view ``labelled``; returns its rows by source."""
    columns = record_columns(use_case)
    label_column = use_case.columns[use_case.label.field]
    _view_original(engine, use_case, original, work)
    rows = statement(
        "training.sql",
        original=", ".join(f"TRY_CAST({column.name} AS {column.sql_type}) AS {column.name}" for column in columns),
        features=", ".join(column.name for column in columns),
        label=label_column,
    )
    engine.define("training_rows", rows)
    key = key_column(use_case)
    order = ["source DESC", EFFECTIVE_DATE, *([key.name] if key else []), "row_no"]
    names = [*(column.name for column in columns), label_column, *TECHNICAL_COLUMNS]
    engine.write([f"SELECT {', '.join(names)} FROM training_rows"], target, order_by=", ".join(order))
    counted = engine.query("SELECT source, COUNT(*) AS n FROM training_rows GROUP BY source")
    return {row["source"]: row["n"] for row in counted}


def _view_original(engine: Engine, use_case: UseCase, original: Dataset, work: Path) -> None:
    rows = original if original.recent is None else original.take(~original.recent)
    frame = rows.frame[list(use_case.columns)].rename(columns=use_case.columns)
    frame["row_no"] = range(len(frame))
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), work / "original.parquet")
    engine.view("original", [work / "original.parquet"], dict.fromkeys(frame.columns, ""))
