"""What the training job's tasks keep with the parent run, whatever the kind of the label."""

import logging
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.config import JobConfig
from training.use_case import UseCase

if TYPE_CHECKING:
    from mlflow.entities import Run

    from training.registry.tracking import Tracker

log = logging.getLogger("training")

TUNING_FILE = "tuning.json"
"""What ``tune`` has chosen."""


def keep_data(
    config: JobConfig,
    run_key: str,
    use_case: UseCase,
    *,
    digest: str,
    rows: int,
    figures: Mapping[str, float],
    params: Mapping[str, Any],
    files: Mapping[str, Callable[[Path], None]],
) -> None:
    """Make the parent run of checked data, and keep a snapshot of that with it.

    ``figures`` and ``params`` are logged beside those of every training; ``files`` are artifacts by path, each with
    what writes it.
    """
    from training.registry import tags
    from training.registry.tracking import describe_environment, tracker_of

    tracker = tracker_of(config, run_key)
    began = datetime.now(UTC)
    run = tracker.start(
        {
            # MLflow lists a run's tags in the order in which they were first written.
            tags.ABOUT: "under way, or given up before the evaluation",
            tags.DATA_DIGEST: digest,
            tags.GIT_REVISION: config.git_revision,
            tags.CODE_HASH: config.code_hash,
            "mlflow.source.git.commit": config.git_revision,
            "mlflow.source.name": "training/training_job.py",
            "mlflow.source.type": "JOB",
        },
        name=f"{use_case.name} on {config.data.rstrip('/').rpartition('/')[2]}, {began:%Y-%m-%d %H:%M} UTC",
    )
    tracker.log(
        run,
        {"data.rows": rows, **figures},
        {"trials": config.trials, "seed": config.seed, "force": config.force, "data": config.data, **params},
        {},
    )
    tracker.log_dataset(run, name=use_case.entities, digest=digest, source=config.data, rows=rows, context="training")
    with tempfile.TemporaryDirectory() as scratch:
        for artifact, write in files.items():
            file = Path(scratch) / Path(artifact).name
            write(file)
            tracker.client.log_artifact(run.info.run_id, str(file), str(Path(artifact).parent))
    tracker.client.log_text(run.info.run_id, describe_environment(), "environment.txt")


def keep_evaluation(
    tracker: "Tracker", run: "Run", evaluation: Mapping[str, Any], figures: Mapping[str, float]
) -> None:
    """Log the challenger's figures with their intervals, ``figures`` beside them, and the verdict with its reasons."""
    from training.registry import tags

    # MLflow draws each figure; those with a "/" in their name are in a section of their own, which people can fold.
    metrics = {name: figure["value"] for name, figure in evaluation["challenger"].items()}
    metrics |= {
        f"interval/{name}_{end}": figure[end]
        for name, figure in evaluation["challenger"].items()
        for end in ("low", "high")
    }
    reasons = "; ".join(evaluation["reasons"])
    verdict = {
        tags.VERDICT: evaluation["verdict"],
        "lifecycle_reasons": reasons or "none",
        tags.ABOUT: f"evaluation {evaluation['verdict']}{reasons and ': '}{reasons}",
    }
    tracker.log(run, {**metrics, **figures}, {}, verdict)
    # Last: the file says that the evaluation is complete.
    tracker.write_json(run, tags.EVALUATION_FILE, evaluation)
    log.info("verdict: %s %s", evaluation["verdict"], reasons)
