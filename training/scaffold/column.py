"""What one column holds, and which field of a request it becomes."""

import re
from typing import Literal

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serving.scoring import spelling
from serving.scoring.contract import Field
from serving.scoring.spelling import LARGEST_WHOLE, TEXT_LIMIT

SAMPLE = 20_000
"""Rows that guesses about content look at. Whatever the door checks is taken from all rows."""
LARGEST_NUMBER = 1e30
"""Beyond it the models, which compute in float32, see no difference."""
MOST_CATEGORIES = 60
ROWS_EACH = 5
"""Rows that a category has on average; with fewer, the column is an identifier or a text."""
FEWEST_VALUES = 25
"""Values that a feature has at least: every fold has to meet some."""
RARE = 10
"""Rows below which a category is named as rare."""
_ROOM = 0.5
"""Share of the seen span that a range leaves below and above."""
_FREE_TEXT_WORDS = 4
_IDENTIFIER_WORDS = frozenset(
    ("id", "ids", "identifier", "key", "number", "no", "nr", "num", "code", "uuid", "guid", "index", "row", "serial")
)
_TIME_WORDS = frozenset(
    ("time", "timestamp", "date", "datetime", "epoch", "ts", "at", "created", "updated", "modified", "since", "until")
)
_MONTH = "(jan|feb|mar|mär|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)[^\\W\\d]*"
_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})|(19|20)\d{2}[-/. ](0[1-9]|1[0-2]|Q[1-4])"
    rf"|\d{{1,2}}[-. ]{{1,2}}{_MONTH}[-., ]{{1,2}}(\d{{4}}|\d{{2}})|{_MONTH} \d{{1,2}},? \d{{4}})"
    r"(,?[T ]\d{1,2}:\d{2}.*)?",
    re.IGNORECASE,
)
_SECONDS = (600_000_000, 4_200_000_000)
"""What seconds since 1970 lie between: 1989 and 2103."""
_LIKE_NUMBER = re.compile(r"[€$£¥]?\s?[+-]?(\d{1,3}([.,'\s]\d{3})+|\d+)([.,]\d+)?\s?(%|[€$£¥]|EUR|USD|GBP|CHF)?")
"""A number as people write it: 1.234,50, $5,993, 12 %."""
_MOSTLY = 0.9
"""Share of a column's rows from which on something is true of it but for some."""
_NEARLY = 0.95

What = Literal[
    "number", "category", "constant", "empty", "sparse", "identifier", "date", "free text", "many categories", "endless"
]


class Column(msgspec.Struct, frozen=True):
    """What is known of one column of a table."""

    name: str
    rows: int
    values: pd.Series
    """The values that are there: float64 where all are numbers, otherwise text."""
    counts: pd.Series
    """Rows by value, the most frequent first."""
    what: What

    @property
    def missing(self) -> int:
        return self.rows - len(self.values)

    @property
    def numeric(self) -> bool:
        return bool(self.values.dtype == np.float64)

    @property
    def whole(self) -> bool:
        """Whether every value is a whole number that a float64 holds exactly."""
        return self.numeric and bool((self.values % 1 == 0).all() and self.values.abs().max() <= LARGEST_WHOLE)

    @property
    def learnable(self) -> bool:
        """Whether a model can use the column, whatever else speaks against it."""
        return self.what in ("number", "category")

    def rare(self) -> list[str]:
        """Categories with few rows."""
        return [str(value) for value, rows in self.counts.items() if rows < RARE] if self.what == "category" else []

    def codes(self, sample: NDArray[np.intp]) -> NDArray[np.int64]:
        """A small whole number for each sampled row, int64 ``[n]``: its category, or the twentieth that its number
        belongs to; 0 where the value is missing."""
        chosen = self.values.reindex(sample)
        if self.numeric:
            edges = np.unique(self.values.quantile(np.linspace(0, 1, 21)[1:-1]))
            codes = np.searchsorted(edges, chosen.to_numpy(), side="right") + 1
        else:
            codes = pd.Categorical(chosen, categories=self.counts.index).codes.astype(np.int64) + 1
        result: NDArray[np.int64] = np.where(chosen.isna(), 0, codes).astype(np.int64)
        return result


def look_at(name: str, raw: pd.Series, *, as_text: bool = True) -> Column:
    """Judge a column; ``raw`` has the row numbers 0, 1, ... as its index, and cells of a text where ``as_text``."""
    known = raw.dropna()
    numbers = _numbers(known, as_text)
    long = numbers is not None and _are_long_ids(known, numbers, as_text)
    if long and as_text:  # the text keeps every digit
        numbers = None
    values = known.astype(object) if numbers is None else pd.Series(numbers, known.index)
    counts = values.value_counts()
    column = Column(name, len(raw), values, counts, "category")
    return msgspec.structs.replace(column, what="identifier" if long else _what(column))


def words(name: str) -> list[str]:
    """The words of a column's name in lower case: ``AnnualTurnover (EUR)`` -> annual, turnover, eur."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.findall(r"[^\W_]+", spaced.lower())


def field_of(column: Column) -> Field:
    """The field of a request that holds such values, as a feature where ``column.learnable``."""
    description = _description(column.name)
    if not column.learnable:
        carried = Field(
            name=column.name,
            kind="category",
            description=f"{description}; carried, not used by the model",
            example="text",
            required=False,
            role="carried",
            drift=False,
            sensitive=column.what in ("identifier", "free text"),
        )
        return _with_values(carried, column)
    field = Field(
        name=column.name,
        kind="category",
        description=description,
        example="",
        required=column.missing == 0,
        nullable=column.missing > 0,
    )
    return _with_values(field, column)


def identifier(column: Column) -> Field:
    """The field of a key: carried, and open for values to come."""
    field = Field(
        name=column.name,
        kind="category",
        description=f"{_description(column.name)}; tells one row from another, not used by the model",
        example=_masked(str(column.counts.index[0])),
        required=False,
        role="carried",
        drift=False,
        sensitive=True,
    )
    if column.whole:
        lowest = 0 if column.values.min() >= 0 else -LARGEST_WHOLE
        return msgspec.structs.replace(field, kind="integer", example=1, minimum=lowest, maximum=LARGEST_WHOLE)
    return field


def known_values(column: Column) -> str:
    """What was seen, for a comment."""
    parts = []
    if column.numeric and len(column.counts) > 1:
        parts.append(f"Seen: {column.values.min():,.10g} to {column.values.max():,.10g}.")
    if column.missing:
        parts.append(f"Missing in {column.missing:,} of {column.rows:,} rows.")
    return " ".join(parts)


def _numbers(known: pd.Series, as_text: bool) -> NDArray[np.float64] | None:
    """The values as numbers, or ``None`` where one of them is none, or where a number would lose something."""
    if known.empty:
        return None
    if as_text and known.str.fullmatch(r"[+-]?0\d+").any():  # 00123 is a code, and not the number 123
        return None
    numbers, refused = spelling.read_column(spelling.column_values(known), spelling.NUMBER, as_text=as_text)
    for row, refusal in refused.items():
        if refusal.reason != spelling.INFINITE:
            return None
        numbers[row] = np.inf
    return None if np.isnan(numbers).any() else numbers


def _are_long_ids(known: pd.Series, numbers: NDArray[np.float64], as_text: bool) -> bool:
    """Whether these are whole numbers that a float64 cannot tell apart, and hardly any of which occurs twice."""
    if len(known) < FEWEST_VALUES:
        return False
    whole = known.str.fullmatch(r"[+-]?\d+").to_numpy(bool) if as_text else known.dtype.kind in "iu"
    beyond = (np.abs(numbers) > LARGEST_WHOLE) & whole
    return bool(beyond.mean() >= _NEARLY and known.nunique() >= _NEARLY * len(known))


def numbers_in_words(column: Column) -> str | None:
    """What to do where a column of text is one of numbers, but for how they are written or for some of them."""
    if column.numeric or column.what in ("empty", "constant", "date"):
        return None
    sample = _sample(column.values)
    plain = sample.map(spelling.is_number).to_numpy(bool)
    like = sample.str.fullmatch(_LIKE_NUMBER).to_numpy(bool) & ~plain
    if plain.all() or (plain | like).mean() < _MOSTLY:
        return None
    if like.any():
        return (
            f"these seem to be numbers ({sample[like].iloc[0]!r}): write them with digits and a point alone, and they "
            "become numbers"
        )
    others = ", ".join(map(repr, sample[~plain].value_counts().index[:3]))
    return f"these are numbers but for some ({others}): replace those by nothing, and they become numbers"


def _what(column: Column) -> What:
    if column.values.empty:
        return "empty"
    if column.numeric and column.values.abs().max() > LARGEST_NUMBER:
        return "endless"
    if len(column.counts) == 1:
        return "constant"
    found = _numeric_what(column) if column.numeric else _text_what(column)
    return "sparse" if found in ("number", "category") and len(column.values) < FEWEST_VALUES else found


def _numeric_what(column: Column) -> What:
    if not column.whole:
        return "number"
    values = column.values
    if len(column.counts) == len(values):
        # A running number, or a column that is called one: a measurement may have distinct values as well.
        dense = values.max() - values.min() < 2 * len(values)
        if dense or _IDENTIFIER_WORDS & set(words(column.name)):
            return "identifier"
    if values.between(19_000_101, 21_001_231).all():
        days = pd.to_datetime(_sample(values).astype(np.int64).astype(str), format="%Y%m%d", errors="coerce")
        if days.notna().all():
            return "date"
    low, high = _SECONDS
    if _TIME_WORDS & set(words(column.name)) and any(
        values.between(low * unit, high * unit).all() for unit in (1, 10**3, 10**6)
    ):
        return "date"
    return "number"


def _text_what(column: Column) -> What:
    sample = _sample(column.values)
    if sample.str.fullmatch(_DATE).mean() >= _NEARLY:
        return "date"
    distinct = len(column.counts)
    long = bool(column.values.str.len().max() > TEXT_LIMIT)
    if long or (sample.str.count(r"\s+").mean() >= _FREE_TEXT_WORDS - 1 and distinct > MOST_CATEGORIES):
        return "free text"
    if distinct == len(column.values):
        return "identifier"
    if distinct > MOST_CATEGORIES or distinct * ROWS_EACH > len(column.values):
        return "many categories"
    return "category"


def _sample(values: pd.Series) -> pd.Series:
    return values if len(values) <= SAMPLE else values.sample(SAMPLE, random_state=0)


def _with_values(field: Field, column: Column) -> Field:
    """The field with kind, example, and what of its values a request is held to."""
    if column.numeric:
        low, high = _range(column)
        typical = column.values.sort_values().iloc[len(column.values) // 2]
        kind: Literal["integer", "number"] = "integer" if column.whole else "number"
        example = int(typical) if column.whole else float(typical)
        return msgspec.structs.replace(field, kind=kind, example=example, minimum=low, maximum=high)
    if column.what in ("category", "sparse"):
        categories = tuple(sorted(map(str, column.counts.index)))
        return msgspec.structs.replace(field, example=str(column.counts.index[0]), categories=categories)
    if column.what in ("constant", "date"):
        return msgspec.structs.replace(field, example=str(column.counts.index[0])[:TEXT_LIMIT])
    return field


def _range(column: Column) -> tuple[float, float]:
    """Lowest and highest value that a request may hold: what was seen with room, rounded outwards."""
    low, high = float(column.values.min()), float(column.values.max())
    if column.what in ("identifier", "date"):  # they only ever grow
        return min(0, int(low)), LARGEST_WHOLE if column.whole else 2.0**64
    if column.whole and (low, high) == (0, 1):
        return 0, 1
    room = (high - low or abs(high) or 1.0) * _ROOM
    step = 10.0 ** np.floor(np.log10(room))
    lowest, highest = np.floor((low - room) / step) * step, np.ceil((high + room) / step) * step
    if low >= 0:
        lowest = max(lowest, 0.0)
    if high <= 0:
        highest = min(highest, 0.0)
    lowest, highest = min(_short(lowest), low), max(_short(highest), high)
    if column.whole:
        return int(np.floor(lowest)), int(np.ceil(highest))
    return lowest, highest


def _short(value: float) -> float:
    """Without the digits that binary fractions bring: 0.30000000000000004 is 0.3."""
    return float(f"{value:.6g}")


def _masked(value: str) -> str:
    """The shape of an identifier, without saying whose it is: ``7590-VHVEG`` is ``0000-AAAAA``."""
    masked = re.sub(r"[^\W\d_]", "A", re.sub(r"\d", "0", value))
    return masked[:TEXT_LIMIT]


def _description(name: str) -> str:
    found = name.strip() if " " in name.strip() else " ".join(words(name))
    return found[:1].upper() + found[1:] if found else f"Column {name}"
