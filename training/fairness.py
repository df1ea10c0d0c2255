"""How the model treats groups: who is picked out, who is found, and whether the risk is right."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data import Employees

SELECTED = 0.20
"""Share of the rows that counts as picked out: those with the highest risk."""
_SMALLEST = 10
"""Leavers (true-positive rate) or rows (the rest) that a group needs to count for the largest gap."""
_AGE_BANDS = ((0, 30, "under 30"), (30, 40, "30 to 39"), (40, 50, "40 to 49"), (50, 200, "50 and over"))


def groups_of(employees: Employees) -> dict[str, NDArray[np.object_]]:
    """Group of each row by attribute: Gender, MaritalStatus and age band."""
    age = employees.frame["Age"].to_numpy(np.float64)
    band = np.full(len(age), None, object)
    for low, high, name in _AGE_BANDS:
        band[(age >= low) & (age < high)] = name
    return {
        "Gender": employees.frame["Gender"].to_numpy(object),
        "MaritalStatus": employees.frame["MaritalStatus"].to_numpy(object),
        "AgeBand": band,
    }


def assess(employees: Employees, p: NDArray[np.float64]) -> dict[str, Any]:
    """Selection rate, true-positive rate and calibration of each group, and the largest gaps.

    A group's calibration is its mean predicted risk minus its share of leavers. Groups with fewer than ten
    leavers are shown, but do not count for the gap in true-positive rate: it would be noise.
    """
    y = employees.y
    selected = np.zeros(len(p), bool)
    selected[np.argsort(-p, kind="stable")[: round(SELECTED * len(p))]] = True
    attributes: dict[str, Any] = {}
    for attribute, group_of in groups_of(employees).items():
        names = sorted({name for name in group_of if isinstance(name, str)})
        attributes[attribute] = {name: _group(group_of == name, y, p, selected) for name in names}
    gaps = {
        "selection_rate": _largest_gap(attributes, "selection_rate", "rows"),
        "true_positive_rate": _largest_gap(attributes, "true_positive_rate", "leavers"),
        "calibration": _largest_gap(attributes, "calibration", "rows"),
    }
    return {"selected_share": SELECTED, "groups": attributes, "largest_gaps": gaps}


def _group(
    rows: NDArray[np.bool_], y: NDArray[np.int64], p: NDArray[np.float64], selected: NDArray[np.bool_]
) -> dict[str, float | int | None]:
    leavers = rows & (y == 1)
    found = round(float(selected[leavers].mean()), 4) if leavers.any() else None
    return {
        "rows": int(rows.sum()),
        "leavers": int(leavers.sum()),
        "selection_rate": round(float(selected[rows].mean()), 4),
        "true_positive_rate": found,
        "calibration": round(float(p[rows].mean() - y[rows].mean()), 4),
    }


def _largest_gap(attributes: dict[str, Any], figure: str, size: str) -> dict[str, Any]:
    """The attribute whose groups lie furthest apart in a figure, and by how much."""
    largest: dict[str, Any] = {"value": 0.0, "attribute": None}
    for attribute, groups in attributes.items():
        values = [group[figure] for group in groups.values() if group[size] >= _SMALLEST]
        if len(values) > 1 and (gap := max(values) - min(values)) > largest["value"]:
            largest = {"value": round(gap, 4), "attribute": attribute}
    return largest
