"""What a definition has changed since an older model was trained: its bundle's contract against today's fields."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from serving.scoring.contract import Field


def changes(before: Sequence[Field], now: Sequence[Field]) -> dict[str, str]:
    """The fields ``before`` that have no values of their kind ``now``, each with why, in words."""
    today = {field.name: field for field in now}
    found = {}
    for field in before:
        if field.name not in today:
            found[field.name] = "not a field any more"
        elif _is_text(field) != _is_text(today[field.name]):
            was, became = ("a category", "a number") if _is_text(field) else ("a number", "a category")
            found[field.name] = f"was {was}, became {became}"
    return found


def told(changed: Mapping[str, str]) -> str:
    """The changes in one line for people."""
    return ", ".join(f"{name} ({why})" for name, why in changed.items())


def columns_as_before(
    columns: Mapping[str, NDArray[np.object_]], before: Sequence[Field], now: Sequence[Field]
) -> dict[str, NDArray[np.object_]]:
    """Today's columns, each ``[n]``, for a model of the fields ``before``: what has changed is missing to it."""
    gone = changes(before, now)
    rows = len(next(iter(columns.values())))
    missing = np.full(rows, None, object)
    return {field.name: missing if field.name in gone else columns[field.name] for field in before}


def _is_text(field: Field) -> bool:
    return field.kind == "category"
