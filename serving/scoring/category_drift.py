"""Chi-square tests of all category fields at once.

A code becomes a *cell*: 0 for a missing value, then for each field one for an unknown category and one for
each category that the contract lists.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.scoring import chi2


class CategoryDrift:
    """The references of the category drift fields. Thread-safe."""

    def __init__(self, references: Sequence[NDArray[np.float64]]) -> None:
        """``references``: each field's counts in the order of its categories, then of unknown ones."""
        lengths = np.array([len(counts) for counts in references], dtype=np.intp)
        self._first_cells = 1 + np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.intp)[: len(lengths)]
        self._cells = 1 + int(lengths.sum())
        widest = int(lengths.max(initial=0))
        # Cell of each field's each category, padded with a cell that nothing falls into.
        column = np.arange(widest)
        self._layout = np.where(column < lengths[:, None], self._first_cells[:, None] + column, self._cells)
        self._reference = np.zeros((len(references), widest))
        for row, counts in enumerate(references):
            self._reference[row, : len(counts)] = np.roll(counts, 1)  # unknown first, as code -1 is
        self._single = self._single_record_p_values()

    def p_values(self, codes: NDArray[np.float64]) -> NDArray[np.float64]:
        """One p-value a field for a sample of codes ``[fields, n]``; 1 where a field has no value at all."""
        cells = np.fmax(codes + (self._first_cells[:, None] + 1), 0).astype(np.intp)
        if cells.shape[1] == 1:
            return self._single[cells[:, 0]]
        counts = np.bincount(cells.ravel(), minlength=self._cells + 1)
        return chi2.p_values(counts[self._layout].astype(np.float64), self._reference)

    def _single_record_p_values(self) -> NDArray[np.float64]:
        """The p-value of a one-value sample, by cell."""
        p_values = np.ones(self._cells)
        for row, cells in enumerate(self._layout):
            used = np.flatnonzero(cells < self._cells)
            observed = np.eye(len(cells))[used]
            p_values[cells[used]] = chi2.p_values(observed, np.tile(self._reference[row], (len(used), 1)))
        return p_values
