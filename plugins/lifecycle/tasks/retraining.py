"""The tasks of the nightly DAG: which nights a run closes, their copy from the export, and what follows from them."""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from airflow.sdk import get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from lifecycle import settings, task_links
from lifecycle.alerts import Alert, send_once
from lifecycle.evidence import cost
from lifecycle.hooks import airflow_api, registry, targets
from lifecycle.idempotency import action_key
from lifecycle.tasks import metering
from training.inference_log import layout
from training.registry import tags

if TYPE_CHECKING:
    from training.drift.verdict import Verdict

log = logging.getLogger(__name__)

_TAG_LIMIT = 4_000
"""Characters of a tag that every MLflow server takes."""
MAX_NIGHTS = 31
"""Nights that one run closes; the next run goes on with the rest."""


def tables_path(use_case: str) -> Any:
    """A local folder, or a folder of an object store (``abfs://connection@container/folder``)."""
    location = settings.load().of(use_case).tables
    if not location:
        raise AirflowFailException(
            f"the settings file names no tables for use case {use_case}: set tables in [every_use_case] or "
            f"[use_cases.{use_case}] to a folder or an abfs URI"
        )
    if "://" not in location:
        return Path(location)
    from airflow.sdk import ObjectStoragePath

    return ObjectStoragePath(location)


def nights_to_close(tables: Any, *, today: date, first: str | None = None, last: str | None = None) -> list[date]:
    """The nights of a typed range, or every open one up to ``last`` or yesterday.

    Open is what came after a judged night and has not been judged: so a run that comes after others were missed closes
    their nights too, and so does one that comes after a typed night lay ahead of open ones. A gap of more than
    ``MAX_NIGHTS`` nights ago stays as it is.
    """
    end = date.fromisoformat(last) if last else today - timedelta(days=1)
    nights = _typed(date.fromisoformat(first), end) if first else _open(tables, end)
    if len(nights) > MAX_NIGHTS:
        log.warning("%d nights are open; this run closes the first %d of them", len(nights), MAX_NIGHTS)
    return nights[:MAX_NIGHTS]


def _typed(start: date, end: date) -> list[date]:
    if start > end:
        raise AirflowFailException(f"the range ends ({end}) before it begins ({start}): swap night_from and night_to")
    nights = _days(start, end)
    if len(nights) > MAX_NIGHTS:
        raise AirflowFailException(
            f"the range {start} to {end} has {len(nights)} nights, and a run closes at most {MAX_NIGHTS}: "
            "close it in parts, the earliest first"
        )
    return nights


def _open(tables: Any, end: date) -> list[date]:
    """The nights up to ``end`` that are open; that one again where none is."""
    judged = [
        night
        for night in layout.partitions(tables, "nights")
        if night <= end and (layout.night_folder(tables, "nights", night) / layout.VERDICT).exists()
    ]
    if not judged:
        return [end]
    since = max(judged[0], min(judged[-1], end - timedelta(days=MAX_NIGHTS)))
    return [night for night in _days(since, end) if night not in judged] or [end]


def _days(start: date, end: date) -> list[date]:
    return [start + timedelta(days=number) for number in range((end - start).days + 1)]


def nights_of_run(tables: Any, context: Any) -> list[date]:
    """The nights that this DAG run closes: when it is repeated, the same ones, although they are judged by then."""
    nights = once_a_run(tables, context, "land_logs", "nights", lambda: _open_nights(tables, context))
    return [date.fromisoformat(night) for night in nights]


def once_a_run(tables: Any, context: Any, task_id: str, purpose: str, decide: Callable[[], Any]) -> Any:
    """What a DAG run has decided about ``purpose``, as JSON: ``decide`` is asked in its first try alone."""
    run = context["dag_run"]
    key = action_key(dag_id=run.dag_id, run_id=run.run_id, task_id=task_id, purpose=purpose)
    file = tables / "runs" / f"{key}.json"
    kept = layout.read_json(file)
    if kept is None:
        kept = decide()
        layout.write_json(file, kept)
    return kept


def _open_nights(tables: Any, context: Any) -> list[str]:
    run, params = context["dag_run"], context["params"]
    today = (run.logical_date or run.run_after).date()
    found = nights_to_close(tables, today=today, first=params.get("night_from"), last=params.get("night_to"))
    nights = [night.isoformat() for night in found]
    try:
        layout.check_nights(nights, datetime.now(UTC).date())
    except layout.NightError as error:
        raise AirflowFailException(str(error)) from error
    return nights


@task
def land_logs(use_case: str) -> dict[str, Any]:
    """Copy the new lines of the export, night by night: ``{"nights": [...], "lines": n, "bytes": n}``."""
    # Imported here: pyarrow takes a while, and DAG files import this module.
    from lifecycle.hooks.log_storage import open_source
    from training.inference_log import landing

    retraining, tables = settings.load().retraining, tables_path(use_case)
    nights = nights_of_run(tables, get_current_context())
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


def read_verdict(tables: Any, night: str) -> "Verdict":
    """The verdict that the job has written; fails where there is none."""
    from training.drift.verdict import Verdict

    folder = layout.night_folder(tables, "nights", date.fromisoformat(night))
    content = layout.read_json(folder / layout.VERDICT)
    if content is None:
        raise AirflowFailException(
            f"night {night} has no {layout.VERDICT} in {folder}, although the job succeeded: "
            "do tables and job_tables of the settings file name the same place?"
        )
    return msgspec.convert(content, Verdict)


@task
def decide(use_case: str, nights: Sequence[str]) -> dict[str, str]:
    """Write the note, send alerts, and return what to train (``{"run_id", "data", "why"}``), or skip."""
    context: Any = get_current_context()
    tables = tables_path(use_case)
    verdicts = [read_verdict(tables, night) for night in nights]
    last = verdicts[-1]
    run = context["dag_run"]
    airflow_api.tell(context, "\n".join(verdict.note for verdict in reversed(verdicts)))
    silent = any(verdict.status == "no records" for verdict in verdicts)
    up = service_is_up(use_case) if silent else False
    for verdict in verdicts:
        alerts = alerts_of(use_case, verdict, service_up=up)
        send_once(tables, alerts)
        if alerts:
            text = "; ".join(f"{alert.kind}: {alert.text}" for alert in alerts)
            registry.mark_night(use_case, verdict.night, tags.ALERTS, text[:_TAG_LIMIT])
    used = metering.of_nights(context, use_case, len(verdicts), sum(verdict.records for verdict in verdicts))
    if kept := registry.mark_night(use_case, last.night, tags.COST, cost.sentence(used)):
        task_links.show(context["ti"], task_links.of_run(kept.info.experiment_id, kept.info.run_id))
    if not (wanted := [verdict for verdict in verdicts if verdict.retrain]):
        raise AirflowSkipException(last.note)
    # Nights that were caught up together lead to one training, on the newest table.
    by_hand = f"__{run.run_id}" if context["params"].get("retrain") else ""
    why = "; ".join(wanted[-1].reasons)
    return {"run_id": f"retrain__{wanted[-1].night}{by_hand}", "data": last.data, "why": why}


def alerts_of(use_case: str, verdict: "Verdict", *, service_up: bool) -> list[Alert]:
    """What people should hear of this night."""
    from training.drift.losses import losses

    configured = settings.load()
    limits = configured.of(use_case).drift
    texts = {}
    if verdict.confirmed:
        names = ", ".join(verdict.confirmed)
        texts["drift"] = f"Drift is confirmed over {limits.drift_windows} nights: {names}"
    if verdict.quality and verdict.quality.lost and (auc := verdict.quality.roc_auc):
        interval = f"95% {auc.low:.3f} to {auc.high:.3f}"
        texts["quality"] = f"Live AUC is {auc.value:.3f} ({interval}), at least {limits.minimum_live_auc} is expected"
    if not verdict.records and service_up:
        own = f", beside {verdict.own} of the release's own verification" if verdict.own else ""
        texts["silence"] = (
            f"The service is up, but no client's record was exported for the whole day{own}: check the export rule"
        )
    lines, limit = verdict.counts.get("read", 0), configured.retraining.quarantine_share
    unreadable = verdict.counts.get("quarantined", 0) > limit * lines
    for one in losses(verdict, limits):
        if one.grave or (one.kind == "quarantine" and unreadable):
            texts[one.kind] = f"{texts[one.kind]}; {one.text}" if one.kind in texts else one.text
    return [Alert(use_case, kind, verdict.night, text) for kind, text in texts.items()]


def service_is_up(use_case: str) -> bool:
    """Whether production runs a version now; an unknown state counts as up, so that silence raises its alert."""
    try:
        return targets.current(use_case, "production") is not None
    except Exception as error:  # noqa: BLE001 - a cluster that does not answer must not hide the silence
        log.warning("it is not known whether the service is up: %s", error)
        return True
