"""The chi-square test over the categories of two samples, equal to ``scipy.stats.chi2_contingency``."""

import math

import numpy as np
from numpy.typing import NDArray

_GAMMA_OF_THREE_HALVES = math.sqrt(math.pi) / 2


def p_values(observed: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """P-values of fields, one a row: counts by category of a sample and of the reference, ``[fields, categories]``.

    Rows may be padded: a category with neither sample nor reference counts is left out. With two
    categories Yates' correction applies, as in SciPy. A field with an empty sample or one category has
    nothing to tell, so its p-value is 1.
    """
    columns = observed + reference
    sizes, totals = observed.sum(axis=1), columns.sum(axis=1)
    freedom = (columns > 0).sum(axis=1) - 1
    expected = columns * (sizes / np.maximum(totals, 1))[:, None]
    yates = np.where(freedom == 1, 0.5, 0.0)[:, None]
    # Both rows of a field's table differ from what is expected by the same amount.
    difference = np.maximum(np.abs(observed - expected) - yates, 0.0)
    terms = difference * difference / np.maximum(columns, 1)
    statistic = terms.sum(axis=1) * (totals * totals / np.maximum(sizes * (totals - sizes), 1))
    return np.array(list(map(survival, statistic.tolist(), freedom.tolist())))


def survival(x: float, freedom: int) -> float:
    """P(chi-square with ``freedom`` degrees >= x): the finite sums for whole degrees of freedom."""
    if freedom <= 0 or x <= 0:
        return 1.0
    half = x / 2
    odd = freedom % 2
    total = math.erfc(math.sqrt(half)) if odd else 0.0
    term, power = math.exp(-half), odd / 2  # term: half ** power * exp(-half) / gamma(power + 1)
    if odd:
        term *= math.sqrt(half) / _GAMMA_OF_THREE_HALVES
    for _ in range(freedom // 2):
        total += term
        power += 1
        term *= half / power
    return min(total, 1.0)
