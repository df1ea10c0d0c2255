"""A table as it was read, in the use case's own words: its field names, its spelling of the label, texts as text."""

import datetime
import numbers
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from training.use_case import TECHNICAL_COLUMNS, Binary, UseCase

_SOURCE = "source"
_WORDS = frozenset(("true", "false"))


class Table(msgspec.Struct, frozen=True):
    """One table that nothing has been checked of yet."""

    frame: pd.DataFrame
    """Every column that is not technical; fields and label under the names of the use case."""
    technical: pd.DataFrame
    """The technical columns of a curated table (``training.use_case.TECHNICAL_COLUMNS``); often none."""

    @property
    def curated(self) -> bool:
        """Whether it holds scored records, whose unknown categories the service has accepted."""
        return _SOURCE in self.technical


def split_table(use_case: UseCase, raw: pd.DataFrame) -> Table:
    """Take the technical columns apart, and spell names, label and texts as the use case does.

    A curated table names its columns as SQL takes them (``UseCase.columns``). Where a field has the name of a technical
    column, as ``source`` may, the plain name means the field, unless the table holds the field's SQL name as well.
    """
    columns = use_case.columns
    curated = _SOURCE in raw and columns.get(_SOURCE, "") in ("", *raw.columns)
    fields = () if curated else tuple(columns)
    technical = [name for name in raw.columns if name in TECHNICAL_COLUMNS and name not in fields]
    frame = raw.drop(columns=technical)
    if curated:
        frame = frame.rename(columns={column: name for name, column in columns.items()})
    texts = {field.name for field in use_case.fields if field.kind == "category"}
    spelled = {
        name: _spelled(frame[name], use_case.label if name == use_case.label.field else None)
        for name in frame.columns
        if name in texts or name == use_case.label.field
    }
    return Table(frame if frame.columns.has_duplicates else frame.assign(**spelled), raw[technical])


def as_text(value: Any) -> Any:
    """A value of a text column as a CSV file spells it: ``1`` and ``1.0`` are ``"1"``, a bool is ``"true"`` or
    ``"false"``, a date or a time is as ISO 8601 has it. Text, missing values and anything else stay as they are.
    """
    if isinstance(value, str) or not pd.api.types.is_scalar(value) or pd.isna(value):
        return value
    if pd.api.types.is_bool(value):
        return str(value).lower()
    if isinstance(value, datetime.date):
        return value.isoformat()
    if not isinstance(value, numbers.Real):
        return value
    return np.format_float_positional(value, trim="-") if isinstance(value, float | np.floating) else str(value)


def label_text(value: Any, label: Binary) -> Any:
    """A label's value in the spelling of the use case: ``True`` and ``"TRUE"`` are its ``"true"``, ``1`` is ``"1"``.

    A value that is neither of the two comes back as text, or missing as it was.
    """
    text = as_text(value)
    if isinstance(text, str) and text.lower() in _WORDS:
        return next((known for known in label.values if known.lower() == text.lower()), text)
    return text


def _spelled(values: pd.Series, label: Binary | None) -> pd.Series:
    if label is not None:
        return values.map(lambda value: label_text(value, label)).astype(object)
    if pd.api.types.is_string_dtype(values.dtype) and values.dtype != object:
        return values
    return pd.Series([as_text(value) for value in values.astype(object)], values.index, object)
