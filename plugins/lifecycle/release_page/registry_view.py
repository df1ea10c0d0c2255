"""What the page shows of MLflow: targets, candidate, evidence of releases, and the nights' drift."""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from lifecycle import settings
from lifecycle.evidence import gate_body, links
from lifecycle.evidence.document import Evidence
from lifecycle.evidence.gate_body import Table
from lifecycle.hooks import registry
from lifecycle.hooks.registry import Version
from training.registry import tags

if TYPE_CHECKING:
    from mlflow import MlflowClient

VERSIONS = 25
"""Newest model versions whose releases are shown."""
DOCUMENTS = 60
"""Evidence documents that are read at most."""
NIGHTS = 30
_READERS = 6


RunUrl = Callable[[str], str]
"""From a run's id to its page."""


class Target(msgspec.Struct, frozen=True):
    """What runs in staging or production, as the registry says; no version where nothing does."""

    name: str
    version: str = ""
    digest: str = ""
    since: str = ""
    approved_by: str = ""
    stopped: str = ""
    """Since when, by whom and why it scores nothing; empty where it does."""
    run_url: str = ""


class Candidate(msgspec.Struct, frozen=True):
    """The challenger beside the champion."""

    version: str
    champion: str
    verdict: str
    decision: str
    """``approved``, ``rejected`` or nothing yet."""
    reasons: list[str]
    metrics: Table
    gaps: Table | None
    fed_because: list[str]
    thresholds: list[tuple[str, str, str, bool, str]]
    run_url: str


class Release(msgspec.Struct, frozen=True):
    """One evidence document, with the address of the training run that keeps it."""

    document: Evidence
    run_url: str


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
    releases: list[Release]
    nights: list[Night]
    """Oldest first."""
    unreadable: list[str]
    """Evidence that could not be read, and why."""


def read(use_case: str) -> RegistryView:
    """Ask MLflow for all of it; takes seconds the first time, for the client's import.

    Raises ``MlflowException`` where MLflow does not answer, ``RegistryError`` or ``AirflowNotFoundException``
    where connection ``mlflow`` is wrong or missing.
    """
    # A page is looked at, so it had rather say that MLflow is down than wait the client's minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    client = registry.client()
    configured = settings.load().of(use_case)
    staging, champion, challenger = (
        registry.by_alias(use_case, alias) for alias in (tags.STAGING, tags.CHAMPION, tags.CHALLENGER)
    )
    experiment = client.get_experiment_by_name(configured.experiment)
    run_url = functools.partial(
        links.mlflow_run, settings.load().mlflow_url, experiment.experiment_id if experiment else ""
    )
    releases, unreadable = _releases(client, configured.model_name, run_url)
    return RegistryView(
        model=configured.model_name,
        targets=[
            _target("Staging", staging, tags.STAGED_AT, run_url, releases),
            _target("Production", champion, tags.RELEASED_AT, run_url, releases),
        ],
        candidate=_candidate(challenger, champion, run_url) if challenger else None,
        releases=releases,
        nights=_nights(use_case),
        unreadable=unreadable,
    )


def _target(name: str, version: Version | None, since_tag: str, run_url: RunUrl, releases: list[Release]) -> Target:
    if version is None:
        return Target(name)
    return Target(
        name,
        version=version.version,
        digest=version.digest or "",
        since=version.tags.get(since_tag, ""),
        approved_by=_approver(version, releases),
        stopped=version.tags.get(tags.STOPPED, "") if since_tag == tags.RELEASED_AT else "",
        run_url=run_url(version.run_id),
    )


def _approver(version: Version, releases: list[Release]) -> str:
    """Who approved this digest last. Not the version's tag: a later release of it that was rejected clears that."""
    decisions = [
        document.decision
        for document in (release.document for release in releases)
        if document.decision and document.decision.approved
        if (document.model.version, document.image.digest) == (version.version, version.digest)
    ]
    return max(decisions, key=lambda decision: decision.decided_at).decided_by if decisions else ""


def _candidate(challenger: Version, champion: Version | None, run_url: RunUrl) -> Candidate:
    evaluation = _evaluation(challenger.run_id)
    return Candidate(
        version=challenger.version,
        champion=champion.version if champion else "",
        verdict=challenger.tags.get(tags.VERDICT, ""),
        decision=challenger.tags.get(tags.APPROVAL, ""),
        reasons=evaluation.get("reasons", []),
        metrics=gate_body.metrics_table(evaluation),
        gaps=gate_body.gaps_table(evaluation),
        fed_because=gate_body.fed_because(evaluation),
        thresholds=gate_body.threshold_rows(evaluation),
        run_url=run_url(challenger.run_id),
    )


@functools.lru_cache(maxsize=16)
def _evaluation(run_id: str) -> dict[str, Any]:
    """A training run's ``evaluation.json``, which is written once."""
    return registry.training_artifact(run_id, tags.EVALUATION_FILE)


def _releases(client: "MlflowClient", model: str, run_url: RunUrl) -> tuple[list[Release], list[str]]:
    """The evidence documents of the newest versions, and what could not be read."""
    # Imported here: mlflow takes seconds, and every process of the API server loads this page's module.
    from training.registry.versions import versions_of

    newest = sorted(versions_of(client, model), key=lambda version: int(version.version), reverse=True)[:VERSIONS]
    runs = list(dict.fromkeys(version.run_id for version in newest if version.run_id))
    releases: list[Release] = []
    unreadable: list[str] = []
    with ThreadPoolExecutor(_READERS) as pool:
        listed = pool.map(lambda run_id: [(run_id, item) for item in client.list_artifacts(run_id, "evidence")], runs)
        files = [file for folder in listed for file in folder if file[1].path.endswith(".json")][:DOCUMENTS]
        for (run_id, item), document in zip(files, pool.map(_document, files), strict=True):
            if isinstance(document, Evidence):
                releases.append(Release(document, run_url(run_id)))
            else:
                unreadable.append(f"{item.path} of run {run_id}: {document}")
    return releases, unreadable


def _document(file: tuple[str, Any]) -> Evidence | str:
    """The evidence document in an artifact, or why it is none."""
    run_id, item = file
    try:
        return _read_document(run_id, item.path, item.file_size)
    except msgspec.MsgspecError as error:
        return str(error)


@functools.lru_cache(maxsize=512)
def _read_document(run_id: str, path: str, size: int) -> Evidence:
    """Read once for each size: a document is only ever appended to, by the decision."""
    import mlflow

    return msgspec.json.decode(mlflow.artifacts.load_text(f"runs:/{run_id}/{path}"), type=Evidence)


def _nights(use_case: str) -> list[Night]:
    return [
        Night(
            window=run.data.tags.get(tags.WINDOW, ""),
            verdict=run.data.tags.get(tags.VERDICT, ""),
            note=run.data.tags.get(tags.NOTE, ""),
            confirmed=run.data.tags.get(tags.CONFIRMED, ""),
            drifted=int(run.data.metrics.get(tags.DRIFTED_FIELDS, 0)),
            run_url=links.mlflow_run(settings.load().mlflow_url, run.info.experiment_id, run.info.run_id),
        )
        for run in reversed(registry.recent_windows(use_case, NIGHTS))
    ]
