"""Records and tables to matrices: the one place where a field's value becomes a number.

Training, the registered MLflow model and the server all encode here, so batch and online answers are
equal by construction. In every matrix a missing value is NaN and an unknown category is -1.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.scoring.contract import Field
from serving.scoring.spelling import Refusal, hold_column, read_column, shown

Columns = Mapping[str, Sequence[Any] | NDArray[Any]]
"""A table: equally long columns by field name, such as pandas' ``frame.to_dict("list")``."""


class Schema(Protocol):
    """What encoding needs: the fields of a record. A contract has them, and so has a use case before it is trained."""

    @property
    def fields(self) -> tuple[Field, ...]: ...


UNKNOWN = -1.0
"""The code of a category that the contract does not list."""


class EncodeError(ValueError):
    """Raised when a value is of a type that its field cannot hold."""


def category_codes(field: Field) -> dict[str, float]:
    """The code of each of a field's categories: its position in the contract."""
    return {category: float(code) for code, category in enumerate(field.categories)}


def encode_columns(columns: Columns, schema: Schema) -> NDArray[np.float32]:
    """A table as dict of equally long columns -> the models' input, float32 ``[n, features]``.

    Missing is ``None`` or NaN. A column that is not there counts as missing in every row. Values are not
    held to what the contract lets a field have. Raises ``EncodeError``, naming field and row, for one that
    ``serving.scoring.spelling`` does not take.
    """
    return feature_matrix(encode_fields(columns, schema), feature_positions(schema))


def encode_records(records: Sequence[Mapping[str, Any]], schema: Schema) -> NDArray[np.float32]:
    """Records -> the models' input, float32 ``[n, features]``; like ``encode_columns``, row by row."""
    return encode_columns(as_columns(records, schema), schema)


def encode_fields(columns: Columns, schema: Schema) -> NDArray[np.float64]:
    """A table -> every field as a number, float64 ``[n, fields]`` in the schema's order."""
    rows = max((len(column) for column in columns.values()), default=0)
    matrix = np.full((rows, len(schema.fields)), np.nan)
    for position, field in enumerate(schema.fields):
        column = columns.get(field.name)
        if column is None:
            continue
        if len(column) != rows:
            raise EncodeError(f"{field.name}: the column has {len(column)} values where others have {rows}")
        matrix[:, position] = _encode_column(column, field)
    return matrix


def encode_checked(columns: Columns, schema: Schema) -> NDArray[np.float64]:
    """As ``encode_fields``, of values that are held to the contract as the server holds a request's.

    Raises ``EncodeError`` with every field in which something is wrong, in how many rows, and the first of them.
    """
    rows = max((len(column) for column in columns.values()), default=0)
    matrix = np.full((rows, len(schema.fields)), np.nan)
    faults = []
    for position, field in enumerate(schema.fields):
        if (column := columns.get(field.name)) is None:
            faults += [f"{field.name}: the column is missing"] if field.required else []
            continue
        values, refused = read_column(column, field)
        faults_held = {row: fault for row, fault in hold_column(values, field).items() if row not in refused}
        if wrong := refused | faults_held:
            faults.append(_told(field, column, wrong))
        else:
            matrix[:, position] = encode_values(values, field)
    if faults:
        raise EncodeError("the table does not meet the feature contract:\n" + "\n".join(f"  - {one}" for one in faults))
    return matrix


def feature_matrix(fields: NDArray[np.float64], features: NDArray[np.intp]) -> NDArray[np.float32]:
    """The columns of ``encode_fields`` that the models see, as float32 ``[n, features]``."""
    return fields.take(features, axis=1).astype(np.float32)


def feature_positions(schema: Schema) -> NDArray[np.intp]:
    """Where the features stand among the fields."""
    return np.array([position for position, field in enumerate(schema.fields) if field.feature], dtype=np.intp)


def as_columns(records: Sequence[Mapping[str, Any]], schema: Schema) -> dict[str, list[Any]]:
    return {field.name: [record.get(field.name) for record in records] for field in schema.fields}


def encode_values(values: NDArray[Any], field: Field) -> NDArray[np.float64]:
    """A column that ``spelling.read_column`` has read -> its numbers or codes, float64 ``[n]``."""
    if field.kind != "category":
        return values
    codes: dict[str | None, float] = {None: float("nan"), **category_codes(field)}
    return np.fromiter((codes.get(value, UNKNOWN) for value in values), np.float64, count=len(values))


def _encode_column(column: Sequence[Any] | NDArray[Any], field: Field) -> NDArray[np.float64]:
    values, refused = read_column(column, field)
    for row, refusal in refused.items():
        raise EncodeError(f"{field.name}: row {row} holds {shown(column[row])}: {refusal}")
    return encode_values(values, field)


def _told(field: Field, column: Sequence[Any] | NDArray[Any], wrong: dict[int, Refusal]) -> str:
    first = min(wrong)
    count = f"{len(wrong)} row{'' if len(wrong) == 1 else 's'}"
    return f"{field.name}: {count}, the first is row {first} with {shown(column[first])}: {wrong[first]}"
