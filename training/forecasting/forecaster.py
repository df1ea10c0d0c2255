"""A fitted forecaster: what training registers, and what writes the weekly forecasts."""

from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serving.scoring.runtime import ModelError
from training.forecasting.conformal import Correction, correction
from training.forecasting.definition import Series
from training.forecasting.features import Rows, future_targets, make_rows, training_targets
from training.forecasting.intermittent import croston, tsb
from training.forecasting.models import Goal, Trees, fit_trees
from training.forecasting.recipe import Recipe
from training.forecasting.series import Panel, TableError, codes_of, make_panel

FLAGS = ("plan_assumed", "short_history")
OUTPUT = ("horizon", "forecast", "q10", "q50", "q90", "model", *FLAGS)
"""Columns of a forecast after the key and the time: horizon int64 from 1; amounts float64, at least zero and ascending
from ``q10`` to ``q90``; model ``boosted``, ``tsb``, ``croston`` or ``seasonal_naive``; ``plan_assumed`` bool, whether a
known field of the week was assumed because the plan does not list it; ``short_history`` bool, whether the series has
less than one season of weeks. ``forecast`` is the point forecast: the median, or what the recipe wants, or the mean
where a series mostly sells nothing (its median would be zero)."""
MANIFEST = "forecaster.json"
FIRST_AGE = 4
"""Weeks of a series before the first origin that is learned from."""
_OWN_WEEKS = 52
"""Weeks of an intermittent series whose own quantiles its interval begins with."""


class Spread(msgspec.Struct, frozen=True):
    """The interval of a sum of series, as logarithms of what 10% and 90% of actuals are to the forecast."""

    level: tuple[str, ...]
    low: float
    high: float


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``forecaster.json`` holds."""

    definition: Series
    recipe: Recipe
    trained_until: str
    codes: dict[str, list[Any]]
    features: tuple[str, ...]
    """Names of the columns that the models take, in order."""
    corrections: dict[str, Correction]
    """By the forecast's column ``model``."""
    spreads: tuple[Spread, ...]
    goals: tuple[Goal, ...]
    """The models that stand beside the manifest."""


class Forecaster:
    """Forecasts of every series that has not ended. Made by ``fit`` or ``load``."""

    def __init__(self, manifest: Manifest, models: dict[Goal, Trees]) -> None:
        self.manifest = manifest
        self.models = models
        self.definition = manifest.definition
        self.recipe = manifest.recipe
        self.trained_until = manifest.trained_until
        """The last week of the history that it was fitted on, an ISO date."""

    @classmethod
    def fit(cls, recipe: Recipe, definition: Series, history: pd.DataFrame, plan: pd.DataFrame) -> Self:
        """Fit on all of ``history``; the same tables and recipe give the same forecaster.

        Intervals are calibrated on rolling origins within the history, by models that have seen nothing after the first
        of them. Raises ``TableError``.
        """
        codes = codes_of(history, definition)
        panel = make_panel(history, plan, definition, codes)
        origins = calibration_origins(panel, recipe.origins)
        manifest = Manifest(
            definition=definition,
            recipe=recipe,
            trained_until=str(panel.date_of(np.array([panel.last]))[0]),
            codes=codes,
            features=(),
            corrections={},
            spreads=(),
            goals=_goals(recipe),
        )
        # How far sums are off is asked of the point forecast, and of nothing else.
        goals = manifest.goals if definition.levels else tuple(goal for goal in manifest.goals if goal != "percent")
        past = cls(manifest, _fit_models(recipe, panel.until(origins[0]), goals)[0])
        calibration = [past._rows(panel.until(origin)).assign(origin=origin) for origin in origins]
        rows = pd.concat(calibration, ignore_index=True).merge(panel.observed[["series", "t", "y"]], on=["series", "t"])
        models, names = _fit_models(recipe, panel, manifest.goals)
        return cls(
            msgspec.structs.replace(
                manifest, features=names, corrections=_corrections(rows), spreads=_spreads(rows, panel)
            ),
            models,
        )

    def forecast(self, history: pd.DataFrame, plan: pd.DataFrame, weeks: int | None = None) -> pd.DataFrame:
        """The first ``weeks`` (all of the horizon without it) after the last week of ``history`` and the gap.

        Columns: key, time, ``OUTPUT``; sorted by key and time. Of ``plan`` the rows of every week count, of ``history``
        whatever there is: a series that training has not seen is forecast too. Raises ``TableError``.
        """
        definition = self.definition
        if weeks is not None and not 1 <= weeks <= definition.horizon:
            raise TableError(f"weeks is {weeks}: from 1 to {definition.horizon} weeks can be forecast")
        panel = make_panel(history, plan, definition, self.manifest.codes)
        rows = self._rows(panel)
        rows = rows[rows["horizon"] <= (weeks or definition.horizon)].reset_index(drop=True)
        result = panel.keys.iloc[rows["series"]].reset_index(drop=True)
        result[definition.time] = panel.date_of(rows["t"].to_numpy(np.int64)).astype("datetime64[us]")
        for name in OUTPUT:
            result[name] = rows[name]
        return result.sort_values([*definition.key, definition.time], ignore_index=True)

    def save(self, folder: Path) -> None:
        """Write ``forecaster.json`` and the models, ``*.onnx``.

        Nothing in it has to be unpickled, and the same forecaster makes the same bytes.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(self.manifest), indent=1) + b"\n")
        for goal, model in self.models.items():
            (folder / f"{goal}.onnx").write_bytes(model.content)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote; raises ``OSError`` or ``TableError``."""
        manifest = _read_manifest(folder)
        try:
            models = {goal: Trees((folder / f"{goal}.onnx").read_bytes()) for goal in manifest.goals}
        except ModelError as error:
            raise TableError(f"a model in {folder.name} does not open: {error}") from error
        return cls(manifest, models)

    def _rows(self, panel: Panel) -> pd.DataFrame:
        """Forecasts from the end of a panel: ``series, t, step`` and ``OUTPUT``."""
        rows = make_rows(panel, future_targets(panel, [panel.last]))
        frame = rows.frame
        step = frame["step"].to_numpy(np.int64)
        logs, point, model = self._estimates(rows, panel)
        low, high = np.zeros(len(frame)), np.zeros(len(frame))
        for name, found in self.manifest.corrections.items():
            own = model == name
            low[own], high[own] = found.moves(step[own])
        logs["q10"], logs["q90"] = logs["q10"] - low, logs["q90"] + high
        amounts = {name: np.maximum(np.expm1(values), 0.0) for name, values in logs.items()}
        amounts["q10"] = np.minimum(amounts["q10"], amounts["q50"])
        amounts["q90"] = np.maximum(amounts["q90"], amounts["q50"])
        return pd.DataFrame(
            {
                "series": frame["series"],
                "t": frame["t"],
                "step": step,
                "horizon": step - self.definition.gap + 1,
                "forecast": point,
                **amounts,
                "model": model,
                "plan_assumed": frame["assumed"].astype(bool),
                "short_history": frame["age"] + 1 < self.definition.season,
            }
        )

    def _estimates(
        self, rows: Rows, panel: Panel
    ) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64], NDArray[np.object_]]:
        """Quantiles as logarithms before the correction, point forecasts as amounts, and the model of each row."""
        frame = rows.frame
        model = np.full(len(frame), self.recipe.kind, dtype=object)
        if self.recipe.kind == "seasonal_naive":
            same = frame["same_week"].fillna(frame["level"]).fillna(0.0).to_numpy(float)
            return {name: same.copy() for name in ("q10", "q50", "q90")}, np.expm1(same), model
        logs = {name: self.models[name].predict(rows.x) for name in ("q10", "q50", "q90")}
        # Each quantile has a model of its own, so two of them may cross.
        logs["q10"], logs["q90"] = np.minimum(logs["q10"], logs["q50"]), np.maximum(logs["q90"], logs["q50"])
        best = self.models["percent"].predict(rows.x) if "percent" in self.models else logs["q50"]
        point = np.maximum(np.expm1(best), 0.0)
        rare = frame["zeros"].to_numpy(float) > self.recipe.intermittent_zeros
        if rare.any():
            numbers, places = np.unique(frame["series"].to_numpy(np.int64)[rare], return_inverse=True)
            mean, own = _intermittent(panel, numbers, self.recipe)
            model[rare], point[rare] = self.recipe.intermittent, mean[places]
            for name, values in own.items():
                logs[name][rare] = np.log1p(values[places])
        return logs, point, model


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a saved forecaster, without loading its models; raises ``OSError`` or ``TableError``."""
    return _read_manifest(folder).recipe


def calibration_origins(panel: Panel, count: int) -> list[int]:
    """Up to ``count`` weeks whose horizon the history has, the last one last, within a third of the history.

    Raises ``TableError`` for a history that is too short to have one.
    """
    steps = panel.definition.steps
    newest = panel.last - steps[-1]
    first = int(panel.described["first"].min())
    oldest = max(first + FIRST_AGE + 2 * steps[-1], newest - (panel.last - first) // 3)
    if newest < oldest:
        raise TableError(
            f"the history has {panel.last - first + 1} weeks: to forecast {len(steps)} weeks after a gap of {steps[0]} "
            f"takes at least {FIRST_AGE + 3 * steps[-1] + 1}"
        )
    stride = max(1, min(len(steps) // 2, (newest - oldest) // max(count - 1, 1)))
    return [origin for place in range(count - 1, -1, -1) if (origin := newest - place * stride) >= oldest]


def _goals(recipe: Recipe) -> tuple[Goal, ...]:
    if recipe.kind == "seasonal_naive":
        return ()
    return ("q10", "q50", "q90", "percent") if recipe.point == "percent" else ("q10", "q50", "q90")


def _fit_models(recipe: Recipe, panel: Panel, goals: tuple[Goal, ...]) -> tuple[dict[Goal, Trees], tuple[str, ...]]:
    """The models of a recipe, fitted on all of a panel, and the names of their features."""
    if recipe.kind == "seasonal_naive":
        return {}, ()
    rows = training_rows(recipe, panel)
    y = rows.frame["y"].to_numpy(float)
    return {goal: fit_trees(rows.x, y, goal, recipe.boosting, recipe.seed) for goal in goals}, rows.names


def training_rows(recipe: Recipe, panel: Panel) -> Rows:
    """What the models of a recipe learn from; raises ``TableError`` where there is nothing."""
    targets = training_targets(panel, per_week=recipe.per_week, seed=recipe.seed, first_age=FIRST_AGE)
    if not len(targets):
        raise TableError("no series has enough weeks to learn from: give a longer history")
    return make_rows(panel, targets)


def _intermittent(
    panel: Panel, numbers: NDArray[np.int64], recipe: Recipe
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Expected quantity of some series, and the quantiles of their own last year."""
    own = panel.observed[panel.observed["series"].isin(numbers)]
    weeks = np.arange(own["t"].min(), panel.last + 1)
    y = own.pivot(index="series", columns="t", values="y").reindex(index=numbers, columns=weeks).to_numpy(float)
    recent = y[:, -_OWN_WEEKS:]
    # A series that sells nothing at all may have no known week in its last year.
    recent = np.where(np.isnan(recent).all(axis=1, keepdims=True), 0.0, recent)
    low, middle, high = np.nanquantile(recent, (0.1, 0.5, 0.9), axis=1)
    mean = tsb(y) if recipe.intermittent == "tsb" else croston(y)
    return mean, {"q10": low, "q50": middle, "q90": high}


def _corrections(rows: pd.DataFrame) -> dict[str, Correction]:
    found = {}
    for name, own in rows.groupby("model"):
        low, high, actual = (np.log1p(own[column].to_numpy(float)) for column in ("q10", "q90", "y"))
        steps, weeks = (own[column].to_numpy(np.int64) for column in ("step", "t"))
        found[str(name)] = correction(low, high, actual, steps, weeks)
    return found


def _spreads(rows: pd.DataFrame, panel: Panel) -> tuple[Spread, ...]:
    """What the sums of each level were to their forecasts, over all origins and weeks."""
    whole = rows[rows["y"].notna()].join(panel.keys, on="series")
    spreads = []
    for level in panel.definition.levels:
        sums = whole.groupby([*level, "origin", "t"])[["y", "forecast"]].sum()
        ratio = np.log1p(sums["y"]) - np.log1p(sums["forecast"])
        low, high = np.quantile(ratio, (0.1, 0.9)) if len(ratio) else (0.0, 0.0)
        spreads.append(Spread(level, float(low), float(high)))
    return tuple(spreads)


def _read_manifest(folder: Path) -> Manifest:
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except msgspec.DecodeError as error:
        raise TableError(f"{MANIFEST} of {folder.name} is not a forecaster's: {error}") from error
