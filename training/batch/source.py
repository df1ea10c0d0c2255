"""The table to score, read a part at a time: CSV, Parquet (a file or a folder of them) or Delta."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
from pyarrow import csv, dataset

from training.data.data_error import DataError, DataFault

NOTHING = "nothing is scored"
PART_ROWS = 65_536
"""Rows that are in memory at a time, about; a CSV part is measured in bytes instead."""
_CSV_BYTES = 8 << 20


class Source(msgspec.Struct, frozen=True):
    """Where a table lies, and what it is."""

    location: str
    kind: Literal["csv", "parquet", "delta"]

    @property
    def as_text(self) -> bool:
        """Whether its values are cells of a text."""
        return self.kind == "csv"


def find(location: str) -> Source:
    """What lies at a path that the job can read; raises ``DataError`` where that is nothing to score."""
    path = Path(location)
    if not path.exists():
        raise _fault(location, "it does not exist where the job runs: check the path and its spelling")
    if (path / "_delta_log").is_dir():
        return Source(location, "delta")
    name = location.rstrip("/").lower()
    if name.endswith((".csv", ".csv.gz")) and path.is_file():
        return Source(location, "csv")
    if name.endswith(".parquet") or path.is_dir():
        return Source(location, "parquet")
    raise _fault(location, "its name ends in none of .csv, .csv.gz, .parquet, and it is not a folder of Parquet files")


def columns_of(source: Source) -> list[str]:
    """The table's columns, in order; raises ``DataError`` where one is there twice."""
    with _told(source):
        names = list(_open(source).schema.names)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise _fault(source.location, f"the columns {', '.join(twice)} are there more than once")
    return names


def read_parts(source: Source, names: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The columns ``names``, a part after the other, each with the number of its first row (from 1), in the table's
    order. Raises ``DataError`` for a table that ends early.
    """
    row = 1
    with _told(source):
        for batch in _open(source).batches(names):
            if batch.num_rows:
                yield row, batch
            row += batch.num_rows


class _Opened(msgspec.Struct, frozen=True):
    schema: pa.Schema
    batches: Any


class _told:
    """Tell what Arrow cannot read as a fault of the file."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, pa.ArrowException | OSError | UnicodeDecodeError):
            message = f"it cannot be read to its end as {self._source.kind} ({str(error).splitlines()[0]})"
            raise _fault(self._source.location, message) from error


def _open(source: Source) -> _Opened:
    if source.kind == "csv":
        return _open_csv(source.location)
    if source.kind == "delta":
        from deltalake import DeltaTable

        table = DeltaTable(source.location).to_pyarrow_dataset()
    else:
        table = dataset.dataset(source.location, format="parquet")

    def batches(names: list[str]) -> Iterator[pa.RecordBatch]:
        scanner = table.scanner(columns=names, batch_size=PART_ROWS, batch_readahead=2, fragment_readahead=1)
        return iter(scanner.to_batches())

    return _Opened(table.schema, batches)


def _open_csv(location: str) -> _Opened:
    """Every cell as text: what it means is for the table of spellings to say."""
    read, parse = csv.ReadOptions(block_size=_CSV_BYTES), csv.ParseOptions(newlines_in_values=True)
    with csv.open_csv(location, read_options=read, parse_options=parse) as opened:
        names = opened.schema.names
    kinds = dict.fromkeys(names, pa.string())
    convert = csv.ConvertOptions(column_types=kinds, strings_can_be_null=False, quoted_strings_can_be_null=False)

    def batches(wanted: list[str]) -> Iterator[pa.RecordBatch]:
        with csv.open_csv(location, read_options=read, parse_options=parse, convert_options=convert) as reader:
            for batch in reader:
                yield batch.select(wanted)

    return _Opened(pa.schema(list(kinds.items())), batches)


def _fault(location: str, message: str) -> DataError:
    return DataError(location, [DataFault("file", None, message)], NOTHING)
