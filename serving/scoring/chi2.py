"""The chi-square test over the categories of two samples, equal to ``scipy.stats.chi2_contingency``."""

import math
from collections.abc import Sequence

_GAMMA_OF_THREE_HALVES = math.sqrt(math.pi) / 2


def p_value(observed: Sequence[float], reference: Sequence[float]) -> float:
    """The p-value of counts by category of a sample and of the reference.

    A category with neither is left out. With two categories Yates' correction applies, as in SciPy. An empty sample
    or one category have nothing to tell, so their p-value is 1.
    """
    size = sum(observed)
    others = sum(reference)
    if not size or not others:
        return 1.0
    share = size / (size + others)
    freedom, statistic, difference = -1, 0.0, 0.0
    for count, in_reference in zip(observed, reference, strict=True):
        column = count + in_reference
        if column:
            freedom += 1
            # Both rows of the table differ from what is expected by the same amount.
            difference = count - column * share
            statistic += difference * difference / column
    if freedom == 1 and difference:  # which is that of either category
        statistic *= (max(abs(difference) - 0.5, 0.0) / difference) ** 2
    return survival(statistic / (share * (1 - share)), freedom)


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
