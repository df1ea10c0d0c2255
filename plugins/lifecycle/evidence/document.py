"""The evidence document of one release: what was known when a person decided, and what they decided.

It is kept as a JSON artifact of the training run, because Airflow deletes its own record of an approval
together with the task. Its schema is published as ``docs/evidence.schema.json``.
"""

import hashlib
from typing import Annotated, Any

import msgspec
from airflow.sdk import BaseHook
from msgspec import UNSET, UnsetType

from lifecycle import settings
from lifecycle.evidence import signature
from lifecycle.evidence.cost import Cost
from lifecycle.evidence.known_faults import Scan
from lifecycle.evidence.signature import SignatureError, SignedApproval, Statement
from lifecycle.hooks import registry
from lifecycle.hooks.registry import RegistryError, Version
from lifecycle.image_reference import ImageReference, ImageReferenceError
from serving.scoring.described import described
from training import use_case as definitions
from training.impact.record import Preview
from training.registry import tags
from training.signing.keys import Signer

SCHEMA_VERSION = 3
_ONE_IMAGE_SINCE = 3
"""Before, a document held an image and its digest as two texts."""


class DecidedError(ValueError):
    """Raised where evidence would replace other evidence that somebody has decided on."""


class Decision(msgspec.Struct, frozen=True):
    """Who decided what, when and why. A time-out is nobody's rejection."""

    approved: bool
    decided_by: str
    decided_at: str
    """RFC 3339, UTC."""
    comment: str
    user_id: str = ""
    """What Airflow's auth manager calls them; ``decided_by`` is their name. Empty up to schema version 2."""


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


ImageText = Annotated[
    str,
    msgspec.Meta(
        description="repository@sha256:..., an engine's image id, /folder@sha256:..., or models:/name@sha256:..."
    ),
]


@described
class Signed(msgspec.Struct, kw_only=True):
    """Who has signed what is released; ``None`` where the settings do without a signature."""

    bundle: Signer | None = None
    image: Signer | None = None
    """``None`` also where nothing was built."""


class Image(msgspec.Struct, kw_only=True):
    """What was built for it; or, where no server answers requests, the bundle and the code that runs it."""

    reference: ImageText
    sbom_digest: str | UnsetType = UNSET
    base: str | UnsetType = UNSET
    """What it was built from: the base image's name, and its id or digest as far as the builder knows it."""
    scan: Scan | UnsetType = UNSET
    """Known faults of its Python packages."""
    signed_by: Signed | UnsetType = UNSET
    """Absent in documents of before anything was signed."""
    bundle: str | UnsetType = UNSET
    """Digest of the model's bundle, where nothing was built."""
    code: str | UnsetType = UNSET
    """Hash of the published code that runs it. ``reference`` has the digest of both."""

    @property
    def content(self) -> ImageReference:
        return ImageReference.parse(self.reference)


class Running(msgspec.Struct, kw_only=True):
    """What a target ran before this release touched it."""

    version: str
    image: ImageText


class Night(msgspec.Struct, kw_only=True):
    """The drift of one nightly window."""

    window: str
    """The night, an ISO date."""
    verdict: str
    drifted_fields: int = 0
    confirmed: str = ""
    """Fields that drifted for several nights in a row, joined by commas."""

    @property
    def said(self) -> str:
        """The verdict without the date that it may begin with: ``window`` stands beside it."""
        return self.verdict.removeprefix(f"{self.window}: ")


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
Report = Annotated[
    dict[str, Any],
    msgspec.Meta(
        description="What a verification found: its checks and the short load run.",
        extra_json_schema=_object(
            passed={"type": "boolean"},
            checks={
                "type": "array",
                "items": _object(name={"type": "string"}, passed={"type": "boolean"}, detail={"type": "string"}),
            },
        ),
    ),
]


@described
class Evidence(msgspec.Struct, kw_only=True):
    """Everything the gate shows, and the decision."""

    schema_version: int = SCHEMA_VERSION
    release: Release
    model: Model
    evaluation: Evaluation
    image: Image
    staging_report: Report | UnsetType = UNSET
    """Absent where nothing runs in staging."""
    trial_report: Report | UnsetType = UNSET
    """Of the image before it came to staging; absent where the settings want no such trial."""
    replaces: Running | None = None
    """What production runs, and a failed release puts back."""
    preview: Preview | None = None
    """What the release would change for the records at hand; none in documents of earlier releases."""
    drift: list[Night] = []
    """The last nights, newest first."""
    answer_by: str = ""
    """Until when an answer counts at least, RFC 3339, UTC: the gate counts from its question, which is put later."""
    stage_seconds: dict[str, float] = {}
    """Time spent by task, up to the gate."""
    cost: Cost | UnsetType = UNSET
    """What was used up to the gate, the training of the version included, and what it costs; none in documents of
    earlier releases."""
    decision: Decision | None = None
    approval: SignedApproval | None = None
    """The decision, signed; none up to schema version 2."""


def path(key: str) -> str:
    """Artifact path of a release's evidence within the training run."""
    return f"evidence/{key}.json"


def text_path(key: str) -> str:
    """Artifact path of what the gate showed of it, beside the document."""
    return f"evidence/{key}.md"


def encode(document: Evidence) -> bytes:
    """The document as stored: indented, and the same bytes for the same content."""
    return _encoded(document)


def _encoded(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=2)


@described
class _Pair(msgspec.Struct):
    image: str
    digest: str


def decode(stored: str | bytes) -> Evidence:
    """A stored document, of this or an earlier version of the schema.

    Raises ``msgspec.ValidationError`` for anything else, an image included that does not say what its content is,
    or that is not the one of the digest which earlier versions kept beside it.
    """
    found = msgspec.json.decode(stored)
    try:
        if isinstance(found, dict) and found.get("schema_version", 1) < _ONE_IMAGE_SINCE:
            _join(found["image"], "reference")
            if found.get("replaces"):
                _join(found["replaces"], "image")
            found["schema_version"] = SCHEMA_VERSION
        document = msgspec.convert(found, Evidence)
        for text in (document.image.reference, *([document.replaces.image] if document.replaces else ())):
            ImageReference.parse(text)
    except (KeyError, TypeError, ImageReferenceError) as error:
        raise msgspec.ValidationError(f"not an evidence document: {error}") from error
    return document


def _join(holder: dict[str, Any], name: str) -> None:
    """Make one text of an image and its digest."""
    pair = msgspec.convert({"image": holder[name], "digest": holder.pop("digest")}, _Pair)
    holder[name] = str(ImageReference.parse_pair(pair.image, pair.digest))


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
    return msgspec.structs.replace(document, decision=None, approval=None)


def _facts(document: Evidence) -> bytes:
    """What stays the same in every try: times and the last nights go on."""
    return encode(msgspec.structs.replace(undecided(document), stage_seconds={}, cost=UNSET, drift=[], answer_by=""))


def kept(document: Evidence) -> tuple[Evidence, str] | None:
    """The document of an earlier try, with its decision if it has one, and its text; where its facts are the same.

    Raises ``DecidedError`` where they are not, and somebody has decided on the earlier ones.
    """
    run_id, key = document.model.training_run_id, document.release.key
    stored, text = registry.find_text(run_id, path(key)), registry.find_text(run_id, text_path(key))
    earlier = decode(stored) if stored is not None else None
    if earlier is not None and text is not None and _facts(earlier) == _facts(document):
        return earlier, text
    if earlier is not None and earlier.decision is not None:
        raise DecidedError(
            f"{earlier.decision.decided_by} has decided on this release at {earlier.decision.decided_at}, and what is "
            "known of it now is something else: its evidence stays as it is"
        )
    return None


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
    return decode(registry.training_text(training_run_id, path(key)))


def _statement(document: Evidence, decision: Decision, undecided_digest: str) -> Statement:
    """What a signature under this decision about this document vouches for."""
    return Statement(
        model=document.model.name,
        version=document.model.version,
        image=document.image.reference,
        evidence=undecided_digest,
        approved=decision.approved,
        decided_by=decision.decided_by,
        user_id=decision.user_id,
        decided_at=decision.decided_at,
    )


def decided(document: Evidence, decision: Decision) -> Evidence:
    """The document with its decision, signed with the key of connection ``approval_key``.

    Raises ``SignatureError`` where the settings list no public key for it, and ``AirflowNotFoundException`` where the
    connection is missing.
    """
    private = BaseHook.get_connection(signature.CONNECTION_ID).password or ""
    vouched = _statement(document, decision, digest(undecided(document)))
    signed = SignedApproval.sign(vouched, private, settings.load().approval_keys)
    return msgspec.structs.replace(document, decision=decision, approval=signed)


def check_signature(stored: bytes) -> None:
    """Raise ``SignatureError`` unless a stored document's decision was signed, about all that it is about."""
    document, members = decode(stored), msgspec.json.decode(stored)
    if document.decision is None or document.approval is None:
        raise SignatureError("it is unsigned, as all are that were given before approvals were signed")
    document.approval.check(settings.load().approval_keys)
    # From what is stored: a later schema may have members that the document had not when it was signed.
    asked_about = _sha256(_encoded({**members, "decision": None, "approval": None}))
    if document.approval.statement != _statement(document, document.decision, asked_about):
        raise SignatureError("its signature is about something else than it says")


def approval(document: Evidence) -> str:
    """What the model version's tag says of an approval: digest and place of the document that holds it."""
    return f"{digest(document)} {path(document.release.key)}"


def read_last_approved(use_case: str, version: Version) -> Evidence:
    """The evidence of the last approval of a version; raises ``RegistryError`` where none counts."""
    text = version.tags.get(tags.APPROVED_IMAGE, "")
    try:
        image = ImageReference.parse(text) if text else None
    except ImageReferenceError as error:
        raise RegistryError(str(error)) from error
    return read_approved(use_case, version, image)


def read_approved(use_case: str, version: Version, image: ImageReference | None) -> Evidence:
    """The evidence of the last approval of a version's image; raises ``RegistryError`` without a signed one.

    A tag says where it is, which anybody may write who may write to MLflow: only the signature makes it an approval.
    """
    named = f"version {version.version} of model {version.name}"
    again = f"Release it with {definitions.load(use_case).release_dag} and its gate"
    tagged, _, artifact = (version.tags.get(registry.approval_tag(image), "") if image else "").partition(" ")
    stored = registry.find_text(version.run_id, artifact) if artifact else None
    if stored is None or image is None:
        raise RegistryError(f"{named} was never approved for production with image {image or '(none)'}. {again}")
    try:
        document = decode(stored)
    except msgspec.MsgspecError as error:
        raise RegistryError(
            f"the evidence of {named} ({artifact} of run {version.run_id}) cannot be read: {error}. {again}"
        ) from error
    about = (document.model.name, document.model.version, document.image.content)
    if _sha256(stored.encode()) != tagged or about != (version.name, version.version, image):
        raise RegistryError(
            f"the evidence of {named} ({artifact} of run {version.run_id}) is not the one that was approved: its "
            f"digest differs from the version's tag, or it is about another image. {again}"
        )
    try:
        check_signature(stored.encode())
    except SignatureError as error:
        raise RegistryError(
            f"the approval of {named} with image {image} does not count: {error} ({artifact} of run "
            f"{version.run_id}). {again}"
        ) from error
    if document.decision is None or not document.decision.approved:
        raise RegistryError(f"{named} was rejected with image {image}. {again}")
    return document
