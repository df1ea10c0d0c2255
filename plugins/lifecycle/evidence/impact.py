"""The impact preview on Airflow's side: whether there is anything to preview, and what the job has found."""

from typing import Any

import msgspec
from airflow.sdk.exceptions import AirflowFailException

from lifecycle import settings
from lifecycle.hooks import registry
from lifecycle.hooks.registry import Version
from training.impact import record
from training.impact.record import Preview


def nothing_to_preview(use_case: str, candidate: dict[str, Any]) -> str:
    """Why a release of ``candidate`` (what ``resolve_candidate`` returned) needs no preview job; empty if it does."""
    running = candidate["production"]["version"]
    if not running:
        return "production runs no version yet that this one could be compared with"
    if running == candidate["version"]:
        return f"production runs version {running} already"
    if not settings.load().of(use_case).tables:
        return "the settings name no tables with scored records"
    return ""


def read_preview(use_case: str, version: Version, candidate: dict[str, Any], run_key: str) -> Preview:
    """What the preview job with this key has found, or the reason why none was run."""
    running = candidate["production"]["version"]
    if reason := nothing_to_preview(use_case, candidate):
        return Preview(challenger=version.version, champion=running, reason=reason)
    found = registry.find_text(version.run_id, record.path(run_key))
    if found is None:
        raise AirflowFailException(
            f"the preview job has left no {record.path(run_key)} with run {version.run_id}, although it succeeded: "
            "does connection mlflow name the tracking server that the job writes to?"
        )
    return msgspec.json.decode(found, type=Preview)
