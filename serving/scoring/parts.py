"""Whole tables a part at a time: what a model makes of its rows on the way is many times as large as they are."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

ROWS_AT_ONCE = 10_000
Number = TypeVar("Number", bound=np.floating)


def by_parts(function: Callable[[NDArray[np.float32]], NDArray[Number]], x: NDArray[np.float32]) -> NDArray[Number]:
    """``function(x)``, ``[n]``, for a function that answers for each row of ``[n, features]`` by itself."""
    if len(x) <= ROWS_AT_ONCE:
        return function(x)
    return np.concatenate([function(x[first : first + ROWS_AT_ONCE]) for first in range(0, len(x), ROWS_AT_ONCE)])
