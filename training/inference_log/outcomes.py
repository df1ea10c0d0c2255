"""The labelled training table that the outcomes feed makes of curated inference records."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from serving.scoring.contract import RELEASE_CLIENT
from training.data.dataset import read_table
from training.inference_log import layout
from training.inference_log.day_tables import inference_columns
from training.inference_log.outcomes_feed import EFFECTIVE_DATE, Outcome, Rejected, feed_files, read_feed
from training.inference_log.parse import write_rows
from training.inference_log.sql_engine import Column, Engine, key_column, record_columns
from training.inference_log.statements import statement
from training.use_case import TECHNICAL_COLUMNS, UseCase

SOURCES = "outcomes.json"
REJECTED = "rejected_outcomes.json"
_ARROW = {"BIGINT": pa.int64(), "DOUBLE": pa.float64(), "STRING": pa.string(), "DATE": pa.date32()}


class Labels(msgspec.Struct, frozen=True):
    """What a night's training table holds."""

    night: str
    outcomes: int
    """Readable rows of the feed."""
    later: int
    """Those of them that are dated after the night: they count from their own date on."""
    rejected: int
    labelled: int
    """Outcomes with a record that they are about."""
    original: int
    rows: int
    """Rows of the training table."""
    unjoined: str = ""
    """Why no outcome can be joined with a record; empty where they can be."""

    @property
    def note(self) -> str:
        """One line for people."""
        read = (
            self.unjoined or f"{self.outcomes} outcomes read ({self.later} of a later date), {self.rejected} rejected"
        )
        return f"night {self.night}: {read}; {self.labelled} labelled records + {self.original} of the original set"


def label(engine: Engine, tables: Path, night: date, use_case: UseCase, *, feed: Path | None, original: str) -> Labels:
    """Write ``labelled/night=`` and ``training/night=``.

    ``feed`` is the folder of outcome files, ``original`` the first training set (a CSV or Parquet path).
    A night that is labelled again reads the files that it read first.
    """
    known = layout.night_folder(tables, "nights", night)
    work = layout.empty_folder(tables / "labelled" / f".{night}.work")
    names = layout.read_json(known / SOURCES)
    names = feed_files(feed) if names is None else names
    labelled = layout.night_folder(tables, "labelled", night)
    outcomes: list[Outcome] = []
    rejected: list[Rejected] = []
    if key := key_column(use_case):
        outcomes, rejected = read_feed(feed, names, key, use_case.label) if feed else ([], [])
        _join(engine, tables, night, use_case, key, outcomes, work, labelled)
    else:
        engine.view("labelled", [], labelled_columns(use_case))
        engine.write(["SELECT * FROM labelled"], labelled)
    engine.view("labelled", [labelled], labelled_columns(use_case))
    counts = _write_training(engine, use_case, original, work, layout.night_folder(tables, "training", night))
    layout.write_json(known / REJECTED, msgspec.to_builtins(rejected))
    layout.write_json(known / SOURCES, names)
    layout.remove_folder(work)
    return Labels(
        night=night.isoformat(),
        outcomes=len(outcomes),
        later=sum(outcome.effective_date > night for outcome in outcomes),
        rejected=len(rejected),
        labelled=counts.get("inference", 0),
        original=counts.get("original", 0),
        rows=sum(counts.values()),
        unjoined=why_unjoined(use_case),
    )


def why_unjoined(use_case: UseCase) -> str:
    """Why outcomes cannot be joined with records; empty where they can be."""
    return "" if use_case.key else "this use case has no key, so outcomes cannot be joined to records"


def read_rejected(tables: Path, night: date) -> list[Rejected]:
    """What could not be read of the feed in a night that was labelled."""
    found = layout.read_json(layout.night_folder(tables, "nights", night) / REJECTED)
    return msgspec.convert(found or [], list[Rejected])


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


def _write_training(engine: Engine, use_case: UseCase, original: str, work: Path, target: Path) -> dict[str, int]:
    """Write the training table of the original set and view ``labelled``; returns its rows by source."""
    columns = record_columns(use_case)
    label_column = use_case.columns[use_case.label.field]
    _view_original(engine, use_case, original, work)
    rows = statement(
        "training.sql",
        original=", ".join(f"CAST({column.name} AS {column.sql_type}) AS {column.name}" for column in columns),
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


def _view_original(engine: Engine, use_case: UseCase, original: str, work: Path) -> None:
    frame = read_table(use_case, original).frame[list(use_case.columns)].rename(columns=use_case.columns)
    frame["row_no"] = range(len(frame))
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), work / "original.parquet")
    engine.view("original", [work / "original.parquet"], dict.fromkeys(frame.columns, ""))
