"""The two tables of the batch scoring, and how the embedded engine writes them."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from serving.scoring.bundle import Bundle
from training.batch import source as sources
from training.batch.score import REJECTED, Pinned, Scored, broken_rows, score_rows, scores_schema
from training.batch.source import Part, Source
from training.inference_log import layout
from training.use_case import UseCase

SCORES = "scores"
REJECTED_ROWS = "rejected_rows"
_ROW_GROUP = 122_880
"""Rows of a row group: fixed, so that the bytes of a file follow from its rows alone."""


class Counts(msgspec.Struct, frozen=True):
    """How many rows a run has read, and what became of them."""

    rows: int
    scored: int
    rejected: int
    outliers: int


def score(
    use_case: UseCase, folder: Path, pinned: Pinned, source: Source, names: Mapping[str, str], tables: Path, day: date
) -> Counts:
    """Score a table in this process, a part at a time, and replace the date's partitions of the two tables.

    Memory does not grow with the table: a few parts are under way at once, as many as there are processors, and are
    written in the table's order. The same table and bundle give the same bytes.
    """
    bundle = Bundle.load(folder)

    def scored(part: Part) -> Scored:
        return score_rows(bundle, use_case, pinned, part.rows, part.numbers, as_text=source.as_text)

    read = outliers = 0
    scores = Draft(layout.day_folder(tables, SCORES, day), scores_schema(use_case, pinned))
    rejected = Draft(layout.day_folder(tables, REJECTED_ROWS, day), REJECTED)
    with scores, rejected:
        for part, done in _in_order(scored, sources.read_parts(source, names)):
            read += part.rows.num_rows + len(part.broken)
            outliers += pc.sum(done.scores["is_outlier"]).as_py() or 0
            scores.add(done.scores)
            rejected.add(done.rejected)
            rejected.add(broken_rows(pinned, part.broken))
    scores.publish()
    rejected.publish()
    return Counts(read, scores.rows, rejected.rows, outliers)


def _in_order(work: Callable[[Part], Scored], parts: Iterable[Part]) -> Iterator[tuple[Part, Scored]]:
    """What ``work`` makes of each part, in their order. Threads suffice: the models and Arrow let each other run."""
    threads = os.cpu_count() or 1
    waiting: deque[tuple[Part, Future[Scored]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for part in parts:
            waiting.append((part, pool.submit(work, part)))
            if len(waiting) > threads:
                first, done = waiting.popleft()
                yield first, done.result()
        for first, done in waiting:
            yield first, done.result()


class Draft:
    """A partition that is being written beside its place: the same rows give the same bytes."""

    def __init__(self, target: Path, schema: pa.Schema) -> None:
        self._target = target
        self._folder = layout.empty_folder(target.with_name(f".{target.name}.part"))
        self._schema = schema
        self._writer: Any = None
        self._rest = schema.empty_table()
        self.rows = 0

    def __enter__(self) -> "Draft":
        self._writer = parquet.ParquetWriter(self._folder / "part-00000.parquet", self._schema, compression="zstd")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._writer.write_table(self._rest, row_group_size=_ROW_GROUP)
        self._writer.close()

    def add(self, table: pa.Table) -> None:
        self.rows += table.num_rows
        together = pa.concat_tables([self._rest, table])
        whole = together.num_rows // _ROW_GROUP * _ROW_GROUP
        if whole:
            self._writer.write_table(together.slice(0, whole), row_group_size=_ROW_GROUP)
        self._rest = together.slice(whole)

    def publish(self) -> None:
        layout.replace_folder(self._folder, self._target)
