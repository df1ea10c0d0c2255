"""The evidence document of one release: what was known when a person decided, and what they decided.

It is kept as a JSON artifact of the training run, because Airflow deletes its own record of an approval
together with the task. Its schema is published as ``docs/evidence.schema.json``.
"""

import hashlib
from typing import Any

import msgspec

from attrition import registry
from attrition.registry import Version
from attrition.sensors.gate import Decision
from training import tags

SCHEMA_VERSION = 1


class Release(msgspec.Struct, kw_only=True):
    """Who asked for what, and when."""

    key: str
    dag_id: str
    run_id: str
    requested_by: str
    requested_at: str
    note: str = ""


class Model(msgspec.Struct, kw_only=True):
    """The version that is released, and where it comes from."""

    name: str
    version: str
    training_run_id: str
    data_digest: str
    git_revision: str
    verdict: str


class Image(msgspec.Struct, kw_only=True):
    """What was built for it."""

    reference: str
    digest: str
    sbom_digest: str


class Running(msgspec.Struct, kw_only=True):
    """What a place ran before this release touched it."""

    version: str
    digest: str
    image: str


class Evidence(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Everything the gate shows, and the decision."""

    schema_version: int = SCHEMA_VERSION
    release: Release
    model: Model
    evaluation: dict[str, Any]
    """The training run's ``evaluation.json``: metrics with intervals, comparison, floors, fairness."""
    image: Image
    staging_report: dict[str, Any]
    replaces: Running | None = None
    """What production runs, and a failed release puts back."""
    drift: list[dict[str, Any]] = []
    """Verdicts of the last nights, newest first."""
    stage_seconds: dict[str, float] = {}
    """Time spent by task, up to the gate."""
    decision: Decision | None = None


def path(key: str) -> str:
    """Artifact path of a release's evidence within the training run."""
    return f"evidence/{key}.json"


def encode(document: Evidence) -> bytes:
    """The document as stored: indented, and the same bytes for the same content."""
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2)


def digest(document: Evidence) -> str:
    """``sha256:`` and 64 hexadecimal digits over the stored bytes."""
    return f"sha256:{hashlib.sha256(encode(document)).hexdigest()}"


def schema() -> dict[str, Any]:
    """JSON Schema of the document."""
    return msgspec.json.schema(Evidence)


def store(document: Evidence) -> str:
    """Write the document into MLflow, tag the model version with its place and digest, return the digest.

    Written whole every time, so that a repeated try leaves the same document.
    """
    model = document.model
    mlflow_client = registry.client()
    mlflow_client.log_text(model.training_run_id, encode(document).decode(), path(document.release.key))
    found = digest(document)
    version = Version(name=model.name, version=model.version, run_id=model.training_run_id, tags={})
    registry.set_tags(version, {tags.EVIDENCE: path(document.release.key), tags.EVIDENCE_DIGEST: found})
    return found


def read(training_run_id: str, key: str) -> Evidence:
    """The evidence of an earlier step or release."""
    return msgspec.convert(registry.training_artifact(training_run_id, path(key)), Evidence)


def read_of(version: Version) -> Evidence:
    """The evidence that a released version's tags name; it must still have the digest that was tagged."""
    artifact = version.tags.get(tags.EVIDENCE)
    if not artifact:
        raise registry.RegistryError(
            f"model {version.name} version {version.version} has no evidence of a release: release it first"
        )
    document = msgspec.convert(registry.training_artifact(version.run_id, artifact), Evidence)
    if digest(document) != version.tags.get(tags.EVIDENCE_DIGEST):
        raise registry.RegistryError(
            f"the evidence of version {version.version} ({artifact} of run {version.run_id}) is not the one "
            "that was approved: its digest differs from the version's tag. Release the version again"
        )
    return document
