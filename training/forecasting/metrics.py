"""Errors of forecasts, from the rows of a backtest or of monitoring (``backtest.BACKTEST``)."""

from typing import Any

import msgspec
import pandas as pd

from training.forecasting.definition import Series


class Errors(msgspec.Struct, frozen=True):
    """Errors of some rows, as shares (0.2 is 20%); NaN where there is nothing to divide by."""

    rows: int
    mape: float
    """Mean of absolute error by actual, over rows whose actual is not zero."""
    wape: float
    """Sum of absolute errors by sum of actuals."""
    bias: float
    """Sum of errors (forecast less actual) by sum of actuals: above zero, too much was forecast."""
    rmsse: float
    """Root of mean squared error by ``scale``, the mean over series."""
    pinball: float
    """Pinball loss of the three quantiles by sum of actuals, their mean."""
    coverage: float
    """Share of actuals from ``q10`` to ``q90``."""


def errors(rows: pd.DataFrame, definition: Series) -> Errors:
    """The errors of all rows together."""
    raise NotImplementedError


def errors_by(rows: pd.DataFrame, definition: Series, *columns: str) -> list[dict[str, Any]]:
    """Errors of each group of rows, with the group's values: by ``horizon``, by the time, by a field of the key."""
    raise NotImplementedError


def tracking_signal(rows: pd.DataFrame, definition: Series) -> pd.DataFrame:
    """Columns time, ``signal``: sum of errors so far by mean absolute error so far, over weeks; beyond 4 it is biased."""
    raise NotImplementedError
