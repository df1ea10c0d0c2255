"""The training job's tasks for a quantity: check the history, tune on the weeks before the backtest, judge, and fit."""

import logging
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.config import JobConfig
from training.hand_over import TUNING_FILE, keep_data, keep_evaluation
from training.use_case import UseCase, load

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

    from training.forecasting.door import History
    from training.registry.tracking import Tracker

log = logging.getLogger("training")

_RECIPE, _SCORE = "lifecycle_recipe", "lifecycle_score"
"""Tags of a trial's run, by which a job that goes on knows it."""


def read_data(use_case: UseCase, location: str) -> "History":
    """The checked history; raises ``DataError`` with all its faults."""
    from training.forecasting.door import CONSEQUENCE, read_history

    return read_history(use_case, location, CONSEQUENCE)


def prepare(config: JobConfig, run_key: str) -> None:
    """Check the history at the door, and keep a snapshot of it with the new parent run."""
    from training.forecasting.door import CONSEQUENCE, plan_of

    use_case = load(config.use_case)
    # Before the run is made: a bad file leaves nothing behind.
    history = read_data(use_case, config.data)
    plan = plan_of(use_case, history.frame, config.plan, CONSEQUENCE)
    _before_the_backtest(use_case, history.frame)
    log.info("%d %s, digest %s", len(history.frame), use_case.entities, history.digest)

    from training.registry import tags

    series = len(history.frame[list(use_case.forecast.key)].drop_duplicates())
    frames = {tags.SNAPSHOT_FILE: history.frame, tags.PLAN_FILE: plan}
    keep_data(
        config,
        run_key,
        use_case,
        digest=history.digest,
        rows=len(history.frame),
        figures={"data.series": series},
        params={"plan": config.plan},
        files={name: partial(frame.to_parquet, index=False) for name, frame in frames.items()},
    )


def tune(config: JobConfig, run_key: str) -> None:
    """Search on the weeks before those of the backtest, a nested run for each trial."""
    import msgspec

    from training.forecasting.recipe import Recipe
    from training.forecasting.tune import Trial, best
    from training.forecasting.tune import tune as search
    from training.registry.tracking import tracker_of

    use_case, tracker = load(config.use_case), tracker_of(config, run_key)
    with tracker.resume() as run:
        history, plan = _snapshot(tracker, run)
        recorded = {
            number: Trial(
                number=number,
                recipe=msgspec.json.decode(found[_RECIPE], type=Recipe),
                score=float(found[_SCORE]),
                seconds=0.0,
            )
            for number, found in tracker.recorded(run).items()
        }

        def record(trial: Trial) -> None:
            tracker.record(
                run,
                trial.number,
                {"score": trial.score, "seconds": trial.seconds},
                msgspec.to_builtins(trial.recipe.boosting),
                {_RECIPE: msgspec.json.encode(trial.recipe).decode(), _SCORE: repr(trial.score)},
            )

        trials = search(
            Recipe(kind="boosted", seed=config.seed),
            use_case.forecast,
            _before_the_backtest(use_case, history.frame),
            plan,
            trials=config.trials,
            seed=config.seed,
            recorded=recorded,
            record=record,
        )
        recipe, score = best(trials), min(trial.score for trial in trials)
        log.info("best of %d trials: %.4f", len(trials), score)
        handed = {"recipe": msgspec.to_builtins(recipe), "trials": len(trials), "score": score}
        tracker.write_json(run, TUNING_FILE, handed)
        tracker.log(run, {"tuning.score": score}, {}, {})


def evaluate(config: JobConfig, run_key: str) -> None:
    """Backtest beside the champion and seasonal naive, fit on all weeks, and judge."""
    import msgspec

    from training.forecasting.card import write_card
    from training.forecasting.evaluate import Champion, Tuning
    from training.forecasting.evaluate import evaluate as judge
    from training.forecasting.forecaster import read_recipe
    from training.registry import tags
    from training.registry.tracking import tracker_of
    from training.registry.versions import fetch_bundle

    use_case, tracker = load(config.use_case), tracker_of(config, run_key)
    with tracker.resume() as run:
        history, plan = _snapshot(tracker, run)
        tuning = msgspec.convert(tracker.read_json(run, TUNING_FILE), type=Tuning)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            champion = None
            if version := tracker.champion():
                bundle = fetch_bundle(version.name, version.version, folder / "champion")
                champion = Champion(version.version, read_recipe(bundle))
            made = folder / "made"
            evaluation = judge(config, use_case, history, plan, tuning, champion, made)
            (made / tags.MODEL_CARD_FILE).write_text(write_card(config, use_case, evaluation))
            tracker.client.log_artifacts(run.info.run_id, str(made))
        keep_evaluation(tracker, run, evaluation, {})


def model_arguments(bundle: Path, scratch: Path) -> dict[str, Any]:
    """How the model is logged in MLflow (``training.registry.register``)."""
    from training.forecasting.registered import arguments

    return arguments(bundle, scratch)


def _before_the_backtest(use_case: UseCase, history: "pd.DataFrame") -> "pd.DataFrame":
    """The weeks that tuning may see; raises ``TableError`` where too few of them are left."""
    from training.forecasting.backtest import rolling_origins
    from training.forecasting.evaluate import ORIGINS
    from training.forecasting.series import TableError, split

    series = use_case.forecast
    origins = rolling_origins(history, series, ORIGINS)
    known, _ = split(history, series, origins[0])
    weeks = len(known[series.time].drop_duplicates())
    needed = series.season + 2 * series.steps[-1]
    if weeks < needed:
        raise TableError(
            f"the history has {weeks} weeks up to {origins[0]}, where the backtest begins, and {needed} are needed "
            f"(a season of {series.season} and twice the way to the last week that is forecast): give more weeks"
        )
    return known


def _snapshot(tracker: "Tracker", run: "Run") -> "tuple[History, pd.DataFrame]":
    """The checked history and plan that ``prepare`` kept."""
    import pandas as pd

    from training.data.table import frame_digest
    from training.forecasting.door import History
    from training.registry import tags

    with tempfile.TemporaryDirectory() as scratch:
        frame, plan = (
            pd.read_parquet(tracker.fetch(run, name, Path(scratch))) for name in (tags.SNAPSHOT_FILE, tags.PLAN_FILE)
        )
    return History(frame, frame_digest(frame)), plan
