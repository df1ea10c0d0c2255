"""What tests of the nightly run begin with: a champion in the registry, its answers in the export, HR's outcomes."""

import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient

from serving.scoring.bundle import Bundle
from tests.support.simulate import Export, log_lines
from training.data.dataset import Dataset, snapshot_digest, write_snapshot
from training.registry import tags
from training.registry.register import register
from training.registry.tracking import Tracker
from training.use_case import UseCase
from use_cases.attrition import USE_CASE as ATTRITION


def register_champion(bundle: Path, data: Dataset, experiment: str, use_case: UseCase = ATTRITION) -> MlflowClient:
    """Register ``bundle`` as version 1, trained on ``data``, and as what production runs.

    MLflow's tracking and registry addresses are those of the process; returns a client of theirs.
    """
    tracker = Tracker(experiment=experiment, model_name=use_case.model_name, run_key="training-1")
    run = tracker.start({})
    with tempfile.TemporaryDirectory() as scratch:
        snapshot = Path(scratch) / Path(tags.SNAPSHOT_FILE).name
        write_snapshot(data, snapshot)
        tracker.client.log_artifact(run.info.run_id, str(snapshot), str(Path(tags.SNAPSHOT_FILE).parent))
        digest = snapshot_digest(snapshot)
    version_tags = {
        tags.RUN_KEY: tracker.run_key,
        tags.TRAINING_RUN_ID: run.info.run_id,
        tags.DATA_DIGEST: digest,
    }
    version = register(tracker, run, bundle, version_tags)
    tracker.client.set_registered_model_alias(use_case.model_name, tags.CHAMPION, version.version)
    return tracker.client


def export_answers(
    export: Export, champion: Bundle, night: date, rows: pd.DataFrame, *, client: str = "hr", request_id: str = "night"
) -> None:
    """One request of that day with all of these rows, answered by the champion; the night's export is complete."""
    when = datetime(night.year, night.month, night.day, 9, tzinfo=UTC)
    records = rows.drop(columns=export.use_case.label.field).to_dict("records")
    answer = champion.score(records)
    for line in log_lines(
        records, answer.classifier__predictions, answer.outliers__score, when=when, request_id=f"{request_id}-{night}",
        client=client, version="1", use_case=export.use_case,
    ):  # fmt: skip
        export.deliver(line, when, night)
    export.close(night)


def write_outcomes(feed: Path, rows: pd.DataFrame, effective: date | str, use_case: UseCase = ATTRITION) -> None:
    """What HR reports of these people, in a feed folder that is made."""
    feed.mkdir(parents=True)
    outcomes = rows[[use_case.key, use_case.label.field]].assign(effective_date=str(effective))
    outcomes.to_csv(feed / "november.csv", index=False)
