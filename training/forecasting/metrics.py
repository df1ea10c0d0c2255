"""Errors of forecasts, from the rows of a backtest or of monitoring (``backtest.BACKTEST``)."""

from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.forecasting.definition import Series

QUANTILES = {"q10": 0.1, "q50": 0.5, "q90": 0.9}


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
    """Root of mean squared error by ``scale``, of each series from each origin, and then their mean."""
    pinball: float
    """Pinball loss of the three quantiles by sum of actuals, their mean."""
    coverage: float
    """Share of actuals from ``q10`` to ``q90``."""


def errors(rows: pd.DataFrame, definition: Series) -> Errors:
    """The errors of all rows together."""
    actual, forecast = rows["actual"].to_numpy(float), rows["forecast"].to_numpy(float)
    off = forecast - actual
    sold = actual > 0
    return Errors(
        rows=len(rows),
        mape=_share(np.abs(off[sold] / actual[sold]).sum(), sold.sum()),
        wape=_share(np.abs(off).sum(), actual.sum()),
        bias=_share(off.sum(), actual.sum()),
        rmsse=_rmsse(rows, definition),
        pinball=_share(pinball_losses(rows).sum(), actual.sum()),
        coverage=_share(((actual >= rows["q10"]) & (actual <= rows["q90"])).sum(), len(rows)),
    )


def errors_by(rows: pd.DataFrame, definition: Series, *columns: str) -> list[dict[str, Any]]:
    """Errors of each group of rows, with the group's values: by ``horizon``, by the time, by a field of the key."""
    return [
        {**dict(zip(columns, values, strict=True)), **msgspec.structs.asdict(errors(own, definition))}
        for values, own in rows.groupby(list(columns), sort=True)
    ]


def tracking_signal(rows: pd.DataFrame, definition: Series) -> pd.DataFrame:
    """A row for each week, with column ``signal``: the sum of the weeks' errors so far by their mean absolute value so
    far and by the root of their number.

    Beyond 3, or below -3, forecasts are persistently too high, or too low. Without the root, as textbooks have it,
    chance alone goes beyond any limit in time: of years without any bias, 93% go beyond 4.
    """
    off = rows["forecast"] - rows["actual"]
    weeks = off.groupby(rows[definition.time]).sum().sort_index()
    mean = weeks.abs().expanding().mean()
    counted = np.sqrt(np.arange(1, len(weeks) + 1))
    signal = np.divide(weeks.cumsum(), mean * counted, out=np.zeros(len(weeks)), where=mean > 0)
    return pd.DataFrame({definition.time: weeks.index, "signal": signal})


def pinball_losses(rows: pd.DataFrame) -> NDArray[np.float64]:
    """The mean of the quantiles' losses, ``[rows]``."""
    losses = []
    for name, share in QUANTILES.items():
        below = rows["actual"].to_numpy(float) - rows[name].to_numpy(float)
        losses.append(np.maximum(share * below, (share - 1) * below))
    mean: NDArray[np.float64] = np.mean(losses, axis=0)
    return mean


def _rmsse(rows: pd.DataFrame, definition: Series) -> float:
    squared = (rows["forecast"] - rows["actual"]) ** 2
    groups = [rows[name] for name in (*definition.key, "origin")]
    ratio = squared.groupby(groups).mean() / rows["scale"].groupby(groups).first()
    ratio = ratio[np.isfinite(ratio)]  # a series that never changed has no scale
    return float(np.sqrt(ratio).mean()) if len(ratio) else float("nan")


def _share(part: Any, whole: Any) -> float:
    return float(part) / float(whole) if whole else float("nan")
