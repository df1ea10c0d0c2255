"""Backtest the challenger beside the champion and the seasonal naive forecast, fit it on all weeks, and judge it."""

from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from training.config import JobConfig
from training.forecasting import figures
from training.forecasting.backtest import backtest, rolling_origins
from training.forecasting.compare import compare
from training.forecasting.definition import Series
from training.forecasting.door import History
from training.forecasting.figures import Shown, percent
from training.forecasting.forecaster import Forecaster
from training.forecasting.metrics import errors_by
from training.forecasting.plots import draw_all
from training.forecasting.recipe import FIRST_CHAMPION, Recipe
from training.forecasting.reconcile import SERIES, level_name, reconcile
from training.registry import tags
from training.use_case import UseCase

ORIGINS = 2
"""Weeks from which the acceptance forecasts the whole horizon, a horizon apart: tuning sees none of what follows."""
ADDS_UP = 1e-9
"""Smallest share of a week's forecasts that is more than rounding."""
LARGEST = 10
"""Series that the pages show by themselves."""
AT_GATE = 3
"""Of these, how many the gate names."""


class Champion(msgspec.Struct, frozen=True):
    """The version in production: its models may have seen the weeks of the backtest, so its recipe is fitted again."""

    version: str
    recipe: Recipe


class Tuning(msgspec.Struct, frozen=True):
    """What ``tune`` hands over."""

    recipe: Recipe
    trials: int
    score: float
    """Of the best trial, before the weeks of the backtest."""


def evaluate(
    config: JobConfig,
    use_case: UseCase,
    history: History,
    plan: pd.DataFrame,
    tuning: Tuning,
    champion: Champion | None,
    folder: Path,
) -> dict[str, Any]:
    """Write ``bundle/`` and ``plots/`` into ``folder``; returns the content of ``evaluation.json``.

    Raises ``TableError`` for a history that is too short to be forecast.
    """
    series, frame, seed = use_case.forecast, history.frame, config.seed
    origins = rolling_origins(frame, series, ORIGINS)
    challenger = backtest(tuning.recipe, series, frame, plan, origins)
    naive = backtest(FIRST_CHAMPION, series, frame, plan, origins)
    other = backtest(champion.recipe, series, frame, plan, origins) if champion else naive
    found = compare(challenger, other, naive, series, use_case.forecast_thresholds, seed=seed)
    forecaster = Forecaster.fit(tuning.recipe, series, frame, plan)
    forecaster.save(folder / "bundle")
    draw_all(folder / tags.PLOTS_FOLDER, use_case, frame, challenger, naive, origins)
    against_champion = champion and {
        "champion_version": champion.version,
        "rows": found.challenger.rows,
        "metrics": figures.paired(challenger, other, series, seed),
        "champion_lacks": "",
    }
    weeks = frame[series.time]
    evaluation: dict[str, Any] = msgspec.to_builtins(
        {
            "verdict": "failed" if found.faults else "passed",
            "reasons": list(found.faults),
            "titles": figures.TITLES,
            "figures": list(figures.TITLES),
            "challenger": figures.measure(challenger, series, seed),
            "champion": figures.measure(other, series, seed) if champion else None,
            "comparison": against_champion,
            "plain": {
                "title": "Seasonal naive",
                "metrics": figures.measure(naive, series, seed),
                "comparison": figures.paired(challenger, naive, series, seed),
            },
            "thresholds": figures.checks(found, use_case.forecast_thresholds, has_champion=champion is not None),
            "facts": [_value_added(found.value_added), *_sums(series, forecaster, frame, plan, challenger)],
            "tables": _tables(series, challenger, naive),
            "tuning": {"trials": tuning.trials, "score": tuning.score, "recipe": tuning.recipe},
            "period": use_case.kind.period,
            "data": {
                "source": config.data,
                "digest": history.digest,
                "rows": len(frame),
                "description": _description(config.data, series, frame),
                "last_week": str(weeks.max().date()),
            },
        }
    )
    return evaluation


def _value_added(value_added: float) -> str:
    less = "less" if value_added >= 0 else "more"
    return f"Forecast value added: WAPE is {percent(abs(value_added))} {less} than that of seasonal naive"


def _sums(
    series: Series, forecaster: Forecaster, frame: pd.DataFrame, plan: pd.DataFrame, challenger: pd.DataFrame
) -> list[str]:
    """Whether the next forecasts add up over the levels, and how far the sums of the backtest were off."""
    if not series.levels:
        return []
    whole = reconcile(forecaster.forecast(frame, plan), series, forecaster.manifest.spreads)
    by_week = whole.groupby(["level", series.time])["forecast"].sum().unstack("level")
    off_by = by_week.sub(by_week[SERIES], axis=0).abs().div(by_week[SERIES].clip(lower=1.0), axis=0)
    difference = float(off_by.to_numpy().max())
    told = "add up" if difference < ADDS_UP else f"do NOT add up (they differ by up to {difference:.2g} of a week)"
    off = ", ".join(f"{level_name(level)} {percent(_wape_of(challenger, series, level))}" for level in series.levels)
    return [f"Series {told}; WAPE of the sums: {off}"]


def _wape_of(rows: pd.DataFrame, series: Series, level: tuple[str, ...]) -> float:
    sums = rows.groupby([*level, "origin", series.time])[["forecast", "actual"]].sum()
    total = sums["actual"].sum()
    return float((sums["forecast"] - sums["actual"]).abs().sum() / total) if total else float("nan")


def _description(source: str, series: Series, frame: pd.DataFrame) -> str:
    weeks, count = frame[series.time], len(frame[list(series.key)].drop_duplicates())
    return f"{source}: {len(frame)} rows of {count} series, weeks {weeks.min().date()} to {weeks.max().date()}"


def _tables(series: Series, challenger: pd.DataFrame, naive: pd.DataFrame) -> list[Shown]:
    tables = [_by_horizon(series, challenger, naive), _largest(series, challenger, naive)]
    return [table for table in tables if table.rows]


def _by_horizon(series: Series, challenger: pd.DataFrame, naive: pd.DataFrame) -> Shown:
    plain = {row["horizon"]: row for row in errors_by(naive, series, "horizon")}
    rows = [
        [
            str(row["horizon"]),
            percent(row["wape"]),
            percent(plain[row["horizon"]]["wape"]) if row["horizon"] in plain else "-",
            percent(row["bias"]),
            percent(row["coverage"]),
        ]
        for row in errors_by(challenger, series, "horizon")
    ]
    some = [rows[place] for place in sorted({0, len(rows) // 2, len(rows) - 1}) if rows]
    told = f"WAPE by weeks ahead: {', '.join(f'{weeks} {wape}' for weeks, wape, *_ in some)}."
    return Shown("Backtest by horizon", ["Weeks ahead", "WAPE", "Seasonal naive", "Bias", "Coverage"], rows, told)


def _largest(series: Series, challenger: pd.DataFrame, naive: pd.DataFrame) -> Shown:
    """The series that the most is sold of: averages over all of them hide these."""
    key = list(series.key)
    total = challenger.groupby(key)["actual"].sum().nlargest(LARGEST)
    ours, plain = ({_name(row, key): row for row in errors_by(rows, series, *key)} for rows in (challenger, naive))
    rows = []
    for values, amount in total.items():
        name = " ".join(map(str, values if isinstance(values, tuple) else (values,)))
        found = ours[name]
        other = plain[name]["wape"] if name in plain else None
        rows.append(
            [name, f"{amount:,.0f}", percent(found["wape"]), percent(other), percent(found["bias"]),
             percent(found["coverage"])]
        )  # fmt: skip
    unit = f"Actual {series.label.unit}".rstrip()
    heads = [", ".join(key), unit, "WAPE", "Seasonal naive", "Bias", "Coverage"]
    told = f"WAPE of the largest: {', '.join(f'{name} {wape}' for name, _, wape, *_ in rows[:AT_GATE])}."
    return Shown("Largest series", heads, rows, told)


def _name(row: dict[str, Any], key: list[str]) -> str:
    return " ".join(str(row[name]) for name in key)
