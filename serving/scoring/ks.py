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

_RESCALE_ROWS = 16  # rows between rescalings: a count grows at most by the window's width, 20,000, a row


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

    A path is an order of the pooled sample. Row i holds, for each statistic and for each j in a window
    around the diagonal, the number of paths to (i, j) with |i/n - j/m| < h/lcm; the next row is its running
    sum within the band. All statistics go through one loop of n vector steps.
    """
    divisor = math.gcd(n, m)
    rise, run = m // divisor, n // divisor  # inside: |i * rise - j * run| < h
    reach = int(h.max()) // run + 1
    width = 2 * reach + 1
    column = np.arange(width, dtype=np.int64) * run
    limit = h[:, None]

    base = -reach  # j of the window's first column
    below = column + base * run  # j * run - i * rise
    paths = ((below >= 0) & (below < limit)).astype(np.float64)
    scratch = np.empty_like(paths)
    share, exponent = np.ones(len(h)), np.zeros(len(h), dtype=np.int64)
    for i in range(1, n + 1):
        shift = i * rise // run - reach - base
        base += shift
        below = column + (base * run - i * rise)
        kept = (below > -limit) & (below + rise < limit)  # in the band of this row and of the one before
        scratch[:, max(width - shift, 0) :] = 0.0
        if shift < width:
            np.multiply(paths[:, shift:], kept[:, : width - shift], out=scratch[:, : width - shift])
        np.cumsum(scratch, axis=1, out=paths)
        share *= i / (m + i)  # all orders: binomial(n + m, n), one factor a row
        if i % _RESCALE_ROWS == 0 or i == n:
            top = paths.max(axis=1)
            if not top.all():
                top[top == 0] = 1.0  # no path is left for this statistic
            _, power = np.frexp(top)
            paths = np.ldexp(paths, -power[:, None])
            share, shared = np.frexp(share)
            exponent += power + shared
    ends = paths[:, m - base]
    result: NDArray[np.float64] = np.ldexp(ends * share, np.maximum(exponent, -1100).astype(np.int32))
    return result
