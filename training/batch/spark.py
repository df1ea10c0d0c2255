"""The batch scoring on Spark: each executor scores parts of the table by the same function."""

import tempfile
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from serving.scoring.bundle import Bundle
from training.batch.score import REJECTED, ROW, Pinned, Scored, broken_rows, score_rows, scores_schema
from training.batch.source import Source, read_parts
from training.batch.tables import REJECTED_ROWS, SCORES, Counts
from training.inference_log import layout
from training.inference_log.sql_engine import open_spark
from training.search.executor import ship_code
from training.use_case import UseCase

_DRAFT = "draft"
_ROWS = "rows"
_BROKEN = "broken"
_NUMBER = "number of the row"
"""A name that no field has; Spark's names do not tell ``Row`` from ``row``."""


def score(
    use_case: UseCase, folder: Path, pinned: Pinned, source: Source, names: Mapping[str, str], tables: Path, day: date
) -> Counts:
    """Score a table in one pass, and replace the date's partitions of the two tables from what that pass has made.

    The pass is kept as Parquet until both tables are written: read twice, a table might change in between. Rows of
    Parquet and Delta have no number here, because Spark numbers none.
    """
    engine = open_spark(use_case)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    schema = _either(scores_schema(use_case, pinned))

    def parts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        bundle = _loaded(files)
        for batch in batches:
            numbers = batch[_NUMBER].to_numpy() if source.as_text else None
            done = score_rows(bundle, use_case, pinned, batch.select(list(names)), numbers, as_text=source.as_text)
            yield from _rows(done, schema)

    work = layout.empty_folder(tables / f".scoring-{day.isoformat()}.part")
    broken = _read_csv(source, names, pinned, work) if source.as_text else 0
    with tempfile.TemporaryDirectory() as scratch:
        ship_code(engine.session, Path(scratch) / "code.zip")
        frame = _frame(engine.session, source, names, work)
        frame.mapInArrow(parts, _ddl(schema)).write.parquet(str(work / _DRAFT))
    engine.view(_DRAFT, [work / _DRAFT], dict.fromkeys(schema.names, ""))
    engine.view(_BROKEN, [work / _BROKEN] if source.as_text else [], _kinds(REJECTED))
    order = use_case.columns[use_case.key] if use_case.key else "prediction"
    scores, rejected = (
        f"SELECT {table}.* FROM {_DRAFT} WHERE {table} IS NOT NULL" for table in (SCORES, REJECTED_ROWS)
    )
    engine.write_day([scores], tables, SCORES, day, order)
    engine.write_day([f"{rejected} UNION ALL SELECT * FROM {_BROKEN}"], tables, REJECTED_ROWS, day, f"{ROW}, record")
    (counts,) = engine.query(
        f"SELECT COUNT(*) AS read, COUNT({SCORES}) AS scored, COUNT({REJECTED_ROWS}) AS rejected, "
        f"COUNT_IF({SCORES}.is_outlier) AS outliers FROM {_DRAFT}"
    )
    layout.remove_folder(work)
    return Counts(counts["read"] + broken, counts["scored"], counts["rejected"] + broken, counts["outliers"])


def _read_csv(source: Source, names: Mapping[str, str], pinned: Pinned, work: Path) -> int:
    """Lay a CSV file as Parquet, part by part, where the executors find it; returns how many lines are not rows.

    Spark would read a file whose cells may hold line breaks with one task too, but drops surplus cells in silence,
    stops at no byte that is not UTF-8, and numbers no rows.
    """
    broken = 0
    for table in (_ROWS, _BROKEN):
        (work / table).mkdir()
    for number, part in enumerate(read_parts(source, names)):
        rows = pa.table([pa.array(part.numbers), *part.rows.columns], names=[_NUMBER, *names])
        parquet.write_table(rows, work / _ROWS / f"part-{number:05}.parquet")
        parquet.write_table(broken_rows(pinned, part.broken), work / _BROKEN / f"part-{number:05}.parquet")
        broken += len(part.broken)
    return broken


def _frame(session: Any, source: Source, names: Mapping[str, str], work: Path) -> Any:
    if source.as_text:
        return session.read.parquet(str(work / _ROWS))
    return (
        session.read.format(source.kind)
        .load(source.location)
        .selectExpr(*(f"{_quoted(theirs)} AS {_quoted(ours)}" for ours, theirs in names.items()))
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


def _kinds(schema: pa.Schema) -> dict[str, str]:
    return {field.name: SQL_TYPES[field.type] for field in schema}


def _ddl(schema: pa.Schema) -> str:
    structs = (
        (column.name, ", ".join(f"{name}: {kind}" for name, kind in _kinds(column.type).items())) for column in schema
    )
    return ", ".join(f"{name} STRUCT<{fields}>" for name, fields in structs)
