"""The training job's tasks for a label of two values: check the data, search, fit and judge a classifier."""

import logging
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.config import JobConfig
from training.hand_over import TUNING_FILE, keep_data, keep_evaluation
from training.use_case import UseCase, load

if TYPE_CHECKING:
    import numpy as np
    from mlflow.entities import Run
    from numpy.typing import NDArray

    from training.data.dataset import Dataset
    from training.registry.tracking import Tracker
    from training.search.ensemble import Member
    from training.search.trial_result import TrialResult
    from training.search.trials import TrialData

log = logging.getLogger("training")


def read_data(use_case: UseCase, location: str) -> "Dataset":
    """The checked table; raises ``DataError`` with all its faults."""
    from training.data.dataset import read_table

    return read_table(use_case, location)


def prepare(config: JobConfig, run_key: str) -> None:
    """Check the data at the door, and keep a snapshot of it with the new parent run."""
    from training.data.dataset import write_snapshot

    # Before the run is made: a bad file leaves nothing behind.
    use_case = load(config.use_case)
    dataset = read_data(use_case, config.data)
    log.info("%d %s, digest %s", len(dataset.frame), use_case.entities, dataset.digest)

    from training.registry import tags

    keep_data(
        config,
        run_key,
        use_case,
        digest=dataset.digest,
        rows=len(dataset.frame),
        figures={"data.positives": int(dataset.y.sum())},
        params={},
        files={tags.SNAPSHOT_FILE: lambda file: write_snapshot(dataset, file)},
    )


def tune(config: JobConfig, run_key: str) -> None:
    """Search on the development rows, a nested run for each trial, and stack the best of each family."""
    from training.search.executor import load_early

    load_early()

    import msgspec

    from training.registry.tracking import tracker_of

    tracker = tracker_of(config, run_key)
    with tracker.resume() as run:
        results, members, bias = _searched(config, tracker, run, _trial_data(config, _snapshot(config, tracker, run)))
        complete = [result for result in results if not result.pruned]
        best = max(complete, key=lambda result: (result.score, -result.number))
        tuning = {
            "members": msgspec.to_builtins(members),
            "bias": bias,
            "trials": len(results),
            "pruned": len(results) - len(complete),
            "best_roc_auc": best.score,
        }
        log.info("best: %s, with ROC AUC %.4f in the folds", best.title, best.score)
        tracker.write_json(run, TUNING_FILE, tuning)
        tracker.log(
            run,
            {"tuning.roc_auc": best.score, "tuning.pruned": tuning["pruned"]},
            {f"ensemble.{member.parameters['family']}": round(member.weight, 4) for member in members},
            {},
        )


def _trial_data(config: JobConfig, dataset: "Dataset") -> "TrialData":
    """The development rows in their folds; raises where the use case's own features could not be exported."""
    from training.data.dataset import holdout_rows
    from training.search.space import space_of
    from training.search.trial_result import REPEATS
    from training.search.trials import TrialData, split_folds

    development = dataset.take(~holdout_rows(dataset.use_case, dataset.groups))
    folds = split_folds(development.y, development.groups, REPEATS, config.seed)
    data = TrialData(development.x, development.y, folds, space_of(dataset.use_case))
    if data.space.make_features:  # only then the export is worth its import here
        from training.export.own_steps import check_convertible

        check_convertible(data.space, data.x, data.y, config.seed)
    return data


def _searched(
    config: JobConfig, tracker: "Tracker", run: "Run", data: "TrialData"
) -> "tuple[list[TrialResult], list[Member], float]":
    """All trials, each recorded while the next ones are computed, and the ensemble: its members and its bias."""
    from training.search.executor import open_engine
    from training.search.study import choose, search

    recordings: list[Future[None]] = []
    scored: dict[int, NDArray[np.float64]] = {}
    with open_engine(data, config.parallel_trials) as engine, ThreadPoolExecutor(1) as recorder:
        log.info("%d trials on engine %s", config.trials, engine.name)
        results = search(
            data,
            engine,
            trials=config.trials,
            seed=config.seed,
            recorded=tracker.recorded_trials(run),
            record=lambda result: recordings.append(recorder.submit(tracker.record_trial, run, result)),
            scored=scored,
        )
        members, bias = choose(data, engine, results, seed=config.seed, scored=scored)
    for recording in recordings:
        recording.result()
    return results, members, bias


def evaluate(config: JobConfig, run_key: str) -> None:
    """Fit, export, measure on the hold-out, and judge whether the challenger is acceptable."""
    import msgspec

    from training.evaluation.evaluate import Champion, Tuning
    from training.evaluation.evaluate import evaluate as judge
    from training.evaluation.model_card import write_card
    from training.registry import tags
    from training.registry.tracking import tracker_of
    from training.registry.versions import fetch_bundle

    tracker = tracker_of(config, run_key)
    with tracker.resume() as run:
        dataset = _snapshot(config, tracker, run)
        tuning = msgspec.convert(tracker.read_json(run, TUNING_FILE), type=Tuning)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            champion = None
            if version := tracker.champion():
                bundle = fetch_bundle(version.name, version.version, folder / "champion")
                champion = Champion(version.version, bundle)
            made = folder / "made"
            evaluation = judge(config, dataset, tuning, champion, made)
            (made / tags.MODEL_CARD_FILE).write_text(write_card(config, dataset.use_case, tuning.members, evaluation))
            tracker.client.log_artifacts(run.info.run_id, str(made))
        largest = evaluation["fairness"]["largest_gaps"] if "fairness" in evaluation else {}
        gaps = {f"fairness_gap_{name}": gap["value"] for name, gap in largest.items()}
        more = {**gaps, **evaluation["latency"], "parity": evaluation["parity"]["probability"]}
        keep_evaluation(tracker, run, evaluation, more)


def model_arguments(bundle: Path, scratch: Path) -> dict[str, Any]:
    """How the model is logged in MLflow (``training.registry.register``)."""
    from training.registry.register import classifier_arguments

    return classifier_arguments(bundle, scratch)


def _snapshot(config: JobConfig, tracker: "Tracker", run: "Run") -> "Dataset":
    """The checked data that ``prepare`` kept."""
    from training.data.dataset import read_snapshot
    from training.registry import tags

    with tempfile.TemporaryDirectory() as scratch:
        return read_snapshot(load(config.use_case), tracker.fetch(run, tags.SNAPSHOT_FILE, Path(scratch)))
