"""P-values of the two-sample Kolmogorov-Smirnov test, equal to ``scipy.stats.ks_2samp`` without SciPy.

With samples of n and m, the statistic is a multiple of 1/lcm(n, m); callers pass that integer, ``h``.
"""

import math

import numpy as np
from numpy.typing import NDArray

EXACT_LIMIT = 10_000
"""Samples up to this size get the exact p-value, as in SciPy; larger ones Kolmogorov's limit."""

NEGLIGIBLE = 1e-13
"""Below this the exact count is not worth its time: the p-value is then given by its upper bound."""

_RESCALE_STEPS = 500  # a step doubles a count at most, and a double holds 2**1023


def p_values(h: NDArray[np.int64], n: int, m: int) -> NDArray[np.float64]:
    """P(D >= h / lcm(n, m)) for each of several statistics of samples of ``n`` and ``m``, both at least 1.

    Exact up to ``EXACT_LIMIT`` (to 1e-9 absolute), beyond it the limiting distribution, which is off by
    some thousandths at most at that size.
    """
    lcm = math.lcm(n, m)
    d = h / lcm
    if min(n, m) == 1:
        return _one_observation(h, max(n, m))
    if max(n, m) > EXACT_LIMIT:
        return _limit(d, n, m)
    # The Dvoretzky-Kiefer-Wolfowitz bound; its constant is e at most (Wei and Dudley, 2012).
    result: NDArray[np.float64] = np.minimum(1.0, math.e * np.exp(-2 * d * d * n * m / (n + m)))
    open_ = result > NEGLIGIBLE
    if open_.any():
        result[open_] = 1.0 - _inside(h[open_], min(n, m), max(n, m))
    return np.clip(result, 0.0, 1.0)


def _one_observation(h: NDArray[np.int64], m: int) -> NDArray[np.float64]:
    """One observation falls on each of the m + 1 places among the others with equal probability."""
    inside = np.maximum(2 * h - m - 1, 0)
    result: NDArray[np.float64] = 1.0 - inside / (m + 1)
    return result


def _limit(d: NDArray[np.float64], n: int, m: int) -> NDArray[np.float64]:
    """Kolmogorov's limiting distribution, 2 sum (-1)^(k-1) exp(-2 k^2 z^2)."""
    z2 = d * d * (n * m / (n + m))
    k = np.arange(1, 101)[:, None]
    series = 2 * np.sum(np.where(k % 2 == 1, 1.0, -1.0) * np.exp(-2.0 * k * k * z2), axis=0)
    return np.where(z2 < 0.04, 1.0, np.clip(series, 0.0, 1.0))  # below z = 0.2 it is 1 to 12 digits


def _inside(h: NDArray[np.int64], n: int, m: int) -> NDArray[np.float64]:
    """P(D < h / lcm) for n <= m: the share of lattice paths from (0, 0) to (n, m) that stay inside the band.

    A path is an order of the pooled sample, inside where |i/n - j/m| < h/lcm for its first i of the n and j of
    the m. After each step, row i + 2 holds for each statistic the number of ways to i that have stayed inside:
    they came from i - 1 or from i. A step moves either end of the band by one i at most, so what may have left
    it are two numbers, which are set to 0.
    """
    divisor = math.gcd(n, m)
    rise, run = m // divisor, n // divisor  # inside: |i * rise - j * run| < h, where j = step - i
    steps = np.arange(1, n + m + 1)[:, None]
    lowest = np.maximum((steps * run - h) // (rise + run) + 1, 0)
    highest = np.minimum((steps * run + h - 1) // (rise + run), n)
    count = len(h)
    left, right = (lowest.min(axis=1) + 1) * count, (highest.max(axis=1) + 4) * count
    statistic = np.arange(count)
    outside = np.concatenate([(lowest + 1) * count + statistic, (highest + 3) * count + statistic], axis=1)

    before, after = np.zeros((2, (n + 4) * count))
    before[2 * count : 3 * count] = 1.0
    exponent = 0
    for step, first, last, ends in zip(range(1, n + m + 1), left.tolist(), right.tolist(), outside, strict=True):
        np.add(before[first - count : last - count], before[first:last], out=after[first:last])
        after.put(ends, 0.0)
        before, after = after, before
        if step % _RESCALE_STEPS == 0:
            _, power = math.frexp(before.max())
            before *= 2.0**-power
            exponent += power
    orders = math.comb(n + m, n)
    excess = max(orders.bit_length() - 64, 0)
    inside = before[(n + 2) * count : (n + 3) * count]
    result: NDArray[np.float64] = np.ldexp(inside / (orders >> excess), exponent - excess)
    return result
