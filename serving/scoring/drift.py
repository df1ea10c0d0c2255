"""Drift of a request against the training reference, field by field."""

import functools
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serving.scoring.category_drift import CategoryDrift
from serving.scoring.contract import DRIFT_FILE, Contract, Field
from serving.scoring.numeric_drift import NumericDrift


class DriftError(ValueError):
    """Raised when the drift references do not fit the contract."""


class DriftReference:
    """The training reference of every drift field, and the tests against it. Thread-safe."""

    def __init__(self, contract: Contract, references: dict[str, NDArray[np.float64]]) -> None:
        """``references``: values of each numeric drift field, counts of each category field (unknown last)."""
        self.names = tuple(field.name for field in contract.drift_fields)
        kinds = np.array([field.kind == "category" for field in contract.drift_fields], dtype=bool)
        positions = np.array([p for p, field in enumerate(contract.fields) if field.drift], dtype=np.intp)
        self._numeric_slots, self._category_slots = np.flatnonzero(~kinds), np.flatnonzero(kinds)
        self._numeric_fields, self._category_fields = positions[~kinds], positions[kinds]
        whole = [contract.drift_fields[slot].kind == "integer" for slot in self._numeric_slots]
        self._numeric = NumericDrift([references[self.names[slot]] for slot in self._numeric_slots], whole)
        self._category = CategoryDrift([references[self.names[slot]] for slot in self._category_slots])

    @classmethod
    def load(cls, folder: Path, contract: Contract) -> Self:
        """Read ``drift.npz`` of a bundle; raises ``DriftError`` or ``OSError``."""
        with np.load(folder / DRIFT_FILE, allow_pickle=False) as arrays:
            return cls(contract, {field.name: _reference(arrays, field) for field in contract.drift_fields})

    def p_values(self, fields: NDArray[np.float64]) -> NDArray[np.float64]:
        """One p-value a drift field for encoded fields ``[n, fields]``; missing values are left out.

        Numeric: two-sample Kolmogorov-Smirnov, as ``scipy.stats.ks_2samp`` (exact up to 10,000 values a side).
        Category: chi-square, as ``scipy.stats.chi2_contingency`` over the categories that occur.
        """
        by_field = fields.T
        result = np.empty(len(self.names))
        result[self._numeric_slots] = self._numeric.p_values(by_field[self._numeric_fields])
        result[self._category_slots] = self._category.p_values(by_field[self._category_fields])
        return result


def adjust(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Benjamini-Hochberg adjusted p-values, as ``scipy.stats.false_discovery_control`` gives them."""
    order = p_values.argsort()[::-1]
    scaled = p_values[order] * _over_rank(len(p_values))
    result = np.empty_like(scaled)
    result[order] = np.minimum.accumulate(scaled)
    return result


@functools.cache
def _over_rank(count: int) -> NDArray[np.float64]:
    """``count / rank`` from the largest rank, where it is 1, down."""
    return count / np.arange(count, 0, -1)


def _reference(arrays: "np.lib.npyio.NpzFile", field: Field) -> NDArray[np.float64]:
    key = f"{'count' if field.kind == 'category' else 'ref'}:{field.name}"
    if key not in arrays:
        raise DriftError(f"{DRIFT_FILE} has no array {key!r}: write the bundle's files together")
    values: NDArray[np.float64] = arrays[key].astype(np.float64)
    expected = len(field.categories) + 1 if field.kind == "category" else max(len(values), 1)
    if values.shape != (expected,) or not np.isfinite(values).all():
        raise DriftError(f"{DRIFT_FILE}: {key!r} has shape {values.shape}; ({expected},) finite numbers are needed")
    return values
