"""From a table to the fields, label, key and groups of a use case, and what a person should look at."""

import datetime
from collections import Counter
from collections.abc import Sequence
from numbers import Number
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serving.scoring import spelling
from serving.scoring.contract import Field
from serving.scoring.spelling import LARGEST_WHOLE, TEXT_LIMIT
from training.data.table import RawTable, is_nameless, plain_columns
from training.data.validation import MINIMUM_CLASS, MINIMUM_ROWS
from training.scaffold.column import (
    LARGEST_NUMBER,
    SAMPLE,
    Column,
    field_of,
    identifier,
    known_values,
    look_at,
    numbers_in_words,
)
from training.scaffold.suspicion import group_of, leak, protected
from training.use_case import NOT_IN_NAMES, TECHNICAL_COLUMNS, Binary, Group, column_name

_POSITIVE_WORDS = frozenset(
    ("yes", "y", "true", "t", "1", "positive", "pos", "ja", "oui", "si", "sí", "churned", "churn", "left", "lost",
     "fraud", "default", "bad", "failed", "fail")
)  # fmt: skip
_TAKEN = (str, bool, np.bool_, Number, datetime.date)
"""Types of values that become fields; a time stamp is a date."""
_LISTED = 10
_FEWEST_SAMPLED = 1000
"""Rows of each outcome in a sample, where the table has them."""

_CARRIED = {
    "constant": "one value in every row: there is nothing to learn",
    "empty": "no value in any row",
    "sparse": "too few rows have a value to learn from",
    "identifier": "tells rows apart: a model would learn them by heart",
    "date": "a date: a model would learn the calendar; make an age or a duration of it",
    "free text": "free text: the models do not read it",
    "many categories": "too many different values: group them, for example by region or kind",
}
_ENDLESS = f"{{}} holds infinite numbers or numbers beyond {LARGEST_NUMBER:g}: replace them, for example by nothing"
_LOOKED_AT = ("date", "free text", "many categories", "sparse")


class ScaffoldError(ValueError):
    """Raised when no use case can be made of a table; ``faults`` lists all that stands in the way."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(f"  - {fault}" for fault in faults))


class Choice(msgspec.Struct, frozen=True):
    """What becomes of a column."""

    field: Field
    group: Group | None = None
    comments: tuple[str, ...] = ()
    """Written above the field."""
    remark: str | None = None
    """What a person should look at; ``None`` where nothing is in question."""


class Profile(msgspec.Struct, frozen=True):
    """A table, understood."""

    rows: int
    positives: int
    label: Binary
    guessed: bool
    """Whether nobody said which value is the positive one."""
    key: str | None
    choices: tuple[Choice, ...]

    @property
    def fields(self) -> tuple[Field, ...]:
        return tuple(choice.field for choice in self.choices)

    @property
    def groups(self) -> tuple[Group, ...]:
        return tuple(choice.group for choice in self.choices if choice.group)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What to look at, once for all columns that it is about."""
        about: dict[str, list[str]] = {}
        for choice in self.choices:
            if choice.remark:
                about.setdefault(choice.remark, []).append(choice.field.name)
        return tuple(f"{', '.join(names)}: {remark}" for remark, names in about.items())


def profile(table: RawTable, label: str, key: str | None, positive: str | None) -> Profile:
    """Judge every column of a table as ``training.data.read_file.read_raw`` gives it.

    Raises ``ScaffoldError`` with everything that stands in the way.
    """
    raw = plain_columns(table).rename(columns=str)
    if faults := [*_name_faults(raw, label, key), *_size_faults(raw), *([] if table.text else _type_faults(raw))]:
        raise ScaffoldError(faults)
    outcomes = _texts(raw[label])
    faults = [*_label_faults(label, outcomes, table), *([] if key is None else _key_faults(key, raw[key], table))]
    if faults:
        raise ScaffoldError(faults)
    chosen = _binary(label, outcomes, positive)
    y = np.asarray(outcomes == chosen.positive, np.int64)
    if (fewest := min(int(y.sum()), len(y) - int(y.sum()))) < MINIMUM_CLASS:
        raise ScaffoldError(
            [f"the rarer value of {label} has {fewest} rows, and {MINIMUM_CLASS} are needed to train on"]
        )
    columns = [look_at(name, **_spelled(raw[name], table.text)) for name in raw.columns if name != label]
    if faults := [_ENDLESS.format(column.name) for column in columns if column.what == "endless"]:
        raise ScaffoldError(faults)
    sample = _sampled(y)
    choices = tuple(
        _key_choice(column) if column.name == key else _choice(column, y[sample], sample) for column in columns
    )
    if not any(choice.field.feature for choice in choices):
        raise ScaffoldError(["no column is left that a model could learn from", *_why_none(choices)])
    return Profile(len(raw), int(y.sum()), chosen, positive is None, key, choices)


def _choice(column: Column, y: NDArray[np.int64], sample: NDArray[np.intp]) -> Choice:
    field, seen = field_of(column), known_values(column)
    comments = (seen,) if seen else ()
    attribute = protected(column)
    auc = leak(column, y, sample)
    leaking = auc is not None and (
        f"alone it tells the label almost perfectly (ROC AUC {auc:.3f}): is it written down after the outcome is known?"
    )
    written = numbers_in_words(column)
    if not column.learnable:
        return _carried(column, field, comments, attribute, leaking or None, written)
    if leaking:
        carried = msgspec.structs.replace(field, role="carried", required=False, nullable=True, drift=False)
        comments = (*comments, "Possible leakage: " + leaking, "If it is known in time, give it role='feature'.")
        return Choice(carried, None, comments, f"possible leakage, carried and not used: {leaking}")
    if attribute:
        compared = msgspec.structs.replace(field, role="compared", required=False, nullable=True, sensitive=True)
        reason = f"suggests a protected attribute ({attribute}): compared by the fairness report, not used by the model"
        return Choice(compared, group_of(column, compared), (*comments, f"It {reason}."), reason)
    return Choice(field, None, comments, _told(_rare(column), written))


def _carried(
    column: Column,
    field: Field,
    comments: tuple[str, ...],
    attribute: str | None,
    leaking: str | None,
    written: str | None,
) -> Choice:
    reason = _CARRIED[column.what]
    remark = f"carried, not used: {reason}" if column.what in _LOOKED_AT else None
    if attribute:
        field = msgspec.structs.replace(field, sensitive=True)
        remark = f"carried, not used: {reason}; it suggests a protected attribute ({attribute})"
    if leaking:
        remark = f"carried, not used: {reason}; possible leakage: where a value is there, {leaking}"
    if written and not remark:
        remark = f"carried, not used: {reason}"
    return Choice(field, None, (*comments, f"Carried: {reason}."), _told(remark, written))


def _told(*parts: str | None) -> str | None:
    return "; ".join(part for part in parts if part) or None


def _key_choice(column: Column) -> Choice:
    return Choice(
        identifier(column), None, ("The key. A request may leave it out; then no outcome can be joined to it.",)
    )


def _rare(column: Column) -> str | None:
    rare = column.rare()
    same = _spelled_alike(column) if column.what == "category" else []
    parts = []
    if rare:
        parts.append(f"rare categories ({_shown(rare)}): {'it has' if len(rare) == 1 else 'each has'} few rows")
    if same:
        parts.append(f"categories that differ in blanks or case alone ({_shown(same)}): are they the same?")
    return _told(*parts)


def _spelled_alike(column: Column) -> list[str]:
    plain = pd.Series(column.counts.index.astype(str))
    return plain[plain.str.strip().str.casefold().duplicated(keep=False)].tolist()


def _why_none(choices: tuple[Choice, ...]) -> list[str]:
    return [f"{choice.field.name}: {' '.join(choice.comments[-2:]) or 'the key'}" for choice in choices[:_LISTED]]


def _spelled(values: pd.Series, as_text: bool) -> dict[str, Any]:
    """What ``look_at`` takes: cells and numbers as they are, and everything else as text, as the door reads it."""
    if as_text or isinstance(values.dtype, pd.StringDtype):
        return {"raw": values, "as_text": as_text}
    numbers = all(isinstance(value, Number) and not isinstance(value, bool | np.bool_) for value in values.dropna())
    return {"raw": values if numbers else _texts(values), "as_text": False}


def _texts(values: pd.Series) -> pd.Series:
    found = [
        value if value is None or isinstance(value, str) else spelling.plain_text(value)
        for value in spelling.column_values(values.astype(object))
    ]
    return pd.Series(found, values.index, object)


# --- what stands in the way ---


def _name_faults(raw: pd.DataFrame, label: str, key: str | None) -> list[str]:
    names = [str(name) for name in raw.columns]
    faults = [
        f"there is no column {asked!r}, which {word} names: use one of {_shown(names, 30)}"
        for word, asked in (("LABEL", label), ("KEY", key))
        if asked is not None and asked not in names
    ]
    if label == key:
        faults.append(f"LABEL and KEY both name {label!r}: a key tells rows apart, a label is what is estimated")
    faults += [
        f"the header names {name!r} more than once: rename one"
        for name, count in Counter(names).items()
        if count > 1 and not is_nameless(name)
    ]
    for position, name in enumerate(names, 1):
        if is_nameless(name):
            faults.append(f"column {position} has no name: give it one in the header line, or remove it")
        elif not name.isprintable() or NOT_IN_NAMES.search(name):
            faults.append(
                f"the name of column {position} ({name!r}) holds a quotation mark, a backslash, a line break or the "
                "like: rename it"
            )
        elif name in TECHNICAL_COLUMNS:
            faults.append(f"the column {name!r} has a name that the project's own tables use: rename it")
    columns: dict[str, str] = {}
    for name in dict.fromkeys(name for name in names if not is_nameless(name)):
        column = column_name(name).lower()
        if column in columns:
            faults.append(
                f"the columns {columns[column]!r} and {name!r} become one column {column!r} in SQL, where case and "
                "punctuation do not count: rename one of them"
            )
        columns[column] = name
    return faults


def _size_faults(raw: pd.DataFrame) -> list[str]:
    if len(raw) >= MINIMUM_ROWS:
        return []
    count = f"{len(raw)} row{'' if len(raw) == 1 else 's'}"
    return [f"the table has {count}, and {MINIMUM_ROWS} are needed to train and to test"]


_TYPES = {
    "ndarray": "lists",
    "list": "lists",
    "dict": "records within records",
    "Timedelta": "durations",
    "time": "times of day",
}


def _type_faults(raw: pd.DataFrame) -> list[str]:
    """Columns of a Parquet file that hold what no field can."""
    faults = []
    for place, name in enumerate(raw.columns):
        values = spelling.column_values(raw.iloc[:, place])
        odd = (value for value in values if not (value is None or isinstance(value, _TAKEN)))
        if values.dtype == object and (one := next(odd, None)) is not None:
            kind = type(one).__name__
            what = f"the column {str(name)!r} holds {_TYPES.get(kind, kind)}"
            faults.append(f"{what}: make numbers, texts or dates of it, or remove it")
    return faults


def _label_faults(label: str, outcomes: pd.Series, table: RawTable) -> list[str]:
    if outcomes.isna().any():
        count = int(outcomes.isna().sum())
        first = table.places([int(outcomes.isna().argmax())], 1)
        return [
            f"the label {label} is missing in {count:,} row{'' if count == 1 else 's'} (first: {first}): remove rows "
            "whose outcome is not known. An empty cell is missing, and so are NA, NULL, None and the like: spell an "
            "outcome in another way"
        ]
    counts = outcomes.value_counts()
    if len(counts) == 1:
        return [f"the label {label} is {counts.index[0]!r} in every row: rows of both outcomes are needed"]
    if len({str(value).strip().casefold() for value in counts.index}) == 2 < len(counts):
        return [
            f"the label {label} has {len(counts)} values ({_shown(list(counts.index))}) that are two but for blanks "
            "and case: spell each of the two in one way"
        ]
    if len(counts) > 2:
        several = ", ".join(f"{value!r} ({rows:,} rows)" for value, rows in counts.head(_LISTED).items())
        more = f" and {len(counts) - _LISTED:,} more" if len(counts) > _LISTED else ""
        return [
            f"the label {label} has {len(counts):,} values: {several}{more}. A label has two. Make a column that says "
            f"whether one thing happened, for example whether {label} is {str(counts.index[-1])!r}, or whether it lies "
            "above a limit if it is a number, and remove this one"
        ]
    return []


def _key_faults(key: str, values: pd.Series, table: RawTable) -> list[str]:
    """Keys are compared as values: 253 and 253.0 are one."""
    faults = []
    if (missing := int(values.isna().sum())) > 0:
        faults.append(
            f"The key column contains {missing:,} empty value{'' if missing == 1 else 's'} (first: "
            f"{table.places([int(values.isna().argmax())], 1)}). Every row needs a key; without KEY= rows have no "
            "identity."
        )
    column = look_at(key, **_spelled(values, table.text))
    known = column.values
    twice = known[known.duplicated(keep=False)]
    if len(twice):
        rows = twice.index[twice == twice.iloc[0]][:2].tolist()
        count = int(known.duplicated().sum())
        faults.append(
            f"The key column contains {count:,} duplicate{'' if count == 1 else 's'} (first: {values[rows[0]]}, "
            f"{table.places(rows, 2).replace(', ', ' and ')}). Keep one row for each {key}, or leave KEY= out: rows "
            "then have no identity."
        )
    if column.numeric and not column.whole:
        faults.append(f"The key column {key} holds fractions or numbers above {LARGEST_WHOLE:,}: store them as text.")
    if not column.numeric and (longest := int(known.str.len().max() or 0)) > TEXT_LIMIT:
        faults.append(f"The key column {key} holds texts of up to {longest:,} characters: a key has {TEXT_LIMIT}.")
    return faults


def _binary(label: str, outcomes: pd.Series, positive: str | None) -> Binary:
    counts = outcomes.value_counts()
    values = [str(value) for value in counts.index]
    if positive is None:
        telling = [value for value in values if value.strip().lower() in _POSITIVE_WORDS]
        # value_counts begins with the most frequent value: the rarer one is what people want to know about.
        chosen = telling[0] if len(telling) == 1 else values[-1]
    else:
        fitting = [value for value in values if value == positive] or [
            value for value in values if value.strip().casefold() == positive.strip().casefold()
        ]
        if len(fitting) != 1:
            raise ScaffoldError([f"POSITIVE is {positive!r}, and the label {label} holds {_shown(values)}: use one"])
        chosen = fitting[0]
    return Binary(label, positive=chosen, negative=next(value for value in values if value != chosen))


def _sampled(y: NDArray[np.int64]) -> NDArray[np.intp]:
    """Rows that guesses look at, ascending."""
    if len(y) <= SAMPLE:
        return np.arange(len(y))
    rng = np.random.default_rng(0)
    chosen = []
    for outcome in (0, 1):
        rows = np.flatnonzero(y == outcome)
        wanted = max(round(SAMPLE * len(rows) / len(y)), min(_FEWEST_SAMPLED, len(rows)))
        chosen.append(rng.choice(rows, wanted, replace=False))
    result: NDArray[np.intp] = np.sort(np.concatenate(chosen))
    return result


def _shown(names: Sequence[str], most: int = _LISTED) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more
