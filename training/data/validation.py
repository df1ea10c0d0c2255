"""The data contract: what a table must be, and how a breach is told. Its rules for whole tables are in pandera."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from serving.scoring import spelling
from serving.scoring.contract import Field
from serving.scoring.spelling import Refusal
from training.data.data_error import DataFault
from training.data.table import EFFECTIVE_DATE, RawTable, Table, split_table
from training.use_case import UseCase

MINIMUM_ROWS = 200
MINIMUM_CLASS = 25
"""Rows of each outcome: fewer leave folds and hold-out without cases."""
ROWS_SHOWN = 5
_VALUES_SHOWN = 3
_EXCEL = "Excel seems to have shortened long ids to such numbers: format the column as text, and export it again"


def find_faults(use_case: UseCase, raw: RawTable) -> list[DataFault]:
    """All faults of a table as it was read, by column in contract order; an empty list for a good one."""
    table = split_table(use_case, raw)
    faults = _structure_faults(use_case, table)
    if table.frame.columns.empty or any(len(found) > 1 for found in table.spelled.values()):
        return faults
    wrong: set[str] = set()
    for name in (*use_case.columns, EFFECTIVE_DATE):
        refused = refusals(use_case, table, name)
        wrong |= {name} if refused else set()
        faults += told_values(name, refused, raw, table.given[name]) if refused else []
    try:
        _table_schema(use_case, raw, table, wrong).validate(table.frame, lazy=True)
    except SchemaErrors as errors:
        # One fault for each check: pandera lists a row once for each of its cells.
        faults += [DataFault("table", None, str(check)) for check in errors.failure_cases["check"].unique()]
    return faults + _repeated_keys(use_case, raw, table)


def _may_be_absent(use_case: UseCase, name: str) -> bool:
    """A column that no model sees, of a field that a request may leave out."""
    field = next((field for field in use_case.fields if field.name == name), None)
    return field is not None and not field.feature and not field.required and name != use_case.key


# --- columns ---


def _structure_faults(use_case: UseCase, table: Table) -> list[DataFault]:
    faults = []
    if table.nameless:
        numbers = ", ".join(map(str, table.nameless))
        have = "column {} has" if len(table.nameless) == 1 else "columns {} have"
        message = f"{have.format(numbers)} no name: write one in the header line, or remove what has none"
        faults.append(DataFault("table", None, message))
    missing = [name for name, found in table.spelled.items() if not found]
    if len(missing) == len(table.spelled):
        alone = len(table.unexpected) + len(table.nameless) == 1
        hint = "is it separated by commas, with a header line?" if alone else "wrong file?"
        return [*faults, DataFault("table", None, f"none of the {len(missing)} columns is there; {hint}")]
    for name, found in table.spelled.items():
        if len(found) > 1:
            spelled = "" if set(found) == {name} else f" ({', '.join(found)})"
            faults.append(DataFault(name, None, f"the column is there more than once{spelled}"))
    faults += [DataFault(name, None, "the column is missing") for name in missing if not _may_be_absent(use_case, name)]
    return faults + [DataFault(name, None, "the column is not expected") for name in table.unexpected]


# --- values ---


def refusals(use_case: UseCase, table: Table, name: str) -> Mapping[int, Refusal]:
    """What is wrong with each value of a column: it is not what its field holds, or the field may not have it."""
    refused = table.refused.get(name, {})
    if name not in table.frame:
        return refused
    values = table.frame[name].to_numpy()
    held: dict[int, Refusal] = {}
    field = next((field for field in use_case.fields if field.name == name), None)
    if field is not None:
        held = _held(field, values, curated=table.curated)
    if name in (use_case.key, use_case.label.field):
        held |= {row: Refusal("the value is missing") for row in np.flatnonzero(pd.isna(values)).tolist()}
    return {**held, **refused}


def _held(field: Field, values: "np.ndarray[tuple[int], np.dtype[np.object_]]", *, curated: bool) -> dict[int, Refusal]:
    """A training table may miss what a request may not, and holds listed categories alone."""
    known = np.flatnonzero(~pd.isna(values)).tolist()
    if field.kind == "category":
        if curated or not field.categories:  # a long text is cut nowhere, and no model reads it
            return {}
        listed = Refusal(f"not one of {', '.join(field.categories)}")
        return {row: listed for row in known if values[row] not in field.categories}
    held = spelling.hold_column(values, field)
    return {row: held[row] for row in held.keys() & set(known)}


def told_values(name: str, refused: Mapping[int, Refusal], raw: RawTable, given: "pd.Series[Any]") -> list[DataFault]:
    """One fault for each reason, with the rows and some of the values that it is about.

    ``given``: the column as the file has it.
    """
    groups: dict[str, list[int]] = {}
    for row in sorted(refused):
        groups.setdefault(refused[row].reason, []).append(row)
    faults = []
    for reason, rows in groups.items():
        message = f"{reason} ({raw.places(rows, ROWS_SHOWN)})"
        if reason != "the value is missing":
            message += f": {_values(given.iloc[row] for row in rows)}"
        if hint := refused[rows[0]].hint:
            message += f"; {hint}"
        faults.append(DataFault(name, len(rows), message))
    return faults


def _values(given: Iterable[object]) -> str:
    """Some values, as they are in the file, each once."""
    words = list(dict.fromkeys(map(spelling.shown, given)))
    return ", ".join(words[:_VALUES_SHOWN]) + (", ..." if len(words) > _VALUES_SHOWN else "")


# --- the table as a whole ---


def _table_schema(use_case: UseCase, raw: RawTable, table: Table, wrong: set[str]) -> pa.DataFrameSchema:
    """What is asked of whole columns; a column that has faults already is not asked for more."""
    label = use_case.binary
    checks = [
        _check(
            lambda frame: len(frame) >= MINIMUM_ROWS,
            f"fewer than {MINIMUM_ROWS} rows: too little to train and to test on",
        )
    ]
    if label.field in table.frame and label.field not in wrong:
        for value in label.values:
            checks.append(
                _check(
                    lambda frame, value=value: int((frame[label.field] == value).sum()) >= MINIMUM_CLASS,
                    f"{label.field} is {value} in fewer than {MINIMUM_CLASS} rows: both outcomes are needed",
                )
            )
    for field in use_case.features:
        if field.name in table.frame and field.name not in wrong:
            checks.append(
                _check(
                    lambda frame, name=field.name: bool(frame.empty or frame[name].notna().any()),
                    f"{field.name} has no value at all",
                )
            )
    return pa.DataFrameSchema(checks=checks)


def _check(passes: Callable[..., bool], error: str) -> pa.Check:
    return pa.Check(passes, error=error)


def _repeated_keys(use_case: UseCase, raw: RawTable, table: Table) -> list[DataFault]:
    """Rows of one key, unless their dates tell them apart. Keys are compared as values: 253, 253.0 and 0253 are one."""
    if use_case.key not in table.frame:
        return []
    keys = table.frame[use_case.key]
    known = pd.DataFrame({"key": keys} if table.dates is None else {"key": keys, "date": table.dates})
    repeated = known.duplicated(keep="first") & keys.notna()
    rows: list[int] = np.flatnonzero(repeated).tolist()
    if not rows:
        return []
    given = table.given[str(use_case.key)]
    groups = known.groupby(list(known.columns), dropna=False, sort=False).ngroup()
    earlier = np.flatnonzero(groups.isin(groups.iloc[rows]) & ~repeated).tolist()
    message = f"{use_case.key} occurs more than once ({raw.places(rows, ROWS_SHOWN)}): {_values(given.iloc[rows])}"
    message += f", which stood in {raw.places(earlier, ROWS_SHOWN)} before"
    if any(_shortened(given.iloc[row]) for row in rows):
        message += f"; {_EXCEL}"
    return [DataFault("table", len(rows), message)]


def _shortened(value: object) -> bool:
    """Whether a cell looks as Excel shows a long whole number: ``2.0E+10``."""
    return isinstance(value, str) and "E+" in value and spelling.is_number(value.strip())
