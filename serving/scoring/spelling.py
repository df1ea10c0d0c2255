"""What is taken as what: the one table of spellings, which every reader of values goes by.

A value comes *typed* (JSON, Parquet, a DataFrame) or as *text* (a cell of a CSV file). Both ways lead to the same
values: a number is a float64, a category or a text is a ``str``, and ``None`` is missing. The scoring server, its fault
finder, the batch model, the training door, the outcomes feed and the scaffold all read here, so they agree.

Reading says what a value is; ``hold`` says whether its field may have it.
"""

import datetime
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.scoring.contract import Field

TEXT_LIMIT = 128
"""Characters of an unknown category; a longer one is refused, so that a record always fits a log line."""
LARGEST_WHOLE = 2**53 - 1
"""Beyond it a float64 does not hold every whole number: two keys could become one."""
MISSING = frozenset(("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None"))
"""Cells of a text that stand for a missing value, unless the field lists them as a category."""
SHOWN = 60
"""Characters of a value that a message shows."""

Value = float | str | None
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
BEYOND = "beyond the calendar, which ends with the year 9999"
INFINITE = "infinite, or beyond 1.8e308"
_DIGITS = "write digits and a point alone, such as 5993.5"
_EXCEL_DAY = re.compile(r"[0-9]{5}(\.[0-9]+)?")


class Refusal(ValueError):
    """Raised for a value that is not what its field holds. ``reason`` is the same for a text and a typed value."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(f"{reason}: {hint}" if hint else reason)
        self.reason = reason
        self.hint = hint
        """What to do about it; empty where the reason says it."""


# --- values of a field ---


def typed(value: Any, field: Field) -> Value:
    """The value of a field from JSON, Parquet or a DataFrame; raises ``Refusal``."""
    if is_missing(value):
        return None
    return _typed_text(value, field) if field.kind == "category" else _typed_number(value)


def text(cell: str, field: Field) -> Value:
    """The value of a field from a cell of a CSV file; blanks around it do not count. Raises ``Refusal``."""
    cell = cell.strip()
    if cell in field.categories:
        return cell
    if cell in MISSING:
        return None
    if field.kind != "category":
        return number_of(cell)
    word = cell.casefold()
    return _truth(word, field) if word in ("true", "false") and field.categories and takes_truth(field) else cell


def is_missing(value: Any) -> bool:
    """Whether a typed value stands for a missing one: ``None``, and what differs from itself (NaN, NaT)."""
    if value is None or isinstance(value, str):
        return value is None
    differs = value != value  # of an array, as Parquet's lists come, an array
    return isinstance(differs, bool | np.bool_) and bool(differs)


def number_of(cell: str) -> float:
    """The nearest float64 of a text that is a number; raises ``Refusal``."""
    if cell.lstrip("+-").casefold() in ("inf", "infinity"):
        raise Refusal(INFINITE)
    if not _NUMBER.fullmatch(cell):
        raise Refusal("not a number", _DIGITS if any(map(str.isdigit, cell)) else "")
    return _finite(float(cell))


def is_number(cell: str) -> bool:
    """Whether a cell is spelled as a number."""
    return _NUMBER.fullmatch(cell) is not None


def takes_truth(field: Field) -> bool:
    """Whether a category field takes ``true`` and ``false``: it lists both, in any case, or lists nothing."""
    words = [category.casefold() for category in field.categories]
    return not words or (words.count("true") == 1 and words.count("false") == 1)


def _typed_number(value: Any) -> float:
    if isinstance(value, str):
        raise Refusal("not a number", f"send {value} without quotes" if is_number(value) else "")
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | Decimal | np.number):
        raise Refusal("not a number")
    try:
        return _finite(float(value))
    except OverflowError as error:
        raise Refusal(INFINITE) from error


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise Refusal(INFINITE)
    return number + 0.0  # -0.0 is 0.0


def _typed_text(value: Any, field: Field) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        if not takes_truth(field):
            raise Refusal("not text")
        return _truth(str(bool(value)).lower(), field)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, int | float | Decimal | np.number):
        raise Refusal("not text", f'send it in quotes: "{plain_text(value)}"')
    raise Refusal("not text")


def _truth(word: str, field: Field) -> str:
    return next((category for category in field.categories if category.casefold() == word), word)


def plain_text(value: Any) -> str:
    """A typed value as a CSV file spells it: ``1.0`` is ``1``, a truth value ``true`` or ``false``, a date ISO 8601."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, float | np.floating):
        return np.format_float_positional(value, trim="-") if math.isfinite(value) else str(value)
    return str(value)


# --- what a field may have ---


def limits(field: Field) -> tuple[float | None, float | None]:
    """The smallest and the largest value of a number field, both inclusive; ``None`` where there is no limit."""
    low, high = field.minimum, field.maximum
    if field.kind != "integer":
        return low, high
    return (
        -LARGEST_WHOLE if low is None else max(low, -LARGEST_WHOLE),
        LARGEST_WHOLE if high is None else min(high, LARGEST_WHOLE),
    )


def text_limit(field: Field) -> int:
    """Characters that a value of a category field may have."""
    return max([TEXT_LIMIT, *map(len, field.categories)])


def hold(value: Value, field: Field) -> None:
    """Raise ``Refusal`` where the field may not have a value that was read."""
    if value is None:
        if not field.nullable:
            raise Refusal("the value is missing")
    elif isinstance(value, str):
        if len(value) > text_limit(field):
            raise Refusal(f"longer than {text_limit(field)} characters")
    else:
        if field.kind == "integer" and not value.is_integer():
            raise Refusal("not a whole number")
        low, high = limits(field)
        if (low is not None and value < low) or (high is not None and value > high):
            raise Refusal(range_fault(field))


def range_fault(field: Field) -> str:
    """What is said of a number that lies outside its field's limits."""
    low, high = limits(field)
    if low is not None and high is not None:
        return f"outside {number_text(low)} to {number_text(high)}"
    return f"below {number_text(low)}" if low is not None else f"above {number_text(high or 0)}"


def number_text(number: float) -> str:
    """A number for people: all digits of a whole one, so that nobody has to count zeros of ``9.0072e+15``."""
    return str(int(number)) if abs(number) <= LARGEST_WHOLE and number == int(number) else f"{number:g}"


def shown(value: Any) -> str:
    """A value that was refused, as messages show it: in quotes where it is text, and not all of a long one."""
    words = repr(value) if isinstance(value, str) else plain_text(value)
    return words if len(words) <= SHOWN else f"{words[: SHOWN - 3]}..."


# --- columns of a table ---


def column_values(column: Any) -> NDArray[Any]:
    """A pandas column as NumPy's numbers where it is one of them, otherwise as objects with ``None`` for missing."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf":
        numbers: NDArray[Any] = column.to_numpy()
        return numbers
    values: NDArray[Any] = column.astype(object).where(column.notna(), None).to_numpy(object)
    return values


def read_column(
    values: Sequence[Any] | NDArray[Any], field: Field, *, as_text: bool = False
) -> tuple[NDArray[Any], dict[int, Refusal]]:
    """A column's values, float64 or object ``[n]``, and the refusals by row; a refused value is missing.

    ``as_text``: the values are cells of a text, and missing ones may be ``None``.
    """
    numeric = field.kind != "category"
    if numeric and not as_text and (plain := _plain_numbers(values)) is not None:
        found, odd = plain, np.flatnonzero(np.isinf(plain)).tolist()
        return np.where(np.isinf(found), np.nan, found) + 0.0, {
            row: refusal for row in odd if isinstance(refusal := _read(values[row], field, False), Refusal)
        }
    read: list[Value] = []
    refused: dict[int, Refusal] = {}
    known: dict[tuple[type, Any], Value | Refusal] = {}  # most columns say the same again and again
    for row, value in enumerate(values):
        spelled = (type(value), value)
        try:
            one = known[spelled]
        except KeyError:
            one = known[spelled] = _read(value, field, as_text)
        except TypeError:  # a list or the like, which no dict takes
            one = _read(value, field, as_text)
        if isinstance(one, Refusal):
            refused[row], one = one, None
        read.append(one)
    if numeric:
        return np.array([np.nan if value is None else value for value in read], np.float64), refused
    texts = np.empty(len(read), object)
    texts[:] = read
    return texts, refused


def hold_column(values: NDArray[Any], field: Field) -> dict[int, Refusal]:
    """The refusals, by row, of a column that ``read_column`` has read: what ``hold`` says of each value."""
    if values.dtype == object:
        longest = text_limit(field)
        odd = [row for row, value in enumerate(values) if value is None or len(value) > longest]
    else:
        low, high = limits(field)
        with np.errstate(invalid="ignore"):
            wrong = np.isnan(values) | (values % 1 != 0 if field.kind == "integer" else False)
            wrong |= (values < low) if low is not None else False
            wrong |= (values > high) if high is not None else False
        odd = np.flatnonzero(wrong).tolist()
    refused = {}
    for row in odd:
        value = values[row]
        try:
            hold(None if is_missing(value) else value if isinstance(value, str) else float(value), field)
        except Refusal as refusal:
            refused[row] = refusal
    return refused


def _read(value: Any, field: Field, as_text: bool) -> Value | Refusal:
    try:
        if as_text:
            return None if value is None else text(value, field)
        return typed(value, field)
    except Refusal as refusal:
        return refusal


_PLAIN = frozenset((int, float, type(None), np.float64, np.float32, np.int64, np.int32, np.int16, np.int8))


def _plain_numbers(values: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64] | None:
    """A column of nothing but numbers and missing values at once, float64 ``[n]``; ``None`` for any other."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return values.astype(np.float64) if values.dtype.kind in "iuf" else None
    if not _PLAIN.issuperset(map(type, values)):
        return None
    try:
        return np.array(values, np.float64)
    except OverflowError:  # a whole number of hundreds of digits
        return None


# --- labels, days, names of columns ---


def label(value: Any, known: Sequence[str], *, as_text: bool = False) -> str | None:
    """A label's value as the definition spells it (``known``), whatever its case or type; raises ``Refusal``.

    ``True`` and ``"TRUE"`` are a known ``"true"``; ``1``, ``1.0`` and ``"1.0"`` are a known ``"1"``.
    """
    if is_missing(value):
        return None
    word = value if isinstance(value, str) else plain_text(value)
    if as_text:
        word = word.strip()
    if word in known:
        return word
    if as_text and word in MISSING:
        return None
    alike = [one for one in known if one.casefold() == word.casefold()]
    if not alike and is_number(word):
        alike = [one for one in known if is_number(one) and float(one) == float(word)]
    if len(alike) != 1:
        raise Refusal(f"not one of {', '.join(known)}")
    return alike[0]


def day(value: Any) -> datetime.date | None:
    """The day of a date, an instant or a text that is one in ISO 8601; ``None`` for a missing one. Raises ``Refusal``.

    Midnight in a time zone stands for the day that is written there; any other instant of a zone is of its UTC day.
    """
    if is_missing(value):
        return None
    if isinstance(value, str):
        cell = value.strip()
        if cell in MISSING:
            return None
        try:
            value = datetime.datetime.fromisoformat(cell)
        except ValueError as error:
            hint = "it seems to be Excel's number of a day: format the column as a date"
            raise Refusal("not a date such as 2026-09-30", hint if _EXCEL_DAY.fullmatch(cell) else "") from error
    if isinstance(value, datetime.datetime):
        try:
            written = value.tzinfo is None or value.time() == datetime.time.min
            return value.date() if written else value.astimezone(datetime.UTC).date()
        except (
            OverflowError,
            ValueError,
            NotImplementedError,
        ) as error:  # pandas has larger years, and no date for them
            raise Refusal(BEYOND) from error
    if isinstance(value, datetime.date):
        return value
    raise Refusal("not a date such as 2026-09-30")


def folded(name: str) -> str:
    """A column's name without what does not count: case, blanks and ``_``."""
    return re.sub(r"[\s_]", "", name).casefold()


def find_columns(names: Iterable[str], wanted: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Which of a table's columns are which of the wanted ones: ours -> the table's names for it.

    ``wanted`` gives each of our names with its other spellings. Case, blanks and ``_`` do not count, unless a name is
    exactly that of a column, or two of ours would be meant.
    """
    exact = {spelling: ours for ours, others in wanted.items() for spelling in others} | {name: name for name in wanted}
    loose: dict[str, set[str]] = {}
    for spelling, ours in exact.items():
        loose.setdefault(folded(spelling), set()).add(ours)
    found: dict[str, list[str]] = {ours: [] for ours in wanted}
    for name in names:
        meant = {exact[name]} if name in exact else loose.get(folded(name), set())
        if len(meant) == 1:
            found[next(iter(meant))].append(name)
    return found


# --- the table, for people ---


class Concept(msgspec.Struct, frozen=True):
    """One row of the table in docs/reference.md."""

    name: str
    typed: str
    text: str
    examples: tuple[tuple[Any, str], ...]
    """Pairs of a typed value and a cell that mean the same."""
    read: Callable[[Any, bool], Any]
    """Reads one of them; the second argument says whether it is a cell."""


def _of(field: Field) -> Callable[[Any, bool], Value]:
    def read(value: Any, as_text: bool) -> Value:
        found = text(value, field) if as_text else typed(value, field)
        hold(found, field)
        return found

    return read


def _label(value: Any, as_text: bool) -> str | None:
    return label(value, ("Yes", "No"), as_text=as_text)


NUMBER = Field("size", "number", "A number", 1.5)
WHOLE = Field("rooms", "integer", "A whole number", 2)
CATEGORY = Field("heating", "category", "A category", "gas", categories=("gas", "wood"))
TRUTH = Field("garden", "category", "Yes or no", "true", categories=("false", "true"))
WORD = Field("note", "category", "A text, or a key that is one", "0007")

TABLE = (
    Concept(
        "number",
        "A number, as the nearest float64; -0.0 is 0. Infinity, true, false and text are refused. NaN of a table is "
        "missing, JSON has none",
        "Digits with sign, point and exponent. No separators, signs of currency or infinity",
        ((41.5, " 41.5 "), (1000.0, "1e3"), (-0.0, "-0.0"), (None, "NA"), (float("inf"), "1e999"), ("1,000", "1,000"),
         ("$5,993", "$5,993"), ("1_000", "1_000"), (True, "true")),
        _of(NUMBER),
    ),
    Concept(
        "whole number",
        f"A number without a fraction, up to {LARGEST_WHOLE} either way; 3.0 is one",
        "As a number; 3.0, 0007 and 1e3 are whole numbers",
        ((3, "3"), (3.0, "3.0"), (7, "0007"), (2.5, "2.5"), (LARGEST_WHOLE, str(LARGEST_WHOLE)),
         (LARGEST_WHOLE + 1, str(LARGEST_WHOLE + 1)), (12345678901234567890, "12345678901234567890")),
        _of(WHOLE),
    ),
    Concept(
        "category, text",
        "Text as it is, blanks and case included, and dates as ISO 8601 writes them. Numbers are refused. A category "
        "that the field does not list is unknown; the training file may hold listed ones alone",
        "The cell without blanks around it; empty, NA, NaN, null and None are missing unless the field lists them",
        (("gas", "gas"), ("wood", " wood "), (None, ""), ("peat", "peat"), ("x" * 129, "x" * 129)),
        _of(CATEGORY),
    ),
    Concept(
        "yes and no",
        "true and false are the categories of that name, where the field lists both or lists nothing",
        "true and false in any case, where the field lists both",
        ((True, "TRUE"), (False, "false"), ("true", "true")),
        _of(TRUTH),
    ),
    Concept(
        "label",
        "One of its two values, in any case; a number or true and false as the definition spells them",
        "As typed, without blanks around it",
        (("Yes", "Yes "), ("YES", "yes"), (None, ""), ("Maybe", "Maybe")),
        _label,
    ),
    Concept(
        "key",
        "By its field's kind: a whole number as above, or a text, which keeps its zeros",
        "As typed: 0007 is the whole number 7, or the text 0007",
        (("0007", "0007"), ("A 7", " A 7 ")),
        _of(WORD),
    ),
    Concept(
        "date, instant",
        "A date, a time stamp, or text in ISO 8601. Midnight of a zone is the day that is written; any other time with "
        "a zone is of its UTC day",
        "As typed text",
        ((datetime.date(2026, 9, 30), "2026-09-30"), (datetime.datetime(2026, 9, 30), "2026-09-30 00:00:00"),
         (datetime.datetime(2026, 9, 30, tzinfo=datetime.UTC), "2026-09-30T00:00:00Z"),
         ("2026-09-30T00:00:00+05:30", "2026-09-30T00:00:00+05:30"),
         ("2026-09-30T02:00:00+05:30", "2026-09-30T02:00:00+05:30"), ("30.9.2026", "30.9.2026")),
        lambda value, as_text: day(value),
    ),
)  # fmt: skip
NAMES = (
    ("column name", "Of a Parquet file: case, blanks and `_` do not count; two columns of one name are refused",
     "Of a header line: the same"),
    ("JSON member", "Exactly the field's name; a member that is not a field, or that is there twice, is refused", ""),
)  # fmt: skip
"""The rest of the table: names are found and not read."""


def readings(concept: Concept) -> Iterator[tuple[str, str, str]]:
    """Each example of a concept: the typed value, the cell, and what both become (or why they are refused)."""
    for value, cell in concept.examples:
        try:
            found = concept.read(value, False)
            result = "missing" if found is None else str(found) if isinstance(found, datetime.date) else shown(found)
        except Refusal as refusal:
            result = f"refused: {refusal.reason}"
        yield _example(value), repr(cell)[:SHOWN], result


def _example(value: Any) -> str:
    if isinstance(value, str):
        return shown(value)
    return "null" if value is None else str(value)
