"""Chi-square tests of all category fields at once.

A code becomes a *cell*: 0 for a missing value, then for each field one for an unknown category and one for
each category that the contract lists.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.scoring import chi2


class CategoryDrift:
    """The references of the category drift fields. Thread-safe."""

    def __init__(self, references: Sequence[NDArray[np.float64]]) -> None:
        """``references``: each field's counts in the order of its categories, then of unknown ones."""
        lengths = [len(counts) for counts in references]
        ends = list(itertools.accumulate(lengths, initial=1))
        self._own_cells = [slice(first, end) for first, end in itertools.pairwise(ends)]
        self._count = ends[-1]
        self._shift = np.array(ends[:-1])[:, None] + 1.0  # of codes, which begin with -1 for an unknown category
        self._references = [np.roll(counts, 1).tolist() for counts in references]
        self._single = self._single_record_p_values()

    def p_values(self, codes: NDArray[np.float64]) -> list[float]:
        """One p-value for each field of a sample of codes ``[fields, n]``; 1 where a field has no value at all."""
        cells = np.fmax(codes + self._shift, 0).astype(np.intp)
        if cells.shape[1] == 1:
            return [self._single[cell] for cell in cells[:, 0].tolist()]
        counts = np.bincount(cells.ravel(), minlength=self._count).tolist()
        return [
            chi2.p_value(counts[own], reference)
            for own, reference in zip(self._own_cells, self._references, strict=True)
        ]

    def _single_record_p_values(self) -> list[float]:
        """The p-value of a one-value sample, by cell."""
        p_values = [1.0]
        for reference in self._references:
            one_of_each = np.eye(len(reference)).tolist()
            p_values += [chi2.p_value(observed, reference) for observed in one_of_each]
        return p_values
