"""The data contract, in pandera: what a table must be, and how a breach is told."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from serving.scoring.contract import Field
from training.data.data_error import DataFault
from training.data.table import Table, split_table
from training.use_case import UseCase

MINIMUM_ROWS = 200
MINIMUM_CLASS = 25
"""Rows of each outcome: fewer leave folds and hold-out without cases."""
_ROWS_SHOWN = 5


def find_faults(use_case: UseCase, raw: pd.DataFrame) -> list[DataFault]:
    """All faults of a table as it was read, by column in contract order; an empty list for a good one."""
    table = split_table(use_case, raw)
    structure = _structure_faults(use_case, table.frame)
    usable = [name for name in use_case.columns if name in table.frame.columns]
    if not usable or table.frame.columns.has_duplicates:
        return structure
    dates = table.technical.get("effective_date")
    try:
        _schema(use_case, usable, table, dates).validate(table.frame.reset_index(drop=True), lazy=True)
    except SchemaErrors as errors:
        return structure + _told(errors.failure_cases)
    return structure


def _may_be_absent(use_case: UseCase, name: str) -> bool:
    """A column that no model sees, of a field that a request may leave out."""
    field = next((field for field in use_case.fields if field.name == name), None)
    return field is not None and not field.feature and not field.required and name != use_case.key


def _structure_faults(use_case: UseCase, frame: pd.DataFrame) -> list[DataFault]:
    faults = []
    names = list(use_case.columns)
    twice = frame.columns[frame.columns.duplicated()].unique()
    faults += [DataFault(str(name), None, "the column is there more than once") for name in twice]
    missing = [name for name in names if name not in frame.columns]
    if len(missing) == len(names):
        hint = "is it separated by commas, with a header line?" if len(frame.columns) == 1 else "wrong file?"
        return [DataFault("table", None, f"none of the {len(names)} columns is there; {hint}")]
    faults += [DataFault(name, None, "the column is missing") for name in missing if not _may_be_absent(use_case, name)]
    # pandas names the second column X "X.1" when it reads CSV.
    for name in frame.columns.unique():
        if name in names:
            continue
        original = str(name).rpartition(".")[0]
        message = "the column is there more than once" if original in names else "the column is not expected"
        faults.append(DataFault(original if original in names else str(name), None, message))
    return faults


def _schema(use_case: UseCase, usable: list[str], table: Table, dates: pd.Series | None) -> pa.DataFrameSchema:
    columns = {
        field.name: pa.Column(
            nullable=field.name != use_case.key, checks=_checks(field, curated=table.curated), coerce=False
        )
        for field in use_case.fields
        if field.name in usable
    }
    label = use_case.label
    if label.field in usable:
        values = list(label.values)
        columns[label.field] = pa.Column(
            nullable=False, checks=_check(lambda given: given.isin(values), f"not one of {', '.join(values)}")
        )
    return pa.DataFrameSchema(columns, checks=_table_checks(use_case, usable, dates))


def _check(passes: Callable[[pd.Series], pd.Series], error: str) -> pa.Check:
    return pa.Check(passes, error=error, ignore_na=True)


def _number(values: pd.Series) -> pd.Series:
    return pd.to_numeric(values, errors="coerce")


def _checks(field: Field, *, curated: bool) -> list[pa.Check]:
    if field.kind == "category":
        if curated or not field.categories:
            return [_check(lambda values: values.map(lambda value: isinstance(value, str)), "not text")]
        allowed = list(field.categories)
        return [_check(lambda values: values.isin(allowed), f"not one of {', '.join(allowed)}")]
    low, high = field.minimum or 0.0, field.maximum or 0.0

    def whole(values: pd.Series) -> pd.Series:
        number = _number(values)
        return number.isna() | (number % 1 == 0) | number.abs().eq(float("inf"))

    def inside(values: pd.Series) -> pd.Series:
        number = _number(values)
        return number.isna() | number.between(low, high)

    return [
        _check(lambda values: _number(values).notna(), "not a number"),
        *([_check(whole, "not a whole number")] if field.kind == "integer" else []),
        _check(inside, f"outside {low:g} to {high:g}"),
    ]


def _table_checks(use_case: UseCase, usable: list[str], dates: pd.Series | None) -> list[pa.Check]:
    checks = [
        pa.Check(
            lambda frame: len(frame) >= MINIMUM_ROWS,
            error=f"fewer than {MINIMUM_ROWS} rows: too little to train and to test on",
        )
    ]
    label, key = use_case.label, use_case.key
    for value in label.values if label.field in usable else ():
        checks.append(
            pa.Check(
                lambda frame, value=value: int((frame[label.field] == value).sum()) >= MINIMUM_CLASS,
                error=f"{label.field} is {value} in fewer than {MINIMUM_CLASS} rows: both outcomes are needed",
            )
        )
    if key in usable:
        checks.append(
            pa.Check(
                lambda frame: _told_apart(frame[key], dates), error=f"{key} occurs more than once", ignore_na=False
            )
        )
    for field in use_case.features:
        if field.name in usable:
            checks.append(
                pa.Check(
                    lambda frame, name=field.name: bool(frame.empty or frame[name].notna().any()),
                    error=f"{field.name} has no value at all",
                )
            )
    return checks


def _told_apart(keys: pd.Series, dates: pd.Series | None) -> pd.Series:
    rows = pd.DataFrame({"key": keys} if dates is None else {"key": keys, "date": dates.to_numpy()})
    return ~rows.duplicated(keep="first") | keys.isna()


def _told(cases: Any) -> list[DataFault]:
    """pandera's failure cases, one for each cell, as one fault for each column and check."""
    faults: list[DataFault] = []
    for (context, column, check), group in cases.groupby(
        ["schema_context", "column", "check"], sort=False, dropna=False
    ):
        rows = sorted({int(row) for row in group["index"].dropna()})
        message = "the value is missing" if check == "not_nullable" else str(check)
        if rows:
            # Counted as an editor counts lines: the header is line 1.
            shown = ", ".join(str(row + 2) for row in rows[:_ROWS_SHOWN])
            message += f" (line{'' if len(rows) == 1 else 's'} {shown}{', ...' if len(rows) > _ROWS_SHOWN else ''})"
        name = "table" if context == "DataFrameSchema" else str(column)
        faults.append(DataFault(name, len(rows) or None, message))
    return faults
