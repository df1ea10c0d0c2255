"""The evidence document of one release: what was known when a person decided, and what they decided.

It is kept as a JSON artifact of the training run, because Airflow deletes its own record of an approval
together with the task. Its schema is published as ``docs/evidence.schema.json``.
"""

import hashlib
from typing import Annotated, Any

import msgspec

from lifecycle.hooks import registry
from lifecycle.hooks.registry import Version
from training import use_case as definitions
from training.registry import tags

SCHEMA_VERSION = 2


class Decision(msgspec.Struct, frozen=True):
    """Who decided what, when and why. A time-out is nobody's rejection."""

    approved: bool
    decided_by: str
    decided_at: str
    """RFC 3339, UTC."""
    comment: str


class Release(msgspec.Struct, kw_only=True):
    """Who asked for what, and when."""

    key: str
    dag_id: str
    run_id: str
    requested_by: str
    requested_at: str
    note: str = ""
    trace_id: str = ""
    """Of the calls that verified it, in the log lines of the servers: 32 hexadecimal digits."""


class Model(msgspec.Struct, kw_only=True):
    """The version that is released, and where it comes from."""

    use_case: str = ""
    """Its name; empty in documents of schema version 1, which knew a single use case."""
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
    """What a target ran before this release touched it."""

    version: str
    digest: str
    image: str


class Night(msgspec.Struct, kw_only=True):
    """The drift of one nightly window."""

    window: str
    """The night, an ISO date."""
    verdict: str
    drifted_fields: int = 0
    confirmed: str = ""
    """Fields that drifted for several nights in a row, joined by commas."""


def _object(**properties: Any) -> dict[str, Any]:
    return {"properties": properties, "required": list(properties)}


_METRICS = {
    "description": "By name: the figure and its 95% interval.",
    "additionalProperties": _object(value={"type": "number"}, low={"type": "number"}, high={"type": "number"}),
}
Evaluation = Annotated[
    dict[str, Any],
    msgspec.Meta(
        description="The training run's evaluation.json, whole. With groups to compare it also holds fairness.",
        extra_json_schema=_object(
            verdict={"enum": ["passed", "failed"]},
            reasons={"type": "array", "items": {"type": "string"}},
            titles={"type": "object", "description": "What people call each metric, by name."},
            challenger={"type": "object", **_METRICS},
            champion={"type": ["object", "null"], **_METRICS},
            comparison={"type": ["object", "null"]},
            plain={
                "type": "object",
                "description": "A plain logistic regression on the same rows.",
            },
            thresholds={
                "type": "array",
                "items": _object(
                    title={"type": "string"},
                    kind={"enum": ["minimum", "maximum"]},
                    value={"type": "number"},
                    limit={"type": "number"},
                    passed={"type": "boolean"},
                ),
            },
            data=_object(digest={"type": "string"}, rows={"type": "integer"}),
        ),
    ),
]
StagingReport = Annotated[
    dict[str, Any],
    msgspec.Meta(
        description="What verify_staging found: its checks and the short load run.",
        extra_json_schema=_object(
            passed={"type": "boolean"},
            checks={
                "type": "array",
                "items": _object(name={"type": "string"}, passed={"type": "boolean"}, detail={"type": "string"}),
            },
        ),
    ),
]


class Evidence(msgspec.Struct, kw_only=True):
    """Everything the gate shows, and the decision."""

    schema_version: int = SCHEMA_VERSION
    release: Release
    model: Model
    evaluation: Evaluation
    image: Image
    staging_report: StagingReport
    replaces: Running | None = None
    """What production runs, and a failed release puts back."""
    drift: list[Night] = []
    """The last nights, newest first."""
    stage_seconds: dict[str, float] = {}
    """Time spent by task, up to the gate."""
    decision: Decision | None = None


def path(key: str) -> str:
    """Artifact path of a release's evidence within the training run."""
    return f"evidence/{key}.json"


def text_path(key: str) -> str:
    """Artifact path of what the gate showed of it, beside the document."""
    return f"evidence/{key}.md"


def encode(document: Evidence) -> bytes:
    """The document as stored: indented, and the same bytes for the same content."""
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2)


def _sha256(stored: bytes) -> str:
    return f"sha256:{hashlib.sha256(stored).hexdigest()}"


def digest(document: Evidence) -> str:
    """``sha256:`` and 64 hexadecimal digits over the stored bytes."""
    return _sha256(encode(document))


def schema() -> dict[str, Any]:
    """JSON Schema of the document."""
    return msgspec.json.schema(Evidence)


def undecided(document: Evidence) -> Evidence:
    """The document as it was when a person was asked: what its digest then was is what they decide on."""
    return msgspec.structs.replace(document, decision=None)


def _facts(document: Evidence) -> bytes:
    """What stays the same in every try: times and the last nights go on."""
    return encode(msgspec.structs.replace(document, decision=None, stage_seconds={}, drift=[]))


def kept(document: Evidence) -> tuple[Evidence, str] | None:
    """The undecided document of an earlier try and its text, where its facts are those of ``document``."""
    run_id, key = document.model.training_run_id, document.release.key
    stored, text = registry.find_text(run_id, path(key)), registry.find_text(run_id, text_path(key))
    if stored is None or text is None:
        return None
    earlier = msgspec.json.decode(stored, type=Evidence)
    return (undecided(earlier), text) if _facts(earlier) == _facts(document) else None


def store_text(document: Evidence, text: str) -> None:
    """Keep what the gate shows of a document that is still to be stored.

    In this order: a try that dies between the two leaves no document beside the text of another.
    """
    registry.client().log_text(document.model.training_run_id, text, text_path(document.release.key))


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
    return msgspec.json.decode(registry.training_text(training_run_id, path(key)), type=Evidence)


def approval(document: Evidence) -> str:
    """What the model version's tag says of an approval: digest and place of the document that holds it."""
    return f"{digest(document)} {path(document.release.key)}"


def read_approved(use_case: str, version: Version) -> Evidence:
    """The evidence of a version's last approval; it must still have the digest that was tagged."""
    approved_digest = version.tags.get(tags.APPROVED_DIGEST, "")
    kept, _, artifact = version.tags.get(registry.approval_tag(approved_digest), "").partition(" ")
    if not kept:
        raise registry.RegistryError(
            f"model {version.name} version {version.version} was never approved for production: "
            f"release it with {definitions.load(use_case).release_dag}"
        )
    stored = registry.training_text(version.run_id, artifact).encode()
    document = msgspec.json.decode(stored, type=Evidence)
    if _sha256(stored) != kept or document.image.digest != approved_digest:
        raise registry.RegistryError(
            f"the evidence of version {version.version} ({artifact} of run {version.run_id}) is not the one "
            "that was approved: its digest differs from the version's tag. Release the version again"
        )
    return document
