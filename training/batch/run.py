"""One run of the batch scoring: a table, a pinned model and a date in, the date's partitions out."""

from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from serving.scoring.bundle import NoReasonsError
from serving.scoring.contract import REASONS_FILE, Contract, read_contract
from serving.scoring.spelling import find_columns
from training.batch import source as sources
from training.batch import tables as embedded
from training.batch.record import Batch, batch_file
from training.batch.score import Pinned, missing_columns
from training.data.data_error import DataError, DataFault
from training.inference_log import layout
from training.inference_log.sql_engine import on_databricks
from training.use_case import UseCase


def score_table(use_case: UseCase, bundle: Path, pinned: Pinned, location: str, tables: Path, day: date) -> Batch:
    """Score a table and replace the date's partitions of ``scores`` and ``rejected_rows``.

    Killed at any point and repeated, it leaves the same rows. Raises ``DataError`` for a table that cannot be scored
    as a whole: one that cannot be read, or lacks columns; ``NoReasonsError`` where the model has no reasons to give.
    """
    source = sources.find(location)
    contract = read_contract(bundle)
    if pinned.explain and not (bundle / REASONS_FILE).exists():
        raise NoReasonsError(f"version {pinned.version} gives no reasons: score without explain, or train it again")
    columns = sources.columns_of(source)
    names = _names(use_case, contract, columns, location)
    counts = _engine()(use_case, bundle, pinned, source, names, tables, day)
    if counts.rows != counts.scored + counts.rejected:
        raise RuntimeError(f"{counts.rows} rows were read, {counts.scored} scored, {counts.rejected} rejected")
    batch = Batch(
        day=day.isoformat(),
        source=location,
        version=pinned.version,
        bundle_digest=pinned.bundle_digest,
        left_out=tuple(name for name in columns if name not in names.values()),
        **msgspec.structs.asdict(counts),
    )
    layout.write_json(batch_file(tables, day), msgspec.to_builtins(batch))
    return batch


def _names(use_case: UseCase, contract: Contract, columns: list[str], location: str) -> dict[str, str]:
    """The table's name of each field that it has; raises ``DataError`` where one is missing, or there twice."""
    sql = use_case.columns
    found = find_columns(columns, {field.name: (sql.get(field.name, field.name),) for field in contract.fields})
    faults = [
        DataFault(field.name, None, f"the columns {', '.join(found[field.name])} are all this one: keep one of them")
        for field in contract.fields
        if len(found[field.name]) > 1
    ]
    names = {name: spelled[0] for name, spelled in found.items() if spelled}
    faults += [DataFault(name, None, "the column is missing") for name in missing_columns(contract, list(names))]
    if faults:
        raise DataError(location, faults, sources.NOTHING)
    return names


def _engine() -> Any:
    """``score`` of the engine of this machine."""
    if not on_databricks():
        return embedded.score
    from training.batch import spark

    return spark.score
