"""The tasks of the release DAG between its operators: look up, write down, promote.

Every task may be repeated: it looks up before it acts, and writes documents whole.
"""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from airflow.sdk import Asset, Metadata, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from msgspec import UNSET, UnsetType

from lifecycle import four_eyes, messages, released_model, settings, task_links
from lifecycle.evidence import document as evidence
from lifecycle.evidence import gate_body, headline, impact, links
from lifecycle.evidence.document import Decision, Evidence
from lifecycle.evidence.known_faults import Scan
from lifecycle.hooks import airflow_api, registry, targets
from lifecycle.hooks.registry import Version
from lifecycle.hooks.stop_switch import refuse_while_stopped
from lifecycle.idempotency import action_key
from lifecycle.image_reference import ImageReference, ImageReferenceError
from lifecycle.operators.steps import another_run
from lifecycle.sensors import approval
from lifecycle.signing import check
from lifecycle.task_ids import AWAIT_APPROVAL, RECORD_APPROVAL
from lifecycle.tasks import metering
from lifecycle.trace import trace_id
from training import use_case as definitions
from training.impact.record import Preview
from training.registry import tags

log = logging.getLogger(__name__)

DRIFT_NIGHTS = 7
"""Nightly verdicts that the gate shows."""


def release_key(context: Any) -> str:
    """One key for the whole release, from DAG and run."""
    run = context["dag_run"]
    return action_key(dag_id=run.dag_id, run_id=run.run_id, task_id="release", purpose="evidence")


def announced_versions(context: Any) -> list[str]:
    """The versions of the asset events that started this run, oldest first; none where a person started it."""
    events = [event for found in context["triggering_asset_events"].values() for event in found]
    return [str(event.extra["version"]) for event in events if event.extra.get("version")]


@task
def resolve_candidate(use_case: str) -> dict[str, Any]:
    """Find the version to release (name, version, run_id) and what production runs now.

    It is the version that a person typed. Otherwise it is the challenger, also where an event announced another
    version: while a release waits at its gate, several may be announced, and Airflow starts one run for some of them.
    """
    refuse_while_stopped(use_case)
    context = get_current_context()
    typed = context["params"].get("version")
    announced = [] if typed else announced_versions(context)
    version = _challenger(use_case, announced, context) if announced else registry.resolve(use_case, typed)
    if not version.run_id:
        raise AirflowFailException(
            f"version {version.version} has no training run: train it with {definitions.load(use_case).train_dag}"
        )
    production = _in_production(use_case)
    _refuse_unsigned(use_case, production)
    airflow_api.tell(context, _offer(version.version, production["version"], announced))
    task_links.show(context["ti"], task_links.of_version(use_case, version, registry.experiment_of(version.run_id)))
    return {
        "name": version.name,
        "version": version.version,
        "run_id": version.run_id,
        "production": production,
        "standing": registry.standing(use_case),
    }


def _offer(version: str, running: str, announced: list[str]) -> str:
    """What this run is about: its id says when it began, and not what it releases."""
    where = f"in the place of version {running}" if running else "where nothing runs yet"
    text = f"Offers version {version} for production, {where}"
    passed = [other for other in announced if other != version]
    return f"{text}; passes over version {', '.join(passed)}, announced before it" if passed else text


def _challenger(use_case: str, announced: list[str], context: Any) -> Version:
    """The newest challenger, whichever versions were announced; skips, and says so in the note, where none is left."""
    challenger = registry.by_alias(use_case, tags.CHALLENGER)
    if challenger is None:
        names = ", ".join(announced)
        message = f"Announced: version {names}. No version is the challenger any more, so nothing is left to release"
        airflow_api.tell(context, message)
        raise AirflowSkipException(message)
    return challenger


def _in_production(use_case: str) -> dict[str, str]:
    """What production runs, as ``{"version", "image"}``; empty texts where it runs nothing."""
    return targets.told(targets.current(use_case, "production"))


def _image(built: dict[str, Any]) -> evidence.Image:
    return evidence.Image(
        reference=str(ImageReference.parse(built["image"])),
        sbom_digest=built.get("sbom_digest", ""),
        base=built.get("base", ""),
        scan=msgspec.convert(built["scan"], Scan) if "scan" in built else UNSET,
        signed_by=msgspec.convert(built["signed_by"], evidence.Signed) if "signed_by" in built else UNSET,
    )


def recent_drift(use_case: str) -> list[evidence.Night]:
    """The verdicts of the last nights, newest first, from MLflow runs tagged by the nightly DAG."""
    return [
        evidence.Night(
            window=run.data.tags.get(tags.WINDOW, ""),
            verdict=run.data.tags.get(tags.NOTE, ""),
            drifted_fields=int(run.data.metrics.get(tags.DRIFTED_FIELDS, 0)),
            confirmed=run.data.tags.get(tags.CONFIRMED, ""),
        )
        for run in registry.recent_windows(use_case, DRIFT_NIGHTS)
    ]


@task(show_return_value_in_logs=False)
def gather_evidence(
    use_case: str,
    candidate: dict[str, Any],
    built: dict[str, Any],
    staging_report: dict[str, Any],
    preview_key: str,
    trial_report: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the evidence document and what people see of it: ``{"subject", "body", "digest", "sentence"}``.

    ``preview_key`` is that of the job that previewed the impact, ``trial_report`` that of ``try_image``. Document and
    body are made once: another try uses them again, unless the facts have changed.
    """
    version = registry.resolve(use_case, candidate["version"])
    image = _image(built)
    preview = impact.read_preview(use_case, version, candidate, preview_key)
    asked = _gather(use_case, candidate, version, image, staging_report, preview, trial_report or UNSET)
    registry.set_tags(version, {tags.IMAGE: image.reference})
    registry.mark_staging(use_case, version.version)
    return asked


@task(show_return_value_in_logs=False)
def gather_evidence_of_model(use_case: str, candidate: dict[str, Any], code: dict[str, Any]) -> dict[str, Any]:
    """As ``gather_evidence``, where no server answers requests: what is approved is the bundle and the code."""
    version = registry.resolve(use_case, candidate["version"])
    content = released_model.content(use_case, version, code["code_hash"])
    return _gather(use_case, candidate, version, content, UNSET, None)


def _gather(
    use_case: str,
    candidate: dict[str, Any],
    version: Version,
    image: evidence.Image,
    staging_report: dict[str, Any] | UnsetType,
    preview: Preview | None,
    trial_report: dict[str, Any] | UnsetType = UNSET,
) -> dict[str, Any]:
    context: Any = get_current_context()
    run = context["dag_run"]
    replaced = candidate["production"]
    document = Evidence(
        release=evidence.Release(
            key=release_key(context),
            dag_id=run.dag_id,
            run_id=run.run_id,
            requested_by=four_eyes.find(context, use_case, version.version).text,
            requested_at=run.run_after.isoformat(),
            note=str(context["params"].get("note") or ""),
            trace_id=trace_id(context["ti"]),
        ),
        model=evidence.Model(
            use_case=use_case,
            name=version.name,
            version=version.version,
            training_run_id=version.run_id,
            data_digest=version.tags.get(tags.DATA_DIGEST, ""),
            git_revision=version.tags.get(tags.GIT_REVISION, ""),
            verdict=version.tags.get(tags.VERDICT, ""),
        ),
        evaluation=registry.training_artifact(version.run_id, tags.EVALUATION_FILE),
        image=image,
        staging_report=staging_report,
        trial_report=trial_report,
        replaces=evidence.Running(**replaced) if replaced["image"] else None,
        preview=preview,
        drift=recent_drift(use_case),
        answer_by=(datetime.now(UTC) + settings.load().release.response_timeout).isoformat(timespec="seconds"),
        stage_seconds=_stage_seconds(context),
        cost=metering.of_release(context, version.tags, (staging_report, trial_report), preview),
    )
    try:
        kept, body = evidence.kept(document) or (document, _render(document))
    except evidence.DecidedError as error:
        raise AirflowFailException(f"{error}. Trigger a new run of {run.dag_id}") from error
    if kept.decision is None:  # otherwise the decision, and with it an approval, would be gone
        evidence.store_text(kept, body)
        evidence.store(kept)
    document = evidence.undecided(kept)
    found = evidence.digest(document)
    sentence = str(headline.headline(document))
    log.info(sentence)
    page = links.evidence_page(
        settings.load().airflow_url, use_case, document.model.training_run_id, document.release.key
    )
    task_links.show(context["ti"], {task_links.Evidence: page})
    subject = f"{definitions.load(use_case).title}: release {version.name} version {version.version} to production?"
    return {"subject": subject, "body": body, "digest": found, "sentence": sentence}


def _render(document: Evidence) -> str:
    configured = settings.load()
    return gate_body.render(
        document,
        mlflow_url=configured.mlflow_url,
        airflow_url=configured.airflow_url,
        experiment_id=registry.experiment_of(document.model.training_run_id),
    )


def _stage_seconds(context: Any) -> dict[str, float]:
    """Seconds by finished task of this run, the longest first."""
    instance = context["ti"]
    crumbs = instance.get_task_breadcrumbs(dag_id=instance.dag_id, run_id=instance.run_id)
    timed = [(crumb["task_id"], round(float(crumb["duration"]), 1)) for crumb in crumbs if crumb.get("duration")]
    return dict(sorted(timed, key=lambda row: -row[1]))


def _run_page(context: Any) -> str:
    run = context["dag_run"]
    return links.airflow_run(settings.load().airflow_url, run.dag_id, run.run_id)


def _approved(use_case: str, context: Any, version: str, document: Evidence) -> Decision:
    """The approval in Airflow's own record, where it counts by the settings as they are now and is of this evidence."""
    event, asked_about = approval.recorded(context, AWAIT_APPROVAL)
    again = f"Release version {version} again"
    if not event["responded_at"]:
        raise AirflowFailException(f"nobody has answered {AWAIT_APPROVAL} in time by Airflow's record. {again}")
    decision = approval.decision_of(event)
    if not decision.approved:
        raise AirflowFailException(f"{decision.decided_by} rejected this release by Airflow's record. {again}")
    requester = four_eyes.forbidden_requester(context, use_case, version)
    user = event["responded_by_user"] or {}
    if objection := four_eyes.objection(use_case, user, approves=True, requester=requester):
        raise AirflowFailException(f"the approval does not count: {objection}. {again}")
    found = evidence.digest(evidence.undecided(document))
    if asked_about != found:
        raise AirflowFailException(
            f"{decision.decided_by} approved evidence {asked_about}, and by now it is {found} "
            f"(image {document.image.reference}). {again}"
        )
    _refuse_another_text(event, document, again)
    return decision


def _refuse_another_text(event: dict[str, Any], document: Evidence, again: str) -> None:
    """The digest is of the document; what people read of it went to the gate by an XCom, which somebody may write."""
    place = evidence.text_path(document.release.key)
    kept = registry.find_text(document.model.training_run_id, place)
    if kept is None or str(event.get("body") or "").strip() != kept.strip():
        raise AirflowFailException(
            f"what {AWAIT_APPROVAL} showed is not the text of this evidence ({place} of run "
            f"{document.model.training_run_id}): find out who has changed the one or the other. {again}"
        )


def _rejected(context: Any) -> Decision:
    """The rejection in Airflow's own record.

    An approval there came after silence had decided, and the gate has skipped its branch. It has not where somebody
    marked the gate as a success by hand: then both branches run, and this one takes no approval back.
    """
    event, _ = approval.recorded(context, AWAIT_APPROVAL)
    decision = approval.decision_of(event) if event["responded_at"] else approval.silence()
    if decision.approved and _state_of(context, RECORD_APPROVAL) != "skipped":
        raise AirflowFailException(
            f"{decision.decided_by} approved this release by Airflow's record, so no rejection is recorded: was "
            f"{AWAIT_APPROVAL} marked as a success by hand?"
        )
    return approval.silence() if decision.approved else decision


def _record_decision(use_case: str, context: Any, version: Version, document: Evidence, decision: Decision) -> Evidence:
    """Sign the decision into the evidence, and say it in the run's note."""
    _refuse_outdated(use_case, version, document, decision)
    document = evidence.decided(document, decision)
    evidence.store(document)
    outcome = "approved" if decision.approved else "rejected"
    registry.set_tags(version, {tags.APPROVAL: outcome})
    comment = decision.comment or "no comment"
    airflow_api.tell(context, f"Version {version.version} {outcome} by {decision.decided_by}: {comment}")
    return document


def _refuse_outdated(use_case: str, version: Version, document: Evidence, decision: Decision) -> None:
    """Record nothing above a later approval of the same version, as where somebody clears a task of an old run.

    What was approved last is what a rollback puts back, and what scores a table.
    """
    try:
        last = evidence.read_last_approved(use_case, version)
    except registry.RegistryError:
        return
    if last.decision is None or last.release.key == document.release.key:
        return
    if datetime.fromisoformat(last.decision.decided_at) > datetime.fromisoformat(decision.decided_at):
        raise AirflowFailException(
            f"{last.decision.decided_by} approved {last.image.reference} as version {version.version} at "
            f"{last.decision.decided_at}, in run {last.release.run_id}, and the decision of this run is older "
            f"({decision.decided_at}): nothing is recorded. {another_run(use_case)}"
        )


@task
def record_approval(use_case: str, candidate: dict[str, Any]) -> str:
    """Sign the approval and bind it to the image, which is returned, unless production has changed since.

    Mutual exclusion with the rollback: each DAG becomes visible first and looks for the other second, so at most
    one of them goes on. A rollback is refused from here to the end of the run (``rollback.release_in_production``).
    """
    context: Any = get_current_context()
    version = registry.resolve(use_case, candidate["version"])
    gathered = evidence.read(version.run_id, release_key(context))
    decision = _approved(use_case, context, version.version, gathered)
    document = _record_decision(use_case, context, version, gathered, decision)
    image = document.image.content
    registry.set_tags(
        version,
        {
            registry.approval_tag(image): evidence.approval(document),
            tags.APPROVED_IMAGE: str(image),
            tags.APPROVED_BY: decision.decided_by,
        },
    )
    refuse_while_stopped(use_case)
    rollback_dag = definitions.load(use_case).rollback_dag
    if context["ti"].get_dr_count(dag_id=rollback_dag, states=["running"]):
        raise AirflowFailException(
            f"{rollback_dag} is changing production: release version {version.version} again when it has ended"
        )
    replaced, running = candidate["production"], _in_production(use_case)
    if running["image"] not in (replaced["image"], str(image)):
        raise AirflowFailException(
            f"production has changed since this was asked: version {running['version'] or '(none)'} "
            f"({running['image'] or 'nothing'}) runs there, not {replaced['version'] or '(none)'} "
            f"({replaced['image'] or 'nothing'}). Release version {version.version} again"
        )
    _refuse_no_way_back(use_case, replaced)
    return str(image)


def _refuse_no_way_back(use_case: str, running: dict[str, str]) -> None:
    """Start nothing in production where what it runs by now could not be put back."""
    if not running["image"]:
        return
    try:
        targets.refuse_foreign(use_case, "production", ImageReference.parse(running["image"]))
    except targets.TargetError as error:
        raise _no_way_back(error) from error
    _refuse_unsigned(use_case, running)


def _refuse_unsigned(use_case: str, running: dict[str, str]) -> None:
    """Begin nothing where nobody has signed what production runs, so that no step would put it back."""
    if not running["image"]:
        return
    try:
        check.image(use_case, ImageReference.parse(running["image"]), running["version"])
    except check.UnsignedError as error:
        raise _no_way_back(error) from error


def _no_way_back(why: ValueError) -> AirflowFailException:
    return AirflowFailException(f"what production runs could not be put back if this release fails: {why}")


@task
def record_rejection(use_case: str, candidate: dict[str, Any]) -> dict[str, str]:
    """Keep the rejection and tag the version; returns what production runs, which staging is to run again.

    An approval that an earlier release got for the same image stands. One that this release got does not, where
    its gate was cleared and then answered otherwise.
    """
    context: Any = get_current_context()
    version = registry.resolve(use_case, candidate["version"])
    gathered = evidence.read(version.run_id, release_key(context))
    document = _record_decision(use_case, context, version, gathered, _rejected(context))
    tag = registry.approval_tag(document.image.content)
    if version.tags.get(tag, "").endswith(evidence.path(document.release.key)):
        registry.set_tags(version, {tag: ""})
    return _in_production(use_case)


def skip_unless_approved(context: Any) -> None:
    """Put nothing back where nothing was approved: production has not been touched.

    Checks the state of ``record_approval``, not its XCom: an XCom survives clearing the task.
    """
    if _state_of(context, RECORD_APPROVAL) != "success":
        raise AirflowSkipException("the release ended before production was touched")


def _state_of(context: Any, task_id: str) -> str | None:
    """The state of a task of this run."""
    run = context["dag_run"]
    states = context["ti"].get_task_states(dag_id=run.dag_id, task_ids=[task_id], run_ids=[run.run_id])
    state: str | None = states.get(run.run_id, {}).get(task_id)
    return state


def tell_put_back(context: Any) -> None:
    """Production runs again what it ran before a release that failed."""
    instance = context["ti"]
    candidate = instance.xcom_pull(task_ids="resolve_candidate")
    messages.put_back(instance.task.use_case, candidate["version"], _run_page(context))


@task(show_return_value_in_logs=False)
def promote(use_case: str, candidate: dict[str, Any], image: str) -> Any:
    """Move the aliases: from here on the registry says that this version is in production.

    Not where production runs another version or image by now, as when somebody clears this task of an old run.
    """
    running = _in_production(use_case)
    if running["image"] and (running["version"], running["image"]) != (candidate["version"], image):
        raise AirflowFailException(
            f"production runs version {running['version'] or '(none)'} ({running['image']}) by now, and not version "
            f"{candidate['version']} ({image}): no alias is moved. {another_run(use_case)}"
        )
    yield from _promoted(use_case, candidate, image)


def _refuse_overtaken(use_case: str, candidate: dict[str, Any]) -> None:
    """Move no alias where another version has come into production since this run looked.

    For use cases without a server, whose champion is what production runs. The same version may have come into
    production once more, by a rollback, and another one may run beside it.
    """
    champion, found = _in_production(use_case)["version"], candidate["production"]["version"]
    if champion not in ("", found, candidate["version"]):
        raise AirflowFailException(
            f"version {champion} is in production by now, and it was {found or 'none'} when this run looked: no alias "
            f"is moved. {another_run(use_case)}"
        )
    now = registry.standing(use_case)
    before = candidate.get("standing", now)  # of a run that had looked before this was kept, nothing is known
    if champion == found != candidate["version"] and now["released_at"] != before["released_at"]:
        raise AirflowFailException(
            f"version {champion} was put into production once more at {now['released_at']}, after this run had looked: "
            f"no alias is moved. {another_run(use_case)}"
        )
    if now["beside"] not in ("", before["beside"], candidate["version"]):
        raise AirflowFailException(
            f"version {now['beside']} runs beside the one in production by now, and it was "
            f"{before['beside'] or 'none'} when this run looked: no alias is moved. {another_run(use_case)}"
        )


def _refuse_unapproved(use_case: str, candidate: dict[str, Any], image: str) -> None:
    """Move no alias to what nobody has approved: what an earlier task returned is an XCom, which somebody may write."""
    version = registry.resolve(use_case, candidate["version"])
    try:
        evidence.read_approved(use_case, version, ImageReference.parse(str(image)))
    except (registry.RegistryError, ImageReferenceError) as error:
        raise AirflowFailException(f"production refuses {image}: {error}. No alias is moved") from error


def _promoted(use_case: str, candidate: dict[str, Any], image: str) -> Iterator[Metadata]:
    context: Any = get_current_context()
    version = registry.resolve(use_case, candidate["version"])
    reference = ImageReference.parse(image)
    previous = registry.promote(use_case, version, reference)
    note = f"Version {version.version} is in production ({reference.digest[:19]}...)"
    if previous:
        note += f"; previous champion: version {previous.version}"
    airflow_api.tell(context, note)
    messages.in_production(use_case, note, context["params"].get("reason") or "", _run_page(context))
    task_links.show(context["ti"], task_links.of_version(use_case, version, registry.experiment_of(version.run_id)))
    extra: dict[str, Any] = {"name": version.name, "version": version.version}
    extra |= {"run_id": version.run_id, "image": image}
    yield Metadata(Asset(definitions.load(use_case).production_asset), extra)


@task(show_return_value_in_logs=False)
def bring_in(use_case: str, candidate: dict[str, Any], image: str) -> Any:
    """Let an approved version run beside the champion; it is the champion at once where there is none to compare with.

    For use cases without a server. Where forecasts of both cannot be compared, it is the champion at once as well.
    """
    _refuse_overtaken(use_case, candidate)
    _refuse_unapproved(use_case, candidate, image)
    definition = definitions.load(use_case)
    champion = registry.by_alias(use_case, tags.CHAMPION)
    if not definition.kind.runs_beside or champion is None or champion.version == candidate["version"]:
        registry.end_beside(use_case)
        yield from _promoted(use_case, candidate, image)
        return
    context: Any = get_current_context()
    version = registry.resolve(use_case, candidate["version"])
    registry.run_beside(use_case, version, ImageReference.parse(image))
    beside = {"name": version.name, "version": version.version, "run_id": version.run_id, "image": image}
    yield Metadata(Asset(definition.production_asset), {**beside, "beside": champion.version})
    note = (
        f"Version {version.version} runs beside version {champion.version} in the next run of {definition.score_dag}, "
        "and takes over once the two were compared"
    )
    airflow_api.tell(context, note)


@task
def bring_back(use_case: str, earlier: dict[str, Any]) -> Any:
    """Make an earlier version the champion again, and end the trial of one that runs beside."""
    _refuse_overtaken(use_case, earlier)
    _refuse_unapproved(use_case, earlier, earlier["image"])
    registry.end_beside(use_case)
    yield from _promoted(use_case, earlier, earlier["image"])


@task(show_return_value_in_logs=False)
def record_staging_restored(use_case: str, restored: dict[str, str]) -> None:
    """Let alias ``staging`` name what staging runs again after a rejection."""
    registry.mark_staging(use_case, restored["version"] or None)
    log.info("staging runs %s again", f"version {restored['version']}" if restored["version"] else "nothing")
