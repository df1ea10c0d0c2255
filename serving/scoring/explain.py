"""Reasons in words: the fields that move a record's probability most."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.scoring.contract import Contract, Field
from serving.scoring.encode import UNKNOWN
from serving.scoring.reasons import Reasons

NAMED = 3
"""Fields that are named at most for each direction."""

Value = int | float | str | None
Given = Callable[[int, str], Any]
"""``(record, field)``: the text that stands there. It is asked for where a category is unknown, so has no code."""


class Reason(msgspec.Struct, frozen=True):
    """What one field's value does to the probability, beside the average of the training data."""

    field: str
    value: Value
    effect: float
    """What it adds to the log-odds: its Shapley value."""
    direction: Literal["raises", "lowers"]
    text: str


class Explanation(msgspec.Struct, frozen=True):
    """``base``, the effects of ``reasons`` and ``other`` sum up to the log-odds of the probability."""

    base: float
    reasons: list[Reason]
    other: float


class UnknownCategory(msgspec.Struct, frozen=True):
    """A category that the training data does not have, in a field that the model sees."""

    field: str
    value: str
    text: str


def explain(contract: Contract, reasons: Reasons, values: NDArray[np.float64], given: Given) -> Iterator[Explanation]:
    """The explanation of each record, from its encoded features ``[n, features]``."""
    fields = contract.features
    found = reasons.effects(values.astype(np.float32))
    for record, (row, effects) in enumerate(zip(values.tolist(), found.tolist(), strict=True)):
        order = sorted(range(len(fields)), key=effects.__getitem__)
        lowest = [column for column in order[:NAMED] if effects[column] < 0]
        highest = [column for column in order[: -NAMED - 1 : -1] if effects[column] > 0]
        named = sorted(highest + lowest, key=lambda column: -abs(effects[column]))
        told = [_reason(fields[column], row[column], effects[column], record, given) for column in named]
        other = sum(effects[column] for column in order if column not in named)
        yield Explanation(reasons.base, told, other)


def unknown_categories(
    contract: Contract, values: NDArray[np.float64], given: Given
) -> dict[int, list[UnknownCategory]]:
    """The unknown categories of each record that has any, from its encoded features ``[n, features]``."""
    found: dict[int, list[UnknownCategory]] = {}
    columns = [column for column, field in enumerate(contract.features) if field.kind == "category"]
    records, places = np.nonzero(values[:, columns] == UNKNOWN)
    for record, place in zip(records.tolist(), places.tolist(), strict=True):
        name = contract.features[columns[place]].name
        value = given(record, name)
        text = f"{name} is {value!r}, which is not a category that the model knows"
        found.setdefault(record, []).append(UnknownCategory(name, value, text))
    return found


def _reason(field: Field, code: float, effect: float, record: int, given: Given) -> Reason:
    value: Value
    if code != code:
        value, words = None, "missing"
    elif field.kind != "category":
        value = round(code) if field.kind == "integer" else code
        words = f"{value:,} {field.unit}" if field.unit else f"{value:,}"
    elif code == UNKNOWN:
        value = str(given(record, field.name))
        words = f"{value!r}, which the model does not know"
    else:
        value = words = field.categories[int(code)]
    direction: Literal["raises", "lowers"] = "raises" if effect > 0 else "lowers"
    return Reason(field.name, value, effect, direction, f"{field.name} is {words}: {direction} the probability")
