"""Which nights a run closes, their copy from the export, and what the job is told."""

import logging
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from lifecycle import settings
from lifecycle.hooks.log_storage import open_source
from lifecycle.idempotency import action_key
from lifecycle.settings import Settings
from training.inference_log import landing, layout

log = logging.getLogger(__name__)

MAX_NIGHTS = 31
"""Nights that one run closes; the next run goes on with the rest."""


def tables_path(location: str) -> Any:
    """A local folder, or a folder of an object store (``abfs://connection@container/folder``)."""
    if not location:
        raise AirflowFailException("[retraining] tables is not set in the settings file: name a folder or an abfs URI")
    if "://" not in location:
        return Path(location)
    from airflow.sdk import ObjectStoragePath

    return ObjectStoragePath(location)


def nights_to_close(tables: Any, *, today: date, first: str | None = None, last: str | None = None) -> list[date]:
    """The nights of a typed range, else all since the last one that was judged, up to yesterday.

    So a run that comes after others were missed closes their nights too.
    """
    end = date.fromisoformat(last) if last else today - timedelta(days=1)
    if first:
        start = date.fromisoformat(first)
    else:
        done = [
            night
            for night in layout.partitions(tables, "nights")
            if night <= end and (layout.night_folder(tables, "nights", night) / layout.VERDICT).exists()
        ]
        start = done[-1] + timedelta(days=1) if done and not last else end
    if start > end and first:
        raise AirflowFailException(f"the range ends ({end}) before it begins ({start}): swap night_from and night_to")
    start = min(start, end)
    nights = [start + timedelta(days=number) for number in range((end - start).days + 1)]
    if len(nights) > MAX_NIGHTS:
        log.warning("%d nights are open; this run closes the first %d of them", len(nights), MAX_NIGHTS)
    return nights[:MAX_NIGHTS]


def nights_of_run(tables: Any, context: Any) -> list[date]:
    """The nights that this DAG run closes: when it is repeated, the same ones, although they are judged by then."""
    run, params = context["dag_run"], context["params"]
    key = action_key(dag_id=run.dag_id, run_id=run.run_id, task_id="land_logs", purpose="nights")
    file = tables / "runs" / f"{key}.json"
    if known := layout.read_json(file):
        return [date.fromisoformat(night) for night in known]
    today = (run.logical_date or run.run_after).date()
    nights = nights_to_close(tables, today=today, first=params.get("night_from"), last=params.get("night_to"))
    layout.write_json(file, [night.isoformat() for night in nights])
    return nights


def land_logs(context: Any) -> dict[str, Any]:
    """Copy what is new in the export for each night to close: ``{"nights": [...], "lines": n, "bytes": n}``."""
    retraining = settings.load().retraining
    tables = tables_path(retraining.tables)
    nights = nights_of_run(tables, context)
    source = open_source(retraining.container)
    back = timedelta(days=retraining.lookback_days)
    copied = [landing.land(source, tables, night, night - back, night) for night in nights]
    for manifest in copied:
        blobs = len({part.blob for part in manifest.ranges})
        log.info("night %s: %d new lines (%d bytes) in %d blobs", manifest.night, manifest.lines, manifest.bytes, blobs)
    return {
        "nights": [manifest.night for manifest in copied],
        "lines": sum(manifest.lines for manifest in copied),
        "bytes": sum(manifest.bytes for manifest in copied),
    }


def nightly_config(configured: Settings, nights: Sequence[str], *, by_hand: bool) -> dict[str, Any]:
    """What ``training/nightly_job.py`` gets as ``--config``."""
    retraining = configured.retraining
    return {
        "nights": list(nights),
        "tables": retraining.job_tables or retraining.tables,
        "outcomes": retraining.outcomes,
        "original": configured.training.data,
        "model_name": configured.model.name,
        "experiment": configured.model.experiment,
        "limits": {
            "significance": retraining.significance,
            "effect_floor": retraining.effect_floor,
            "minimum_records": retraining.minimum_records,
            "drift_windows": retraining.drift_windows,
            "live_auc_floor": retraining.live_auc_floor,
            "new_labels": retraining.new_labels,
            "pause_days": retraining.pause_days,
        },
        "by_hand": by_hand,
        "memory": retraining.memory,
        "threads": retraining.threads,
    }
