"""What follows from the night's verdict: the run's note, alerts, and the training run or the reason for none."""

import logging
from collections.abc import Sequence
from datetime import date
from typing import Any

import msgspec
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from lifecycle import settings
from lifecycle.hooks import airflow_api, targets
from lifecycle.retraining.alerts import Alert, send_once
from lifecycle.retraining.nights import tables_path
from lifecycle.settings import Retraining
from training.drift.verdict import Verdict
from training.inference_log import layout

log = logging.getLogger(__name__)

PRODUCTION = "scoring_production"


def read_verdict(tables: Any, night: str) -> Verdict:
    """The verdict that the job has written; fails where there is none."""
    folder = layout.night_folder(tables, "nights", date.fromisoformat(night))
    content = layout.read_json(folder / layout.VERDICT)
    if content is None:
        raise AirflowFailException(
            f"night {night} has no {layout.VERDICT} in {folder}, although the job succeeded: "
            "do [retraining] tables and job_tables of the settings file name the same place?"
        )
    return msgspec.convert(content, Verdict)


def decide(context: Any, nights: Sequence[str]) -> dict[str, str]:
    """Note, alert, and return ``{"run_id", "data"}`` of the training run to start; skips where none is wanted."""
    retraining = settings.load().retraining
    tables = tables_path(retraining.tables)
    verdicts = [read_verdict(tables, night) for night in nights]
    last = verdicts[-1]
    run = context["dag_run"]
    airflow_api.set_run_note(run.dag_id, run.run_id, last.note)
    up = service_is_up() if any(verdict.status == "no records" for verdict in verdicts) else False
    for verdict in verdicts:
        send_once(tables, alerts_of(verdict, retraining, service_up=up))
    if not (wanted := [verdict for verdict in verdicts if verdict.retrain]):
        raise AirflowSkipException(last.note)
    log.info(last.note)
    # Nights that were caught up together lead to one training, on the newest table.
    by_hand = f"__{run.run_id}" if context["params"].get("retrain") else ""
    return {"run_id": f"retrain__{wanted[-1].night}{by_hand}", "data": last.data}


def alerts_of(verdict: Verdict, retraining: Retraining, *, service_up: bool) -> list[Alert]:
    """What people should hear of this night."""
    alerts = []
    if verdict.confirmed:
        names = ", ".join(verdict.confirmed)
        alerts.append(
            Alert("drift", verdict.night, f"Drift is confirmed over {retraining.drift_windows} nights: {names}")
        )
    if verdict.quality and verdict.quality.lost and (auc := verdict.quality.roc_auc):
        text = f"Live AUC is {auc.value:.3f} (95% {auc.low:.3f} to {auc.high:.3f}), floor {retraining.live_auc_floor}"
        alerts.append(Alert("quality", verdict.night, text))
    read = verdict.counts.get("read", 0)
    share = verdict.counts.get("quarantined", 0) / read if read else 0.0
    if share > retraining.quarantine_share:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in verdict.counts["reasons"].items())
        alerts.append(Alert("quarantine", verdict.night, f"{share:.1%} of {read} log lines are unreadable ({reasons})"))
    if not verdict.records and service_up:
        text = "The service is up, but no scored record was exported for the whole day: check the export rule"
        alerts.append(Alert("silence", verdict.night, text))
    return alerts


def service_is_up() -> bool:
    """Whether production runs a version now, by its connection; unknown counts as up, so that silence is told."""
    try:
        return targets.current(PRODUCTION) is not None
    except Exception as error:  # noqa: BLE001 - a cluster that does not answer must not hide the silence
        log.warning("it is not known whether the service is up: %s", error)
        return True
