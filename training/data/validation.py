"""The data contract, in pandera: what a data file must be, and how a breach is told."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from serving.scoring.contract import Field
from training.data.data_error import DataFault
from use_cases.attrition.fields import COLUMNS, FEATURES, FIELDS, IDENTIFIER, LABEL, LABELS, TECHNICAL_COLUMNS

MINIMUM_ROWS = 200
MINIMUM_CLASS = 25
"""Rows of each outcome: fewer leave folds and hold-out without cases."""
_ROWS_SHOWN = 5


def find_faults(raw: pd.DataFrame) -> list[DataFault]:
    """All faults of a table, by column in the table's order; an empty list for a good one."""
    structure = _structure_faults(raw)
    usable = [name for name in COLUMNS if name in raw.columns]
    if not usable or raw.columns.has_duplicates:
        return structure
    try:
        _schema(usable, curated="source" in raw).validate(raw.reset_index(drop=True), lazy=True)
    except SchemaErrors as errors:
        return structure + _told(errors.failure_cases)
    return structure


def _structure_faults(raw: pd.DataFrame) -> list[DataFault]:
    faults = []
    twice = raw.columns[raw.columns.duplicated()].unique()
    faults += [DataFault(str(name), None, "the column is there more than once") for name in twice]
    missing = [name for name in COLUMNS if name not in raw.columns]
    if len(missing) == len(COLUMNS):
        hint = "is it separated by commas, with a header line?" if len(raw.columns) == 1 else "wrong file?"
        return [DataFault("table", None, f"none of the {len(COLUMNS)} columns is there; {hint}")]
    faults += [DataFault(name, None, "the column is missing") for name in missing]
    known = {*COLUMNS, *TECHNICAL_COLUMNS}
    # pandas names the second column X "X.1" when it reads CSV.
    for name in raw.columns.unique():
        if name in known:
            continue
        original = str(name).rpartition(".")[0]
        message = "the column is there more than once" if original in known else "the column is not expected"
        faults.append(DataFault(original if original in known else str(name), None, message))
    return faults


def _schema(usable: list[str], *, curated: bool) -> pa.DataFrameSchema:
    columns = {
        field.name: pa.Column(nullable=field.name != IDENTIFIER, checks=_checks(field, curated=curated), coerce=False)
        for field in FIELDS
        if field.name in usable
    }
    if LABEL in usable:
        columns[LABEL] = pa.Column(
            nullable=False,
            checks=_check(lambda values: values.isin(list(LABELS)), f"not one of {', '.join(LABELS)}"),
        )
    return pa.DataFrameSchema(columns, checks=_table_checks(usable))


def _check(passes: Callable[[pd.Series], pd.Series], error: str) -> pa.Check:
    return pa.Check(passes, error=error, ignore_na=True)


def _number(values: pd.Series) -> pd.Series:
    return pd.to_numeric(values, errors="coerce")


def _checks(field: Field, *, curated: bool) -> list[pa.Check]:
    if field.kind == "category":
        if curated:
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
        _check(whole, "not a whole number"),
        _check(inside, f"outside {low:g} to {high:g}"),
    ]


def _table_checks(usable: list[str]) -> list[pa.Check]:
    checks = [
        pa.Check(
            lambda frame: len(frame) >= MINIMUM_ROWS,
            error=f"fewer than {MINIMUM_ROWS} rows: too little to train and to test on",
        )
    ]
    for label in LABELS if LABEL in usable else ():
        checks.append(
            pa.Check(
                lambda frame, label=label: int((frame[LABEL] == label).sum()) >= MINIMUM_CLASS,
                error=f"{LABEL} is {label} in fewer than {MINIMUM_CLASS} rows: both outcomes are needed",
            )
        )
    if IDENTIFIER in usable:
        checks.append(pa.Check(_told_apart, error=f"{IDENTIFIER} occurs more than once", ignore_na=False))
    for field in FEATURES:
        if field.name in usable:
            checks.append(
                pa.Check(
                    lambda frame, name=field.name: bool(frame.empty or frame[name].notna().any()),
                    error=f"{field.name} has no value at all",
                )
            )
    return checks


def _told_apart(frame: pd.DataFrame) -> pd.Series:
    keys = [IDENTIFIER, *(["effective_date"] if "effective_date" in frame else [])]
    return ~frame.duplicated(keys, keep="first") | frame[IDENTIFIER].isna()


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
