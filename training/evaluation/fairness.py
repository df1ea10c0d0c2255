"""How the model treats groups: who is picked out, who is found, and whether the risk is right."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import Dataset
from training.evaluation.binary import INTERVAL
from training.use_case import UseCase

SELECTED = 0.20
"""Share of the rows that counts as picked out: those with the highest risk."""
_SMALLEST = 10
"""Positives (true-positive rate) or rows (the rest) that a group needs to count for a gap."""


def groups_of(use_case: UseCase, columns: Mapping[str, NDArray[np.object_]]) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Which rows of a table belong to each group, bool ``[n]``, by field and group; ``columns`` are ``[n]`` each.

    A row without a value belongs to none.
    """
    found = {}
    for group in use_case.groups:
        values = columns[group.field]
        if group.bands:
            found[group.field] = _banded(values.astype(np.float64), group.bands)
        else:
            names = sorted({name for name in values if isinstance(name, str)})
            found[group.field] = {name: values == name for name in names}
    return found


def _banded(values: NDArray[np.float64], bands: tuple[float, ...]) -> dict[str, NDArray[np.bool_]]:
    """Rows by band of a number: ``(30, 40)`` makes three bands."""
    members = {f"under {bands[0]:g}": values < bands[0]}
    for low, high in itertools.pairwise(bands):
        members[f"{low:g} to under {high:g}"] = (values >= low) & (values < high)
    members[f"{bands[-1]:g} and over"] = values >= bands[-1]
    return {name: rows for name, rows in members.items() if rows.any()}


def assess(dataset: Dataset, p: NDArray[np.float64], weights: NDArray[np.float64]) -> dict[str, Any]:
    """Selection rate, true-positive rate and calibration of each group, and the largest gaps.

    A group's calibration is its mean predicted risk minus its share of positives. Gaps have bootstrap intervals
    over ``weights`` (``training.evaluation.binary.resamples``): groups are small, so a gap on one hold-out says little
    by itself. Groups with fewer than ten positives are shown, but do not count for the gap in true-positive rate.
    """
    y = dataset.y
    selected = np.zeros(len(p), bool)
    selected[np.argsort(-p, kind="stable")[: round(SELECTED * len(p))]] = True
    groups = groups_of(dataset.use_case, dataset.columns())
    everybody = np.ones(len(p), bool)
    figures = {
        "selection_rate": (selected.astype(float), everybody),
        "true_positive_rate": (selected.astype(float), y == 1),
        "calibration": (p - y, everybody),
    }
    once = np.ones((1, len(p)))
    shown: dict[str, Any] = {}
    for attribute, members in groups.items():
        shown[attribute] = {
            name: {"rows": int(rows.sum()), "positives": int((rows & (y == 1)).sum())}
            | {
                figure: _rounded(_group_mean(values, rows & counted, once)[0])
                for figure, (values, counted) in figures.items()
            }
            for name, rows in members.items()
        }
    gaps = {figure: _largest_gap(groups, values, counted, weights) for figure, (values, counted) in figures.items()}
    return {"selected_share": SELECTED, "groups": shown, "largest_gaps": gaps}


def _group_mean(
    values: NDArray[np.float64], rows: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted mean over a group's rows in each resample; NaN where a resample has none of them."""
    size = weights[:, rows].sum(axis=1)
    total = weights[:, rows] @ values[rows]
    means: NDArray[np.float64] = np.divide(total, size, out=np.full(len(size), np.nan), where=size > 0)
    return means


def _largest_gap(
    groups: dict[str, dict[str, NDArray[np.bool_]]],
    values: NDArray[np.float64],
    counted: NDArray[np.bool_],
    weights: NDArray[np.float64],
) -> dict[str, Any]:
    """The attribute whose groups lie furthest apart in a figure, by how much, and the gap's interval."""
    once = np.ones((1, len(values)))
    largest: dict[str, Any] = {"value": 0.0, "low": 0.0, "high": 0.0, "attribute": None}
    for attribute, members in groups.items():
        rows = [group & counted for group in members.values() if (group & counted).sum() >= _SMALLEST]
        if len(rows) < 2:
            continue
        value = float(np.ptp([_group_mean(values, group, once)[0] for group in rows]))
        if value > largest["value"]:
            means = np.array([_group_mean(values, group, weights) for group in rows])
            drawn = np.nanmax(means, axis=0) - np.nanmin(means, axis=0)
            low, high = np.quantile(drawn, INTERVAL)
            largest = {
                "value": _rounded(value),
                "low": _rounded(low),
                "high": _rounded(high),
                "attribute": attribute,
            }
    return largest


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
