"""What the release and rollback DAGs do between their operators: look up, write down, promote.

Every function may be repeated: it looks up before it acts, and writes documents whole.
"""

import logging
from datetime import UTC, datetime
from typing import Any

import msgspec
from airflow.sdk.exceptions import AirflowFailException

from lifecycle import settings
from lifecycle.evidence import document as evidence
from lifecycle.evidence import gate_body
from lifecycle.evidence.document import Evidence
from lifecycle.hooks import airflow_api, registry, targets
from lifecycle.hooks.registry import Version
from lifecycle.idempotency import action_key
from lifecycle.sensors.approval import Decision
from training.registry import tags

log = logging.getLogger(__name__)

RELEASE_DAG, ROLLBACK_DAG = "attrition_release", "attrition_rollback"
STAGING = "scoring_staging"
PRODUCTION = "scoring_production"
DRIFT_NIGHTS = 7
"""Nightly verdicts that the gate shows."""
_OVER = ("success", "failed", "upstream_failed", "skipped", "removed")


def release_key(context: Any) -> str:
    """One key for the whole release, from DAG and run."""
    run = context["dag_run"]
    return action_key(dag_id=run.dag_id, run_id=run.run_id, task_id="release", purpose="evidence")


def requested_version(context: Any) -> str | None:
    """The version a person typed, else the one of the newest asset event, else ``None`` (the challenger)."""
    if typed := context["params"].get("version"):
        return str(typed)
    events = [event for found in context["triggering_asset_events"].values() for event in found]
    versions = [event.extra.get("version") for event in events if event.extra.get("version")]
    return str(versions[-1]) if versions else None


def resolve_candidate(context: Any) -> dict[str, Any]:
    """The version to release (name, version, run_id) and what production runs now."""
    version = registry.resolve(requested_version(context))
    if not version.run_id:
        raise AirflowFailException(f"version {version.version} has no training run: train it with attrition_train")
    return {
        "name": version.name,
        "version": version.version,
        "run_id": version.run_id,
        "production": _running(PRODUCTION),
    }


def _running(conn_id: str) -> dict[str, str]:
    """What a place runs, as ``{"version", "digest", "image"}``; empty texts where it runs nothing."""
    found = targets.current(conn_id) or {}
    return {key: str(found.get(key) or "") for key in ("version", "digest", "image")}


def _image(built: dict[str, Any]) -> evidence.Image:
    return evidence.Image(reference=built["image"], digest=built["digest"], sbom_digest=built.get("sbom_digest", ""))


def recent_drift() -> list[evidence.Night]:
    """The verdicts of the last nights, newest first, from MLflow runs tagged by the nightly DAG."""
    mlflow_client = registry.client()
    experiment = mlflow_client.get_experiment_by_name(f"{settings.load().model.experiment}-monitoring")
    if experiment is None:
        return []
    runs = mlflow_client.search_runs(
        [experiment.experiment_id], order_by=["attributes.start_time DESC"], max_results=DRIFT_NIGHTS
    )
    return [
        evidence.Night(
            window=run.data.tags.get(tags.WINDOW, ""),
            verdict=run.data.tags.get(tags.NOTE, ""),
            drifted_fields=int(run.data.metrics.get(tags.DRIFTED_FIELDS, 0)),
            confirmed=run.data.tags.get(tags.CONFIRMED, ""),
        )
        for run in runs
    ]


def gather_evidence(
    context: Any, candidate: dict[str, Any], built: dict[str, Any], staging_report: dict[str, Any]
) -> dict[str, Any]:
    """Write the evidence document and its text for the gate: ``{"body", "digest"}``.

    Both are made once: another try uses them again, unless the facts have changed.
    """
    version = registry.resolve(candidate["version"])
    run = context["dag_run"]
    replaced = candidate["production"]
    document = Evidence(
        release=evidence.Release(
            key=release_key(context),
            dag_id=run.dag_id,
            run_id=run.run_id,
            requested_by=run.triggering_user_name or f"Airflow ({getattr(run.run_type, 'value', run.run_type)})",
            requested_at=run.run_after.isoformat(),
            note=str(context["params"].get("note") or ""),
        ),
        model=evidence.Model(
            name=version.name,
            version=version.version,
            training_run_id=version.run_id,
            data_digest=version.tags.get(tags.DATA_DIGEST, ""),
            git_revision=version.tags.get(tags.GIT_REVISION, ""),
            verdict=version.tags.get(tags.VERDICT, ""),
        ),
        evaluation=registry.training_artifact(version.run_id, tags.EVALUATION_FILE),
        image=_image(built),
        staging_report=staging_report,
        replaces=evidence.Running(**replaced) if replaced["digest"] else None,
        drift=recent_drift(),
        stage_seconds=_stage_seconds(context),
    )
    document, body = evidence.kept(document) or (document, _render(document))
    evidence.store_text(document, body)
    found = evidence.store(document)
    registry.set_tags(
        version,
        {tags.IMAGE: built["image"], tags.IMAGE_DIGEST: built["digest"], tags.STAGED_AT: _now()},
    )
    registry.mark_staging(version.version)
    return {"body": body, "digest": found}


def _render(document: Evidence) -> str:
    experiment_id = registry.client().get_run(document.model.training_run_id).info.experiment_id
    return gate_body.render(document, mlflow_url=settings.load().mlflow_url, experiment_id=experiment_id)


def _stage_seconds(context: Any) -> dict[str, float]:
    """Seconds by finished task of this run, the longest first."""
    instance = context["ti"]
    crumbs = instance.get_task_breadcrumbs(dag_id=instance.dag_id, run_id=instance.run_id)
    timed = [(crumb["task_id"], round(float(crumb["duration"]), 1)) for crumb in crumbs if crumb.get("duration")]
    return dict(sorted(timed, key=lambda row: -row[1]))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _record_decision(context: Any, candidate: dict[str, Any], decided: dict[str, Any]) -> tuple[Version, Evidence]:
    """Append the decision to the evidence and say it in the run's note."""
    decision = msgspec.convert(decided, Decision)
    version = registry.resolve(candidate["version"])
    document = evidence.read(version.run_id, release_key(context))
    found = evidence.digest(evidence.undecided(document))
    if decision.approved and decided["digest"] != found:
        raise AirflowFailException(
            f"{decision.decided_by} approved evidence {decided['digest']}, and by now it is {found} "
            f"(image {document.image.digest}): release version {version.version} again"
        )
    document.decision = decision
    evidence.store(document)
    outcome = "approved" if decision.approved else "rejected"
    registry.set_tags(version, {tags.APPROVAL: outcome})
    note = f"Version {version.version} {outcome} by {decision.decided_by}: {decision.comment or 'no comment'}"
    airflow_api.set_run_note(context["dag_run"].dag_id, context["dag_run"].run_id, note)
    return version, document


def record_approval(context: Any, candidate: dict[str, Any], decided: dict[str, Any]) -> str:
    """Bind the approval to the image's digest and return it, unless production is no longer what was shown.

    From when this runs to the end of the run a rollback is refused (``resolve_rollback``), and here a release
    while a rollback runs: each is to be seen before it looks, so at most one of them goes on.
    """
    version, document = _record_decision(context, candidate, decided)
    image = document.image.digest
    registry.set_tags(
        version,
        {
            registry.approval_tag(image): evidence.approval(document),
            tags.APPROVED_DIGEST: image,
            tags.APPROVED_BY: decided["decided_by"],
        },
    )
    if context["ti"].get_dr_count(dag_id=ROLLBACK_DAG, states=["running"]):
        raise AirflowFailException(
            f"{ROLLBACK_DAG} is changing production: release version {version.version} again when it has ended"
        )
    replaced, running = candidate["production"], _running(PRODUCTION)
    if running["digest"] not in (replaced["digest"], image):
        raise AirflowFailException(
            f"production has changed since this was asked: version {running['version'] or '(none)'} "
            f"({running['digest']}) runs there, not {replaced['version'] or '(none)'} ({replaced['digest']}). "
            f"Release version {version.version} again"
        )
    return image


def record_rejection(context: Any, candidate: dict[str, Any], decided: dict[str, Any]) -> dict[str, str]:
    """Keep the rejection; returns what production runs, which staging is to run again.

    An approval that an earlier release got for the same image stands; one that this release got, whose gate
    was cleared and answered anew, does not.
    """
    version, document = _record_decision(context, candidate, decided)
    tag = registry.approval_tag(document.image.digest)
    if version.tags.get(tag, "").endswith(evidence.path(document.release.key)):
        registry.set_tags(version, {tag: ""})
    return _running(PRODUCTION)


def release_in_production(instance: Any) -> str | None:
    """The run of the release that is changing production, if there is one."""
    begin, ends = "record_approval", ("promote", "restore_production")
    for run_id, states in instance.get_task_states(dag_id=RELEASE_DAG, task_ids=[begin, *ends]).items():
        if states.get(begin) not in ("running", "success") or all(states.get(task) in _OVER for task in ends):
            continue
        if instance.get_dagrun_state(RELEASE_DAG, run_id) == "running":
            return str(run_id)
    return None


def skip_unless_approved(context: Any) -> None:
    """Nothing is put back where nothing was approved: production has not been touched.

    Its state and not its result: that outlives a clear whose gate then fails.
    """
    from airflow.sdk.exceptions import AirflowSkipException

    run = context["dag_run"]
    states = context["ti"].get_task_states(dag_id=run.dag_id, task_ids=["record_approval"], run_ids=[run.run_id])
    if states.get(run.run_id, {}).get("record_approval") != "success":
        raise AirflowSkipException("the release ended before production was touched")


def promote(context: Any, candidate: dict[str, Any], digest: str) -> dict[str, Any]:
    """Let the registry say what production runs now; returns the asset's extra."""
    version = registry.resolve(candidate["version"])
    previous = registry.promote(version, digest)
    note = f"Version {version.version} is in production ({digest[:19]}...)"
    if previous:
        note += f"; previous champion: version {previous.version}"
    airflow_api.set_run_note(context["dag_run"].dag_id, context["dag_run"].run_id, note)
    return {"name": version.name, "version": version.version, "run_id": version.run_id, "digest": digest}


def record_staging_restored(restored: dict[str, str]) -> None:
    """After a rejection: let alias ``staging`` name what staging runs again."""
    registry.mark_staging(restored["version"] or None)


def resolve_rollback(context: Any) -> dict[str, Any]:
    """A version that was approved before, from the evidence of that; refuses while a release changes production."""
    if release_run := release_in_production(context["ti"]):
        raise AirflowFailException(
            f"release {release_run} is changing production: try again when it has ended, "
            "or mark that run as failed first"
        )
    version = registry.resolve(context["params"].get("version"), alias=tags.PREVIOUS_CHAMPION)
    image = evidence.read_approved(version).image
    return {
        "name": version.name,
        "version": version.version,
        "run_id": version.run_id,
        "image": image.reference,
        "digest": image.digest,
    }
