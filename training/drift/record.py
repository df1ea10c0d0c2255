"""Keep a night's verdict and report in MLflow, one run for each night, found by its night."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from mlflow.entities import Metric, RunTag

from training.drift.verdict import Verdict
from training.inference_log import layout
from training.registry import tags
from training.registry.tracking import Tracker
from training.trace import trace_tags


def monitoring_tracker(model_name: str, experiment: str, night: date) -> Tracker:
    """What keeps the night's run in the experiment ``<experiment>-monitoring``."""
    return Tracker(experiment=f"{experiment}-monitoring", model_name=model_name, run_key=f"night-{night.isoformat()}")


def record(tracker: Tracker, tables: Path, night: date, verdict: Verdict) -> str:
    """Log verdict, report and figures; returns the run's id. The same night again replaces its own."""
    folder = layout.night_folder(tables, "nights", night)
    return keep(
        tracker,
        night,
        f"night {night.isoformat()}",
        _figures(verdict),
        {
            tags.ABOUT: verdict.note,
            tags.NOTE: verdict.note,
            tags.VERDICT: verdict.status,
            tags.CONFIRMED: ", ".join(verdict.confirmed),
            **trace_tags(),
            "lifecycle_champion": verdict.champion,
            "lifecycle_retrain": str(verdict.retrain).lower(),
        },
        [folder / name for name in (layout.VERDICT, layout.REPORT)],
    )


def keep(
    tracker: Tracker,
    night: date,
    name: str,
    figures: Mapping[str, float],
    run_tags: Mapping[str, str],
    files: Sequence[Path],
) -> str:
    """Find or make the run of a judged night (or date), and log what it says; returns the run's id."""
    run = tracker.find()
    if run is None:
        # Dated by the night, so that a night that is caught up later keeps its place in the list; but never ahead,
        # as the night of today would be, for MLflow would show that its run lasted less than nothing.
        closed = min(datetime.combine(night + timedelta(days=1), time(), UTC), datetime.now(UTC))
        run = tracker.client.create_run(
            tracker.experiment_id,
            run_name=name,
            start_time=int(closed.timestamp() * 1000),
            tags={
                **({tags.ABOUT: run_tags[tags.ABOUT]} if tags.ABOUT in run_tags else {}),
                tags.WINDOW: night.isoformat(),
                tags.RUN_KEY: tracker.run_key,
            },
        )
    run_id = str(run.info.run_id)
    now = int(datetime.now(UTC).timestamp() * 1000)
    tracker.client.log_batch(
        run_id,
        metrics=[Metric(metric, value, now, 0) for metric, value in figures.items()],
        tags=[RunTag(key, value) for key, value in run_tags.items()],
    )
    for file in files:
        tracker.client.log_artifact(run_id, str(file))
    tracker.client.set_terminated(run_id)
    return run_id


def _figures(verdict: Verdict) -> dict[str, float]:
    figures: dict[str, float] = {
        "records": verdict.records,
        "judged": verdict.used,
        "labels": verdict.labels,
        "rejected_outcomes": verdict.rejected_outcomes,
        tags.DRIFTED_FIELDS: len(verdict.drifted),
    }
    if verdict.findings:
        figures["largest_effect"] = max(one.effect for one in verdict.findings)
        figures["largest_psi"] = max(one.psi for one in verdict.findings)
    if verdict.outliers:
        figures["outlier_rate"] = verdict.outliers.share
    if verdict.quality and verdict.quality.roc_auc and verdict.quality.calibration_error:
        figures["live_roc_auc"] = verdict.quality.roc_auc.value
        figures["live_calibration_error"] = verdict.quality.calibration_error.value
    if verdict.counts.get("read"):
        figures["quarantine_share"] = verdict.counts["quarantined"] / verdict.counts["read"]
    return figures
