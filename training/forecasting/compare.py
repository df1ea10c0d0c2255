"""Whether a challenger is good enough, and not worse than the champion."""

import msgspec
import pandas as pd

from training.forecasting.definition import ForecastThresholds, Series
from training.forecasting.metrics import Errors


class Comparison(msgspec.Struct, frozen=True):
    """A challenger's errors beside those of champion and seasonal naive, on the same rows."""

    challenger: Errors
    champion: Errors
    naive: Errors
    wape_change: float
    """WAPE of the challenger by that of the champion, less one."""
    wape_change_low: float
    wape_change_high: float
    """Ends of the 95% interval, by bootstrap over series."""
    value_added: float
    """One less WAPE of the challenger by that of seasonal naive: forecast value added."""
    faults: tuple[str, ...]
    """Thresholds that are missed, each a sentence; empty: accepted."""

    @property
    def accepted(self) -> bool:
        return not self.faults


def compare(
    challenger: pd.DataFrame,
    champion: pd.DataFrame,
    naive: pd.DataFrame,
    definition: Series,
    thresholds: ForecastThresholds,
    *,
    seed: int = 20,
) -> Comparison:
    """Compare backtests of the same origins; only rows that all three have count."""
    raise NotImplementedError
