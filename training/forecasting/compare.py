"""Whether a challenger is good enough, and not worse than the champion."""

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.forecasting.definition import ForecastThresholds, Series
from training.forecasting.metrics import Errors, errors

RESAMPLES = 1000


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
    """Compare backtests of the same origins; only rows that all three have count.

    Raises ``ValueError`` where they have none in common.
    """
    row = [*definition.key, definition.time, "origin"]
    common = challenger[row].merge(champion[row], on=row).merge(naive[row], on=row)
    if not len(common):
        raise ValueError("the backtests have no row in common: make them from the same origins")
    challenger, champion, naive = (common.merge(rows, on=row) for rows in (challenger, champion, naive))
    ours, theirs, plain = (errors(rows, definition) for rows in (challenger, champion, naive))
    low, high = _interval(challenger, champion, definition, seed)
    comparison = Comparison(
        challenger=ours,
        champion=theirs,
        naive=plain,
        wape_change=ours.wape / theirs.wape - 1,
        wape_change_low=low,
        wape_change_high=high,
        value_added=1 - ours.wape / plain.wape,
        faults=(),
    )
    return msgspec.structs.replace(comparison, faults=tuple(_faults(comparison, thresholds)))


def _interval(challenger: pd.DataFrame, champion: pd.DataFrame, definition: Series, seed: int) -> tuple[float, float]:
    """The 95% interval of the change of WAPE: weeks of one series go together, for their errors do."""
    key = [challenger[name] for name in definition.key]
    sums = [(rows["forecast"] - rows["actual"]).abs().groupby(key).sum().to_numpy() for rows in (challenger, champion)]
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(sums[0]), (RESAMPLES, len(sums[0])))
    ours, theirs = (_resampled(errors, drawn) for errors in sums)
    changes = np.divide(ours, theirs, out=np.ones(RESAMPLES), where=theirs > 0) - 1
    low, high = np.quantile(changes, (0.025, 0.975))
    return float(low), float(high)


def _resampled(sums: NDArray[np.float64], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = sums[drawn].sum(axis=1)
    return result


def _faults(found: Comparison, thresholds: ForecastThresholds) -> list[str]:
    ours = found.challenger
    limits = (
        ("WAPE", ours.wape, None, thresholds.maximum_wape),
        ("bias", ours.bias, -thresholds.maximum_bias, thresholds.maximum_bias),
        ("RMSSE", ours.rmsse, None, thresholds.maximum_rmsse),
        ("coverage of the 80% interval", ours.coverage, thresholds.minimum_coverage, thresholds.maximum_coverage),
        ("value added over seasonal naive", found.value_added, thresholds.minimum_value_added, None),
        ("change of WAPE from the champion, high end", found.wape_change_high, None, thresholds.maximum_worse),
    )
    return [
        f"{name} is {value:.3f}, where {_allowed(low, high)} is wanted"
        for name, value, low, high in limits
        # A figure that is not a number keeps no limit.
        if not ((low is None or value >= low) and (high is None or value <= high))
    ]


def _allowed(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high:.3f}"
    return f"at least {low:.3f}" if high is None else f"{low:.3f} to {high:.3f}"
