"""The batch scoring on Spark: each executor scores parts of the table by the same function."""

import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa

from serving.scoring.bundle import Bundle
from training.batch.score import REASONS, REJECTED, Pinned, Scored, score_rows, scores_schema
from training.batch.source import Source
from training.batch.tables import REJECTED_ROWS, SCORES, Counts
from training.inference_log import layout
from training.inference_log.sql_engine import open_spark
from training.search.executor import ship_code
from training.use_case import UseCase

_DRAFT = "scored"


def score(
    use_case: UseCase, folder: Path, pinned: Pinned, source: Source, names: list[str], tables: Path, day: date
) -> Counts:
    """Score a table in one pass, and replace the date's partitions of the two tables from what that pass has made.

    The pass is kept as Parquet until both tables are written: read twice, a table might change in between. Rows have
    no number here, because Spark numbers none.
    """
    engine = open_spark(use_case)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    schema = _both(use_case)

    def parts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        bundle = _loaded(files)
        for batch in batches:
            done = score_rows(bundle, use_case, pinned, batch, as_text=source.as_text)
            yield from _together(done, schema).to_batches()

    draft = tables / f".scoring-{day.isoformat()}.part"
    with tempfile.TemporaryDirectory() as scratch:
        ship_code(engine.session, Path(scratch) / "code.zip")
        frame = _frame(engine.session, source, names)
        frame.mapInArrow(parts, _ddl(schema)).write.mode("overwrite").parquet(str(draft))
    engine.view(_DRAFT, [draft], dict.fromkeys(schema.names, ""))
    order = use_case.columns[use_case.key] if use_case.key else "prediction"
    for table, columns, which, by in (
        (SCORES, scores_schema(use_case).names, "NULL", order),
        (REJECTED_ROWS, REJECTED.names, "NOT NULL", "record"),
    ):
        chosen = f"SELECT {', '.join(columns)} FROM {_DRAFT} WHERE {REASONS} IS {which}"
        engine.write_day([chosen], tables, table, day, by)
    (counts,) = engine.query(
        f"SELECT COUNT(*) AS read, COUNT({REASONS}) AS rejected, COUNT_IF(is_outlier) AS outliers FROM {_DRAFT}"
    )
    layout.remove_folder(draft)
    return Counts(counts["read"], counts["read"] - counts["rejected"], counts["rejected"], counts["outliers"])


def _frame(session: Any, source: Source, names: list[str]) -> Any:
    reader = session.read.format(source.kind)
    if source.kind == "csv":
        reader = reader.options(header=True, multiLine=True, escape='"', nullValue=None, emptyValue="")
    return reader.load(source.location).select(*(f"`{name.replace('`', '``')}`" for name in names))


def _loaded(files: dict[str, bytes]) -> Bundle:
    """A bundle from its files, on an executor."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return Bundle.load(folder)


def _both(use_case: UseCase) -> pa.Schema:
    """The columns of both tables side by side; a row has those of one of them."""
    scores = scores_schema(use_case)
    return pa.schema([*scores, *(field for field in REJECTED if field.name not in scores.names)])


def _together(done: Scored, schema: pa.Schema) -> pa.Table:
    widened = [
        pa.table(
            [table[field.name] if field.name in table.schema.names else pa.nulls(len(table), field.type)
             for field in schema],
            schema=schema,
        )
        for table in (done.scores, done.rejected)
    ]  # fmt: skip
    return pa.concat_tables(widened)


_SQL_TYPES = {pa.int64(): "BIGINT", pa.float64(): "DOUBLE", pa.bool_(): "BOOLEAN", pa.string(): "STRING"}


def _ddl(schema: pa.Schema) -> str:
    return ", ".join(f"`{field.name}` {_SQL_TYPES[field.type]}" for field in schema)
