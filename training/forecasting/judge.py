"""What the weeks that have ended say of the forecasts in production, and whether that is reason enough to train."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pandas as pd

from serving.scoring.described import described
from serving.scoring.drift import adjust
from training.batch.tables import SCORES
from training.drift.statistics import numeric_difference
from training.forecasting.backtest import with_actuals
from training.forecasting.cycle import cycle_days
from training.forecasting.definition import Series
from training.forecasting.door import read_history
from training.forecasting.figures import percent
from training.forecasting.limits import ForecastLimits
from training.forecasting.metrics import errors_by, tracking_signal
from training.forecasting.score import forecast_schema
from training.forecasting.store import open_store
from training.inference_log import layout
from training.use_case import UseCase

CONSEQUENCE = "no week is judged"
FOLDER = "weeks"
_EARLIER = 60
"""Verdicts that are looked back on."""
_CYCLES = 60
"""Partitions that are read, the newest ones."""
_RECENT = 13
"""Weeks whose inputs are compared with those of the year up to the last trained week."""
_FEWEST = 4

Status = Literal["quiet", "poor", "drifted", "no actuals", "no champion"]


class Week(msgspec.Struct, frozen=True):
    """The forecasts of one week, of all the dates that they were made on, beside what came."""

    week: str
    rows: int
    wape: float | None
    """``None`` where nothing came."""
    bias: float | None
    coverage: float
    signal: float
    """Sum of the weeks' errors so far by their mean absolute value so far and the root of their number."""


class Finding(msgspec.Struct, frozen=True):
    """One input of the recent weeks beside those that the champion has learned from."""

    name: str
    rows: int
    adjusted_p_value: float
    effect: float
    drifted: bool


@described
class WeekVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict of one run (``weeks/DATE.json``)."""

    day: str
    status: Status
    champion: str
    """Version; empty before the first promotion."""
    weeks: tuple[Week, ...] = ()
    """Those that have forecasts of the champion, the oldest first."""
    poor: tuple[str, ...] = ()
    """In which ways the newest week is a poor one."""
    confirmed: tuple[str, ...] = ()
    """Those of them that the weeks before share, as many as the limits want, and inputs that drift as often."""
    findings: tuple[Finding, ...] = ()
    retrain: bool = False
    reasons: tuple[str, ...] = ()
    note: str = ""
    data: str = ""
    """What a training would take."""

    @property
    def drifted(self) -> tuple[str, ...]:
        return tuple(finding.name for finding in self.findings if finding.drifted)


class Champion(msgspec.Struct, frozen=True):
    """The version in production, and the last week that it has learned from."""

    version: str
    trained_until: str


def judge(
    use_case: UseCase, source: str, tables: Path, day: date, champion: Champion | None, limits: ForecastLimits,
    *, by_hand: bool = False,
) -> WeekVerdict:  # fmt: skip
    """Write ``weeks/DATE.json`` and return it; raises ``DataError`` for a history that cannot be read."""
    history = read_history(use_case, source, CONSEQUENCE).frame
    base = WeekVerdict(day=day.isoformat(), status="no champion", champion="", data=source)
    if champion:
        rows = _forecasts(use_case, tables, day, champion.version)
        weeks = judge_weeks(rows, history, use_case.forecast) if len(rows) else ()
        base = msgspec.structs.replace(
            base,
            status="quiet" if weeks else "no actuals",
            champion=champion.version,
            weeks=weeks,
            findings=input_drift(history, use_case.forecast, champion.trained_until, limits),
        )
    verdict = decide(base, read_verdicts(tables, before=day), limits, by_hand=by_hand)
    layout.write_json(verdict_file(tables, day), msgspec.to_builtins(verdict))
    return verdict


def judge_weeks(rows: pd.DataFrame, history: pd.DataFrame, series: Series) -> tuple[Week, ...]:
    """Each week that has ended, from forecasts with column ``origin``; the oldest first."""
    met = with_actuals(rows, history, series)
    if not len(met):
        return ()
    signals = tracking_signal(met, series).set_index(series.time)["signal"]
    return tuple(
        Week(
            week=str(pd.Timestamp(found[series.time]).date()),
            rows=found["rows"],
            wape=_known(found["wape"]),
            bias=_known(found["bias"]),
            coverage=found["coverage"],
            signal=float(signals[found[series.time]]),
        )
        for found in errors_by(met, series, series.time)
    )


def _known(figure: float) -> float | None:
    return None if np.isnan(figure) else figure


def poor_ways(week: Week, limits: ForecastLimits) -> tuple[str, ...]:
    """In which ways a week is a poor one."""
    ways = {
        "WAPE": week.wape is not None and week.wape > limits.maximum_wape,
        "bias": week.bias is not None and abs(week.bias) > limits.maximum_bias,
        "coverage": week.coverage < limits.minimum_coverage,
        "tracking signal": abs(week.signal) > limits.maximum_signal,
    }
    return tuple(name for name, poor in ways.items() if poor)


def input_drift(
    history: pd.DataFrame, series: Series, trained_until: str, limits: ForecastLimits
) -> tuple[Finding, ...]:
    """The known, unknown and describing fields of the weeks since the training, beside the same weeks a season before.

    Without a season before them, beside the last season that was trained on. Fewer than four weeks are not judged.
    """
    time = history[series.time]
    since = time[time > pd.Timestamp(trained_until)]
    weeks = since.drop_duplicates().nlargest(_RECENT)
    if len(weeks) < _FEWEST:
        return ()
    before = weeks - pd.Timedelta(weeks=series.season)
    reference = history[time.isin(before)]
    if not len(reference):
        reference = history[
            (time <= pd.Timestamp(trained_until)) & (time > pd.Timestamp(trained_until) - pd.Timedelta(weeks=52))
        ]
    recent = history[time.isin(weeks)]
    fields = (*(known.field for known in series.known), *series.unknown, *series.static)
    found = {}
    for name in fields:
        trained, (values, counts) = np.sort(reference[name].dropna().to_numpy(float)), _counted(recent[name])
        if len(trained) and len(values):
            found[name] = numeric_difference(trained, values, counts)
    if not found:
        return ()
    adjusted = adjust(np.array([one.p_value for one in found.values()]))
    return tuple(
        Finding(
            name=name,
            rows=one.n,
            adjusted_p_value=float(p),
            effect=one.effect,
            drifted=bool(p < limits.significance and one.effect >= limits.minimum_effect),
        )
        for (name, one), p in zip(found.items(), adjusted, strict=True)
    )


def _counted(values: "pd.Series[Any]") -> tuple[Any, Any]:
    return np.unique(values.dropna().to_numpy(float), return_counts=True)


def decide(
    verdict: WeekVerdict, earlier: Sequence[WeekVerdict], limits: ForecastLimits, *, by_hand: bool = False
) -> WeekVerdict:
    """Confirm what persists, and say whether to train. ``earlier``: the latest last."""
    newest = verdict.weeks[-limits.weeks :]
    ways = [set(poor_ways(week, limits)) for week in newest]
    poor = poor_ways(newest[-1], limits) if newest else ()
    persistent = set.intersection(*ways) if len(ways) == limits.weeks else set()
    before = [one for one in earlier if one.champion == verdict.champion][-(limits.weeks - 1) :]
    drift = [set(one.drifted) for one in (*before, verdict)]
    lasting = set.intersection(*drift) if len(drift) == limits.weeks else set()
    confirmed = (
        *(way for way in poor if way in persistent),
        *(name for name in verdict.drifted if name in lasting),
    )
    started = next((one for one in reversed(earlier) if one.retrain), None)
    paused = started is not None and _weeks_between(started.day, verdict.day) < limits.pause_weeks
    reasons = ["asked for by hand"] if by_hand else []
    if confirmed and not paused:
        reasons.append(f"confirmed over {limits.weeks} weeks: {', '.join(confirmed)}")
    retrain = bool(reasons)
    if not retrain:
        reasons.append(_why_not(confirmed, poor, started.day if started else ""))
    status: Status = "poor" if poor else "drifted" if verdict.drifted else verdict.status
    judged = msgspec.structs.replace(verdict, status=status, poor=poor, confirmed=confirmed, retrain=retrain)
    note = f"{_told(judged)}; {'retrain' if retrain else 'no retraining'}: {'; '.join(reasons)}"
    return msgspec.structs.replace(judged, reasons=tuple(reasons), note=note)


def _why_not(confirmed: Sequence[str], poor: Sequence[str], started: str) -> str:
    if confirmed:
        return f"{', '.join(confirmed)}, but the retraining of {started} is on its way to the gate"
    return f"not confirmed yet: {', '.join(poor)}" if poor else "no week is a poor one"


def _told(verdict: WeekVerdict) -> str:
    if not verdict.champion:
        return f"{verdict.day}: no champion"
    if not verdict.weeks:
        return f"{verdict.day}: no week that version {verdict.champion} has forecast has ended"
    last = verdict.weeks[-1]
    text = (
        f"week {last.week}, version {verdict.champion}: WAPE {percent(last.wape)}, bias {percent(last.bias)}, "
        f"coverage {percent(last.coverage)}, tracking signal {last.signal:+.1f}"
    )
    return f"{text}; inputs drift: {', '.join(verdict.drifted)}" if verdict.drifted else text


def _weeks_between(first: str, last: str) -> int:
    return (date.fromisoformat(last) - date.fromisoformat(first)) // timedelta(weeks=1)


def verdict_file(tables: Any, day: date) -> Any:
    """Where a date's verdict lies; ``tables`` may be any path that can be joined with ``/``."""
    return tables / FOLDER / f"{day.isoformat()}.json"


def read_verdicts(tables: Path, before: date) -> list[WeekVerdict]:
    """The verdicts of the dates before, the latest last."""
    files = sorted(entry.name for entry in layout.entries(tables / FOLDER))
    found = [layout.read_json(tables / FOLDER / name) for name in files if name < before.isoformat()][-_EARLIER:]
    return [msgspec.convert(content, WeekVerdict) for content in found if content is not None]


def _forecasts(use_case: UseCase, tables: Path, until: date, version: str) -> pd.DataFrame:
    """What a version has forecast up to a date, under the fields' own names, the newest partitions."""
    store = open_store(use_case, tables, forecast_schema(use_case))
    days = [day for day in cycle_days(tables) if day <= until][-_CYCLES:]
    parts = [found.to_pandas() for day in days if (found := store.read(SCORES, day)) is not None]
    if not parts:
        return pd.DataFrame()
    series, columns = use_case.forecast, use_case.columns
    rows = pd.concat(parts, ignore_index=True)
    rows = rows[rows["model_version"] == version]
    rows = rows.rename(columns={columns[name]: name for name in (*series.key, series.time)})
    dated: pd.DataFrame = rows.assign(**{name: pd.to_datetime(rows[name]) for name in (series.time, "origin")})
    return dated


def record(model_name: str, experiment: str, tables: Path, day: date, verdict: WeekVerdict) -> str:
    """Keep the verdict in MLflow as nightly verdicts are kept; returns the run's id."""
    from training.drift.record import keep, monitoring_tracker
    from training.registry import tags
    from training.trace import trace_tags

    last = verdict.weeks[-1] if verdict.weeks else None
    figures: dict[str, float] = {tags.DRIFTED_FIELDS: len(verdict.drifted)}
    shown = {}
    if last:
        named = {"wape": last.wape, "bias": last.bias, "coverage": last.coverage, "tracking_signal": last.signal}
        figures |= {name: value for name, value in named.items() if value is not None}
        shown = {
            "Week": last.week,
            "WAPE": percent(last.wape),
            "Bias": percent(last.bias),
            "Coverage": percent(last.coverage),
            "Tracking signal": f"{last.signal:+.1f}",
        }
    return keep(
        monitoring_tracker(model_name, experiment, day),
        day,
        f"week {last.week if last else day}",
        figures,
        {
            tags.NOTE: verdict.note,
            tags.VERDICT: verdict.status,
            tags.CONFIRMED: ", ".join(verdict.confirmed),
            tags.FIGURES: msgspec.json.encode(shown).decode(),
            **trace_tags(),
            "lifecycle_champion": verdict.champion,
            "lifecycle_retrain": str(verdict.retrain).lower(),
        },
        [verdict_file(tables, day)],
    )
