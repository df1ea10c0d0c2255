"""The figures that acceptance and the gate show: errors with intervals, and two models compared, over series.

What differs between two drawings of such data is which series there are: weeks of one series go together, for their
errors do. So the bootstrap draws series, and every figure is a sum over series by another sum over them.
"""

from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.evaluation.acceptance import Check
from training.evaluation.binary import INTERVAL, Comparison, Estimate
from training.forecasting.compare import RESAMPLES
from training.forecasting.compare import Comparison as Compared
from training.forecasting.definition import ForecastThresholds, Series
from training.forecasting.metrics import Errors, pinball_losses

TITLES = {
    "wape": "WAPE",
    "bias": "Bias",
    "rmsse": "RMSSE",
    "pinball": "Pinball loss",
    "coverage": "Coverage of the 80% interval",
}
"""What people call each figure, the most important one first."""
COVERED = 0.8
"""Share of actuals that the interval is meant to hold."""
_PARTS = {
    "wape": ("absolute", "actual"),
    "bias": ("off", "actual"),
    "rmsse": ("roots", "groups"),
    "pinball": ("losses", "actual"),
    "coverage": ("inside", "rows"),
}
_Drawn = NDArray[np.float64]


def measure(rows: pd.DataFrame, definition: Series, seed: int) -> dict[str, Estimate]:
    """Each figure of a backtest with its 95% interval."""
    sums = _sums(rows, definition)
    return {name: _estimate(*_figure(sums, name, seed)) for name in TITLES}


def paired(challenger: pd.DataFrame, other: pd.DataFrame, definition: Series, seed: int) -> dict[str, Comparison]:
    """Challenger less the other model, over the same series of the same origins, and how often it is the better one."""
    index = [*definition.key, definition.time, "origin"]
    common = challenger[index].merge(other[index], on=index)
    ours, theirs = (_sums(common.merge(rows, on=index), definition) for rows in (challenger, other))
    found = {}
    for name in TITLES:
        (mine, drawn), (its, drawn_its) = _figure(ours, name, seed), _figure(theirs, name, seed)
        better = _off(name, drawn) < _off(name, drawn_its)
        our_distance, their_distance = _off(name, np.array([mine, its])).round(6)
        worse = bool(our_distance > their_distance)
        found[name] = Comparison(_estimate(mine - its, drawn - drawn_its), float(better.mean()), worse)
    return found


def checks(found: Compared, thresholds: ForecastThresholds, *, has_champion: bool) -> list[Check]:
    """Each threshold beside the challenger's figure."""
    ours: Errors = found.challenger
    low = found.wape_change_high
    rows: list[tuple[str, str, float]] = [
        ("maximum_wape", TITLES["wape"], ours.wape),
        ("maximum_bias", "Bias, whatever its sign", abs(ours.bias)),
        ("maximum_rmsse", TITLES["rmsse"], ours.rmsse),
        ("minimum_coverage", TITLES["coverage"], ours.coverage),
        ("maximum_coverage", TITLES["coverage"], ours.coverage),
        ("minimum_value_added", "Forecast value added over seasonal naive", found.value_added),
    ]
    than = "the champion" if has_champion else "seasonal naive, the first champion"
    rows.append(("maximum_worse", f"Change of WAPE from {than}, high end of the 95% interval", low))
    return [_check(name, title, value, float(getattr(thresholds, name))) for name, title, value in rows]


def _check(name: str, title: str, value: float, limit: float) -> Check:
    if name.startswith("minimum"):
        return Check(name, title, "minimum", value, limit, value >= limit)
    return Check(name, title, "maximum", value, limit, value <= limit)


def _sums(rows: pd.DataFrame, definition: Series) -> pd.DataFrame:
    """A row for each series, with the sums that the figures are made of."""
    key = list(definition.key)
    off = rows["forecast"] - rows["actual"]
    parts = rows[key].assign(
        absolute=off.abs(),
        off=off,
        actual=rows["actual"],
        losses=pinball_losses(rows),
        inside=(rows["actual"] >= rows["q10"]) & (rows["actual"] <= rows["q90"]),
        rows=1,
    )
    sums = parts.groupby(key).sum()
    groups = [rows[name] for name in (*key, "origin")]
    ratio = (off**2).groupby(groups).mean() / rows["scale"].groupby(groups).first()
    roots = (ratio[np.isfinite(ratio)] ** 0.5).groupby(level=key)
    return sums.assign(roots=roots.sum(), groups=roots.size()).fillna(0.0).astype(float)


def _figure(sums: pd.DataFrame, name: str, seed: int) -> tuple[float, _Drawn]:
    """A figure, and the figure in each resample, ``[RESAMPLES]``."""
    upper, lower = (sums[part].to_numpy() for part in _PARTS[name])
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), RESAMPLES)
    drawn = _ratio(weights @ upper, weights @ lower)
    return float(_ratio(upper.sum(keepdims=True), lower.sum(keepdims=True))[0]), drawn


def _ratio(upper: _Drawn, lower: _Drawn) -> _Drawn:
    result: _Drawn = np.divide(upper, lower, out=np.full(len(upper), np.nan), where=lower > 0)
    return result


def _estimate(value: float, drawn: _Drawn) -> Estimate:
    low, high = np.nanquantile(drawn, INTERVAL)
    return Estimate(*(round(float(figure), 6) for figure in (value, low, high)))


def _off(name: str, drawn: _Drawn) -> _Drawn:
    """How far a figure is from the best that it could be."""
    best = COVERED if name == "coverage" else 0.0
    return np.abs(drawn - best)


class Shown(msgspec.Struct, frozen=True):
    """A table that the pages show beside the figures: every cell is a text."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    gate: str
    """What the gate says of it, in one short sentence: there is no room for tables."""


def percent(value: Any) -> str:
    """A share as people read it."""
    return "-" if value is None or not np.isfinite(value) else f"{100 * value:.1f}%"
