"""What the page shows of MLflow: targets, candidate, evidence of releases, and the nights' drift."""

import functools
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from lifecycle import settings
from lifecycle.evidence import cost, gate_body, headline, links
from lifecycle.evidence import document as evidence
from lifecycle.evidence.document import Evidence
from lifecycle.evidence.gate_body import Table
from lifecycle.evidence.signature import SignatureError
from lifecycle.hooks import registry
from lifecycle.hooks.registry import Version
from lifecycle.image_reference import ImageReferenceError
from training import use_case as definitions
from training.registry import tags
from training.registry.versions import versions_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

VERSIONS = 25
"""Newest model versions whose releases are shown."""
DOCUMENTS = 60
"""Evidence documents that are read at most."""
NIGHTS = 30
QUALITY = 8
"""Periods whose quality is shown."""
_READERS = 6


RunUrl = Callable[..., str]
"""From a run's id, and what lies below it, to its page."""


class Target(msgspec.Struct, frozen=True):
    """What runs at a place, as the registry says; no version where nothing does."""

    name: str
    version: str = ""
    digest: str = ""
    since: str = ""
    approved_by: str = ""
    unsigned: str = ""
    """Why that approval's signature does not count; empty where it does."""
    stopped: str = ""
    """Since when, by whom and why it scores nothing; empty where it does."""
    run_url: str = ""


class Candidate(msgspec.Struct, frozen=True):
    """The challenger beside the version that was champion when it was evaluated."""

    version: str
    champion: str
    """What production runs now."""
    compared_with: str
    """What the comparison says nothing about, where that is another version by now."""
    trained_on: str
    verdict: str
    decision: str
    """``approved``, ``rejected`` or nothing yet."""
    reasons: list[str]
    metrics: Table
    gaps: Table | None
    fed_because: list[str]
    thresholds: list[tuple[str, str, str, bool, str]]
    facts: list[str]
    """What the evaluation says in sentences."""
    shown: list[tuple[str, Table]]
    """Further tables of the evaluation, by title."""
    run_url: str
    card_url: str
    plots_url: str
    compare_url: str
    """Where MLflow shows it beside the champion; empty without one."""


class Release(msgspec.Struct, frozen=True):
    """One evidence document, with the address of the training run that keeps it."""

    document: Evidence
    run_url: str
    unsigned: str = ""
    """Why the signature of its decision does not count; empty where it does, or where nothing was decided."""


class Night(msgspec.Struct, frozen=True):
    """The verdict of one night."""

    window: str
    verdict: str
    note: str
    confirmed: str
    """What has drifted for several nights in a row; mostly empty."""
    drifted: int
    """Fields that drifted in this night."""
    run_url: str
    figures: dict[str, str] = {}
    """What people read of the quality of its answers, by title; mostly empty, and for forecasts alone."""
    alerts: str = ""
    """What people were alerted of; mostly empty."""
    cost: str = ""
    """What closing it has used and costs, in a line; empty but for the last of those that were closed together."""

    @property
    def said(self) -> str:
        """What is told of it, without the date that it may begin with: ``window`` stands beside it."""
        return (self.note or self.verdict).removeprefix(f"{self.window}: ")

    @property
    def kind(self) -> str:
        """Colours the bar: ``bad`` where drift is confirmed, ``open`` where something drifted."""
        if self.confirmed:
            return "bad"
        return "open" if self.drifted else "quiet"


class RegistryView(msgspec.Struct, frozen=True):
    """Everything that the page takes from MLflow for one use case."""

    model: str
    targets: list[Target]
    candidate: Candidate | None
    """The challenger, as long as nobody has rejected it."""
    rejected: str
    """The challenger's version where it was rejected; empty otherwise."""
    releases: list[Release]
    nights: list[Night]
    """Oldest first."""
    quality: Table | None
    """The quality of the last periods' answers, the newest first; ``None`` where none say it."""
    unreadable: list[str]
    """Evidence that could not be read, and why."""

    @property
    def costs(self) -> list[tuple[str, str]]:
        """What is known of cost, newest first: of the last release, and of the last night that says it."""
        documents = sorted((one.document for one in self.releases), key=lambda one: one.release.requested_at)
        releases = [
            (f"Release of version {document.model.version}", cost.sentence(document.cost))
            for document in documents[-1:]
            if document.cost
        ]
        nights = [(f"Night of {night.window}", night.cost) for night in reversed(self.nights) if night.cost]
        return releases + nights[:1]


def read(use_case: str) -> RegistryView:
    """Ask MLflow for all of it; takes seconds the first time, for the client's import.

    Raises ``MlflowException`` where MLflow does not answer, ``RegistryError`` or ``AirflowNotFoundException``
    where connection ``mlflow`` is wrong or missing.
    """
    # A page is looked at, so it had rather say that MLflow is down than wait the client's minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    client = registry.client()
    configured = settings.load().of(use_case)
    champion, challenger = (registry.by_alias(use_case, alias) for alias in (tags.CHAMPION, tags.CHALLENGER))
    experiment = client.get_experiment_by_name(configured.experiment)
    place = (settings.load().mlflow_url, experiment.experiment_id if experiment else "")
    run_url, compare_url = (functools.partial(link, *place) for link in (links.mlflow_run, links.compared_runs))
    releases, unreadable = _releases(client, configured.model_name, run_url)
    nights = _nights(use_case)
    rejected = bool(challenger and challenger.tags.get(tags.APPROVAL) == "rejected")
    return RegistryView(
        model=configured.model_name,
        targets=[
            *_before_production(use_case, run_url, releases),
            _target("Production", champion, tags.RELEASED_AT, run_url, releases),
        ],
        candidate=_candidate(challenger, champion, run_url, compare_url) if challenger and not rejected else None,
        rejected=challenger.version if challenger and rejected else "",
        releases=releases,
        nights=nights,
        quality=_quality(nights),
        unreadable=unreadable,
    )


def _before_production(use_case: str, run_url: RunUrl, releases: list[Release]) -> list[Target]:
    """Staging; where no server answers requests, the version that runs beside the champion, if there is one."""
    if definitions.load(use_case).online:
        return [_target("Staging", registry.by_alias(use_case, tags.STAGING), tags.STAGED_AT, run_url, releases)]
    beside = registry.by_alias(use_case, tags.BESIDE)
    return [_target("Beside production", beside, tags.STAGED_AT, run_url, releases)] if beside else []


def _quality(nights: list[Night]) -> Table | None:
    told = [night.figures for night in reversed(nights) if night.figures][:QUALITY]
    if not told:
        return None
    heads = list(dict.fromkeys(title for figures in told for title in figures))
    return Table(heads, [[figures.get(title, "-") for title in heads] for figures in told])


def _target(name: str, version: Version | None, since_tag: str, run_url: RunUrl, releases: list[Release]) -> Target:
    if version is None:
        return Target(name)
    approval = _approval(version, releases)
    return Target(
        name,
        version=version.version,
        digest=_digest(version),
        since=version.tags.get(since_tag, ""),
        approved_by=approval.document.decision.decided_by if approval and approval.document.decision else "",
        unsigned=approval.unsigned if approval else "",
        stopped=version.tags.get(tags.STOPPED, "") if since_tag == tags.RELEASED_AT else "",
        run_url=run_url(version.run_id),
    )


def _digest(version: Version) -> str:
    """Of the image that was built for it last; the tag's own text where that does not name one."""
    try:
        return version.image.digest if version.image else ""
    except ImageReferenceError as error:
        log.warning("version %s of %s: tag %s: %s", version.version, version.name, tags.IMAGE, error)
        return version.tags[tags.IMAGE]


def _approval(version: Version, releases: list[Release]) -> Release | None:
    """The last approval of this image. Not the version's tag: a later release of it that was rejected clears that."""
    about = (version.version, _digest(version))
    approvals = [
        (release.document.decision.decided_at, number, release)
        for number, release in enumerate(releases)
        if release.document.decision and release.document.decision.approved
        if (release.document.model.version, release.document.image.content.digest) == about
    ]
    return max(approvals)[2] if approvals else None


def _candidate(
    challenger: Version, champion: Version | None, run_url: RunUrl, compare_url: Callable[[list[str]], str]
) -> Candidate:
    evaluation = _evaluation(challenger.run_id)
    running = champion.version if champion else ""
    return Candidate(
        version=challenger.version,
        champion=running,
        compared_with=" ".join(
            filter(None, (headline.compared_with(evaluation, running), headline.champion_lacks(evaluation)))
        ),
        trained_on=headline.trained_on(evaluation),
        verdict=challenger.tags.get(tags.VERDICT, ""),
        decision=challenger.tags.get(tags.APPROVAL, ""),
        reasons=evaluation.get("reasons", []),
        metrics=gate_body.metrics_table(evaluation, running),
        gaps=gate_body.gaps_table(evaluation),
        fed_because=gate_body.fed_because(evaluation),
        thresholds=gate_body.threshold_rows(evaluation),
        facts=headline.facts(evaluation),
        shown=gate_body.shown_tables(evaluation),
        run_url=run_url(challenger.run_id),
        card_url=run_url(challenger.run_id, f"{links.ARTIFACTS}/{tags.MODEL_CARD_FILE}"),
        plots_url=run_url(challenger.run_id, f"{links.ARTIFACTS}/{tags.PLOTS_FOLDER}"),
        compare_url=compare_url([challenger.run_id, champion.run_id]) if champion else "",
    )


@functools.lru_cache(maxsize=16)
def _evaluation(run_id: str) -> dict[str, Any]:
    """A training run's ``evaluation.json``, which is written once."""
    return registry.training_artifact(run_id, tags.EVALUATION_FILE)


def _releases(client: "MlflowClient", model: str, run_url: RunUrl) -> tuple[list[Release], list[str]]:
    """The evidence documents of the newest versions, and what could not be read."""
    newest = sorted(versions_of(client, model), key=lambda version: int(version.version), reverse=True)[:VERSIONS]
    runs = list(dict.fromkeys(version.run_id for version in newest if version.run_id))
    releases: list[Release] = []
    unreadable: list[str] = []
    with ThreadPoolExecutor(_READERS) as pool:
        listed = pool.map(lambda run_id: [(run_id, item) for item in client.list_artifacts(run_id, "evidence")], runs)
        files = [file for folder in listed for file in folder if file[1].path.endswith(".json")][:DOCUMENTS]
        for (run_id, item), found in zip(files, pool.map(_document, files), strict=True):
            if isinstance(found, str):
                unreadable.append(f"{item.path} of run {run_id}: {found}")
            else:
                document, unsigned = found
                releases.append(Release(document, run_url(run_id), unsigned))
    return releases, unreadable


def _document(file: tuple[str, Any]) -> tuple[Evidence, str] | str:
    """The evidence document in an artifact and why its decision is unsigned, or why it cannot be read."""
    run_id, item = file
    try:
        return _read_document(run_id, item.path, item.file_size)
    except msgspec.MsgspecError as error:
        return str(error)


@functools.lru_cache(maxsize=512)
def _read_document(run_id: str, path: str, size: int) -> tuple[Evidence, str]:
    """Read once for each size: a document is only ever appended to, by the decision."""
    stored = registry.training_text(run_id, path).encode()
    document = evidence.decode(stored)
    try:
        if document.decision:
            evidence.check_signature(stored)
    except SignatureError as error:
        return document, str(error)
    return document, ""


def _nights(use_case: str) -> list[Night]:
    return [
        Night(
            window=run.data.tags.get(tags.WINDOW, ""),
            verdict=run.data.tags.get(tags.VERDICT, ""),
            note=run.data.tags.get(tags.NOTE, ""),
            confirmed=run.data.tags.get(tags.CONFIRMED, ""),
            drifted=int(run.data.metrics.get(tags.DRIFTED_FIELDS, 0)),
            run_url=links.mlflow_run(settings.load().mlflow_url, run.info.experiment_id, run.info.run_id),
            figures=msgspec.json.decode(run.data.tags.get(tags.FIGURES, "{}"), type=dict[str, str]),
            alerts=run.data.tags.get(tags.ALERTS, ""),
            cost=run.data.tags.get(tags.COST, ""),
        )
        for run in reversed(registry.recent_windows(use_case, NIGHTS))
    ]
