"""Score some rows of a table. Every engine calls this, so that all give the same rows and figures."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serving.scoring import spelling
from serving.scoring.bundle import Bundle
from serving.scoring.contract import Contract, Field
from serving.scoring.encode import encode_fields, feature_matrix, feature_positions
from training.batch.source import BrokenLine
from training.use_case import UseCase

REASONS = "reasons"
ROW = "row"
ANSWER = (
    ("prediction", pa.float64()),
    ("is_outlier", pa.bool_()),
    ("outlier_score", pa.float64()),
    ("model_version", pa.string()),
    ("bundle_digest", pa.string()),
)
"""What stands in a row of table ``scores`` after its number and its fields."""
EXPLAINED = (("base", pa.float64()), (REASONS, pa.string()), ("other", pa.float64()))
"""What follows where reasons are asked for: ``reasons`` is JSON text, as the registered model gives it."""
_RECORD_LIMIT = 10_000
"""Characters that table ``rejected`` keeps of a record."""


class Pinned(msgspec.Struct, frozen=True):
    """What a run scores with, from its start to its end."""

    version: str
    bundle_digest: str
    """``sha256:`` and 64 hexadecimal digits over the bundle's files."""
    explain: bool = False
    """Whether table ``scores`` says why each row has its probability."""


class Scored(msgspec.Struct, frozen=True):
    """What became of some rows: each stands in one of the two tables."""

    scores: pa.Table
    rejected: pa.Table


def scores_schema(use_case: UseCase, pinned: Pinned) -> pa.Schema:
    """Table ``scores``: the row's number in its file (from 1), the fields under their SQL names, the answer."""
    columns = use_case.columns
    fields = [(columns[field.name], _arrow_type(field)) for field in use_case.fields]
    return pa.schema([(ROW, pa.int64()), *fields, *ANSWER, *(EXPLAINED if pinned.explain else ())])


REJECTED = pa.schema(
    [(ROW, pa.int64()), ("key", pa.string()), (REASONS, pa.string()), ("record", pa.string()), *ANSWER[3:]]
)
"""Table ``rejected``: number and key of the row, what is wrong with it, and the row as it was sent."""


def missing_columns(contract: Contract, names: Sequence[str]) -> list[str]:
    """The columns that every record needs and the table has not; without them no row can be scored."""
    return [field.name for field in contract.fields if field.required and field.name not in names]


def score_rows(
    bundle: Bundle,
    use_case: UseCase,
    pinned: Pinned,
    rows: pa.RecordBatch,
    numbers: NDArray[np.int64] | None = None,
    *,
    as_text: bool,
) -> Scored:
    """Check the rows of a table against the contract, and score those that meet it.

    ``rows``: columns under their fields' names; a field that is not there is missing in every row. ``as_text``: they
    are cells of a CSV file. ``numbers``: of each row in its table, int64 ``[n]``; ``None`` where the engine has none.
    """
    contract = bundle.contract
    values: dict[str, pa.Array] = {}
    encoded = np.full((rows.num_rows, len(contract.fields)), np.nan)
    faults: dict[int, list[str]] = {}
    for position, field in enumerate(contract.fields):
        if field.name not in rows.schema.names:
            continue
        column = rows.column(field.name)
        values[field.name], encoded[:, position], refused = _read(column, field, as_text=as_text)
        for row, refusal in refused.items():
            given = spelling.shown(column[row].as_py())
            faults.setdefault(row, []).append(f"{field.name}: {refusal} (given: {given})")
    good = np.ones(rows.num_rows, bool)
    good[list(faults)] = False
    numbered = pa.nulls(rows.num_rows, pa.int64()) if numbers is None else pa.array(numbers)
    kept = {name: column.filter(good) for name, column in values.items()}
    return Scored(
        _scores(bundle, use_case, pinned, kept, encoded[good], numbered.filter(good)),
        _rejected(use_case, pinned, rows, dict(sorted(faults.items())), numbered),
    )


def _read(
    column: pa.Array, field: Field, *, as_text: bool
) -> tuple[pa.Array, NDArray[np.float64], dict[int, spelling.Refusal]]:
    """A column's values, their codes or numbers float64 ``[n]``, and the refusals by row."""
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        return _read_each(_values(column), field, as_text=as_text)
    # A text column says the same few things again and again: each is read once.
    encoded = column.dictionary_encode()
    values, codes, refused = _read_each(
        np.array([*encoded.dictionary.to_pylist(), None], object), field, as_text=as_text
    )
    places = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)
    wrong = np.isin(places, list(refused)) if refused else np.zeros(len(places), bool)
    return (
        values.take(pa.array(places)),
        codes[places],
        {row: refused[places[row]] for row in np.flatnonzero(wrong).tolist()},
    )


def _values(column: pa.Array) -> NDArray[Any]:
    """Numbers as NumPy's, and whatever else as Python's own: NumPy's dates and truth values would be other types."""
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        numbers: NDArray[Any] = column.to_numpy(zero_copy_only=False)
        return numbers
    return np.fromiter(column.to_pylist(), object, count=len(column))


def _read_each(
    column: NDArray[Any], field: Field, *, as_text: bool
) -> tuple[pa.Array, NDArray[np.float64], dict[int, spelling.Refusal]]:
    found, refused = spelling.read_column(column, field, as_text=as_text)
    encoded = encode_fields({field.name: found}, _Alone((field,)))[:, 0]
    kind = _arrow_type(field)
    every = {**spelling.hold_column(found, field), **refused}
    # A refused number may not fit into the column's type; its row is left out anyway.
    whole = found
    if every:
        whole = found.astype(object)
        whole[list(every)] = None
    return pa.array(whole, from_pandas=True).cast(kind), encoded, every


class _Alone(msgspec.Struct, frozen=True):
    """A schema of one field."""

    fields: tuple[Field, ...]


def _scores(
    bundle: Bundle,
    use_case: UseCase,
    pinned: Pinned,
    values: dict[str, pa.Array],
    encoded: NDArray[np.float64],
    numbers: pa.Array,
) -> pa.Table:
    schema, count = scores_schema(use_case, pinned), len(encoded)
    columns = use_case.columns
    x = feature_matrix(encoded, feature_positions(bundle.contract))
    outlier = bundle.outlier_scores(x) if count else np.empty(0)
    made: dict[str, Any] = {
        ROW: numbers,
        **{columns[name]: column for name, column in values.items() if name in columns},
        "prediction": bundle.probabilities(x) if count else np.empty(0),
        "is_outlier": outlier > 0,
        "outlier_score": outlier,
        "model_version": pa.repeat(pinned.version, count),
        "bundle_digest": pa.repeat(pinned.bundle_digest, count),
    }
    if pinned.explain:
        made |= _explained(bundle, values, encoded)
    return pa.table([made.get(field.name, pa.nulls(count, field.type)) for field in schema], schema=schema)


def _explained(bundle: Bundle, values: dict[str, pa.Array], encoded: NDArray[np.float64]) -> dict[str, Any]:
    rows = list(bundle.explain(encoded, lambda record, name: values[name][record].as_py()))
    return {
        "base": [row.base for row in rows],
        REASONS: [msgspec.json.encode(row.reasons).decode() for row in rows],
        "other": [row.other for row in rows],
    }


def _rejected(
    use_case: UseCase, pinned: Pinned, rows: pa.RecordBatch, faults: dict[int, list[str]], numbers: pa.Array
) -> pa.Table:
    refused = rows.take(pa.array(list(faults), pa.int64()))
    records = refused.to_pylist()
    texts = [json.dumps(record, default=str, ensure_ascii=False)[:_RECORD_LIMIT] for record in records]
    keys = [record.get(use_case.key) if use_case.key else None for record in records]
    return pa.table(
        [
            numbers.take(pa.array(list(faults), pa.int64())),
            pa.array([None if spelling.is_missing(key) else str(key) for key in keys], pa.string()),
            pa.array(["; ".join(reasons) for reasons in faults.values()], pa.string()),
            pa.array(texts, pa.string()),
            pa.repeat(pinned.version, len(records)),
            pa.repeat(pinned.bundle_digest, len(records)),
        ],
        schema=REJECTED,
    )


def _arrow_type(field: Field) -> pa.DataType:
    return {"integer": pa.int64(), "number": pa.float64(), "category": pa.string()}[field.kind]


def broken_rows(pinned: Pinned, lines: Sequence[BrokenLine]) -> pa.Table:
    """Lines that are not rows, as table ``rejected`` keeps them."""
    texts = [(line.number, None, line.reason, line.text[:_RECORD_LIMIT]) for line in lines]
    rows = [dict(zip(REJECTED.names, (*text, pinned.version, pinned.bundle_digest), strict=True)) for text in texts]
    return pa.Table.from_pylist(rows, REJECTED)
