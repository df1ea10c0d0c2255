"""The batch scoring on Spark: each executor scores parts of the table by the same function."""

import tempfile
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa

from serving.scoring.bundle import Bundle
from training.batch.score import REJECTED, Pinned, Scored, score_rows, scores_schema
from training.batch.source import Source
from training.batch.tables import REJECTED_ROWS, SCORES, Counts
from training.inference_log import layout
from training.inference_log.sql_engine import open_spark
from training.search.executor import ship_code
from training.use_case import UseCase

_DRAFT = "draft"


def score(
    use_case: UseCase, folder: Path, pinned: Pinned, source: Source, names: Mapping[str, str], tables: Path, day: date
) -> Counts:
    """Score a table in one pass, and replace the date's partitions of the two tables from what that pass has made.

    The pass is kept as Parquet until both tables are written: read twice, a table might change in between. Rows have
    no number here, because Spark numbers none.
    """
    engine = open_spark(use_case)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    schema = _either(scores_schema(use_case, pinned))

    def parts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        bundle = _loaded(files)
        for batch in batches:
            done = score_rows(bundle, use_case, pinned, batch, as_text=source.as_text)
            yield from _rows(done, schema)

    draft = tables / f".scoring-{day.isoformat()}.part"
    with tempfile.TemporaryDirectory() as scratch:
        ship_code(engine.session, Path(scratch) / "code.zip")
        frame = _frame(engine.session, source, names)
        frame.mapInArrow(parts, _ddl(schema)).write.mode("overwrite").parquet(str(draft))
    engine.view(_DRAFT, [draft], dict.fromkeys(schema.names, ""))
    order = use_case.columns[use_case.key] if use_case.key else "prediction"
    for table, by in ((SCORES, order), (REJECTED_ROWS, "record")):
        engine.write_day([f"SELECT {table}.* FROM {_DRAFT} WHERE {table} IS NOT NULL"], tables, table, day, by)
    (counts,) = engine.query(
        f"SELECT COUNT(*) AS read, COUNT({SCORES}) AS scored, COUNT({REJECTED_ROWS}) AS rejected, "
        f"COUNT_IF({SCORES}.is_outlier) AS outliers FROM {_DRAFT}"
    )
    layout.remove_folder(draft)
    return Counts(counts["read"], counts["scored"], counts["rejected"], counts["outliers"])


def _frame(session: Any, source: Source, names: Mapping[str, str]) -> Any:
    reader = session.read.format(source.kind)
    if source.kind == "csv":
        reader = reader.options(header=True, multiLine=True, escape='"', nullValue=None, emptyValue="")
    return reader.load(source.location).selectExpr(
        *(f"{_quoted(theirs)} AS {_quoted(ours)}" for ours, theirs in names.items())
    )


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"


def _loaded(files: dict[str, bytes]) -> Bundle:
    """A bundle from its files, on an executor."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return Bundle.load(folder)


def _either(scores: pa.Schema) -> pa.Schema:
    """What a row becomes: a row of one of the two tables. The other column is null."""
    return pa.schema([(SCORES, pa.struct(scores)), (REJECTED_ROWS, pa.struct(REJECTED))])


def _rows(done: Scored, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for name, table in ((SCORES, done.scores), (REJECTED_ROWS, done.rejected)):
        found = {name: table.to_struct_array()}
        columns = [found.get(field.name, pa.chunked_array([pa.nulls(len(table), field.type)])) for field in schema]
        yield from pa.table(columns, schema=schema).to_batches()


SQL_TYPES = {
    pa.int64(): "BIGINT", pa.float64(): "DOUBLE", pa.bool_(): "BOOLEAN", pa.string(): "STRING", pa.date32(): "DATE",
}  # fmt: skip
"""What Spark calls the kinds of columns that the tables of scores and forecasts have."""


def _ddl(schema: pa.Schema) -> str:
    return ", ".join(
        f"{column.name} STRUCT<{', '.join(f'{field.name}: {SQL_TYPES[field.type]}' for field in column.type)}>"
        for column in schema
    )
