"""The tasks of the batch scoring: what a run scores and with which model, and what came out of it."""

import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from lifecycle import settings
from lifecycle.evidence import cost
from lifecycle.evidence import document as evidence
from lifecycle.hooks import airflow_api, registry
from lifecycle.signing import check
from lifecycle.tasks import metering
from lifecycle.tasks.retraining import once_a_run, tables_path
from training import use_case as definitions
from training.registry import tags

_DATE_MARK = "{date}"


def day_of(context: Any) -> str:
    """The date of a run, ISO 8601: as typed, or the run's own (UTC)."""
    run, typed = context["dag_run"], context["params"].get("date")
    return date.fromisoformat(typed or (run.logical_date or run.run_after).date().isoformat()).isoformat()


def what_to_score(use_case: str, context: Any) -> dict[str, Any]:
    """What this DAG run scores: ``{"source", "day", "version", "bundle_digest", "explain"}``.

    Table ``scores`` is production as much as a server is: the version must have an approval that counts, and its bundle
    a signature. An alias, which whoever may write to MLflow can move, is neither.
    """
    from training.registry.content import content_digest

    params, day = context["params"], day_of(context)
    source = params.get("input") or settings.load().of(use_case).batch
    if not source:
        raise AirflowFailException(
            f"there is no table to score: give the parameter input, or set batch in [every_use_case] or "
            f"[use_cases.{use_case}] of the settings file"
        )
    version = registry.resolve(use_case, params.get("version"), alias=tags.CHAMPION)
    evidence.read_last_approved(use_case, version)
    with tempfile.TemporaryDirectory() as scratch:
        bundle = registry.download_bundle(version.name, version.version, Path(scratch) / "bundle")
        check.bundle(use_case, version, bundle)
        digest = content_digest(bundle)
    return {
        "source": source.replace(_DATE_MARK, day),
        "day": day,
        "version": version.version,
        "bundle_digest": digest,
        "explain": bool(params.get("explain")),
    }


@task
def pin_model(use_case: str) -> dict[str, Any]:
    """Decide once what this run scores and with which model. A repeated run finds what it had decided."""
    context: Any = get_current_context()
    tables = tables_path(use_case)
    pinned: dict[str, Any] = once_a_run(tables, context, "pin_model", "pin", lambda: what_to_score(use_case, context))
    return pinned


@task
def announce_scores(use_case: str, pinned: dict[str, Any]) -> dict[str, Any]:
    """Update the asset with the partition that was replaced, and write the run's note."""
    # Imported here: pyarrow takes a while, and DAG files import this module.
    from training.batch.record import read_batch

    context: Any = get_current_context()
    tables = tables_path(use_case)
    batch = read_batch(tables, date.fromisoformat(pinned["day"]))
    if batch is None or (batch.version, batch.bundle_digest) != (pinned["version"], pinned["bundle_digest"]):
        raise AirflowFailException(
            f"the scores of {pinned['day']} in {tables} are not those of version {pinned['version']}, although the job "
            "succeeded: do tables and job_tables of the settings file name the same place, or has another run scored "
            "the same date?"
        )
    used = metering.of_batch(context, batch.scored)
    airflow_api.tell(context, f"{batch.note}\nCost: {cost.sentence(used)}")
    extra = {"day": batch.day, "version": batch.version, "rows": batch.rows, "rejected": batch.rejected}
    context["outlet_events"][Asset(definitions.load(use_case).scores_asset)].extra = extra
    return extra
