"""The pictures of a forecast's training run, as PNG files."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from training.forecasting.definition import Series
from training.forecasting.metrics import errors_by
from training.use_case import UseCase

_DPI = 80
_SERIES = 4
_BEFORE = 52
"""Weeks of actuals that are drawn before a backtest."""


def draw_all(
    folder: Path,
    use_case: UseCase,
    history: pd.DataFrame,
    challenger: pd.DataFrame,
    naive: pd.DataFrame,
    origins: Sequence[date],
) -> None:
    """Write the errors by horizon and the largest series, with what was forecast, into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    draw_horizons(folder / "horizons.png", use_case.forecast, challenger, naive)
    newest = challenger[challenger["origin"] == pd.Timestamp(max(origins))]
    draw_largest(folder / "largest.png", use_case.forecast, history, newest)


def draw_horizons(file: Path, series: Series, challenger: pd.DataFrame, naive: pd.DataFrame) -> None:
    figure, axes = plt.subplots(figsize=(7, 4))
    for name, rows in (("challenger", challenger), ("seasonal naive", naive)):
        found = errors_by(rows, series, "horizon")
        axes.plot([row["horizon"] for row in found], [100 * row["wape"] for row in found], marker="o", label=name)
    axes.set(xlabel="Weeks ahead", ylabel="WAPE in %", title="Backtest by horizon", ylim=(0, None))
    axes.legend()
    _save(figure, file)


def draw_largest(file: Path, series: Series, history: pd.DataFrame, newest: pd.DataFrame) -> None:
    """Actuals, and the newest backtest with its interval, of the series that the most was sold of."""
    key = list(series.key)
    largest = newest.groupby(key)["actual"].sum().nlargest(_SERIES).index
    figure, panels = plt.subplots(max(len(largest), 1), 1, figsize=(9, 2.6 * max(len(largest), 1)), squeeze=False)
    for axes, values in zip(panels[:, 0], largest, strict=False):
        wanted = dict(zip(key, values if isinstance(values, tuple) else (values,), strict=True))
        seen, forecast = (_of(rows, wanted).sort_values(series.time) for rows in (history, newest))
        seen = seen.tail(_BEFORE + series.horizon)
        axes.plot(seen[series.time], seen[series.label.field], color="black", linewidth=1, label="actual")
        axes.plot(forecast[series.time], forecast["forecast"], color="tab:blue", label="forecast")
        axes.fill_between(forecast[series.time], forecast["q10"], forecast["q90"], alpha=0.25, label="80% interval")
        title = ", ".join(f"{name} {value}" for name, value in wanted.items())
        axes.set(title=title, ylabel=series.label.unit, ylim=(0, None))
        axes.legend(loc="upper left", fontsize="small")
    _save(figure, file)


def _of(rows: pd.DataFrame, wanted: dict[str, object]) -> pd.DataFrame:
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    return rows


def _save(figure: Figure, file: Path) -> None:
    figure.tight_layout()
    figure.savefig(file, dpi=_DPI)
    plt.close(figure)
