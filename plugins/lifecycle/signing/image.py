"""The signature of an image, in cosign's format: a small JSON text that names the image's digest, signed.

``cosign verify --key`` takes it as it is, and so do Ratify and Kyverno. It also says which model version the image is
of, as an annotation: a signed image of another version is not that of this one.
"""

import base64
from collections.abc import Iterable
from typing import Any

import msgspec

from lifecycle.image_reference import ImageReference
from serving.scoring.described import described
from training.signing.keys import SignatureError, SigningKey, VerificationKey, maker

PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
_KIND = "cosign container image signature"
_MODEL, _VERSION = "lifecycle.model", "lifecycle.version"


@described
class Entry(msgspec.Struct, frozen=True):
    """A payload with one signature. An image may have several, each of a key of its own."""

    payload: bytes
    signature: bytes
    """DER."""

    @classmethod
    def read(cls, payload: bytes, signature: str) -> "Entry | None":
        """From a payload and the base64 text beside it; ``None`` where that is not base64, as of another tool."""
        try:
            return cls(payload, base64.b64decode(signature, validate=True))
        except ValueError:
            return None

    @property
    def text(self) -> str:
        """The signature in base64."""
        return base64.b64encode(self.signature).decode()


class _Image(msgspec.Struct, rename="kebab"):
    docker_manifest_digest: str


class _Identity(msgspec.Struct, rename="kebab"):
    docker_reference: str


class _Critical(msgspec.Struct):
    identity: _Identity
    image: _Image
    type: str


@described
class _Payload(msgspec.Struct):
    critical: _Critical
    optional: dict[str, Any] | None = None


def tag(digest: str) -> str:
    """Under which tag of its repository a registry keeps an image's signature."""
    return f"{digest.replace(':', '-')}.sig"


def sign(image: ImageReference, model: str, version: str, key: SigningKey) -> Entry:
    """Sign an image as that of a model version."""
    document = {
        "critical": {
            "identity": {"docker-reference": _named(image)},
            "image": {"docker-manifest-digest": image.digest},
            "type": _KIND,
        },
        "optional": {_MODEL: model, _VERSION: version},
    }
    payload = msgspec.json.encode(document)
    return Entry(payload, key.sign(payload))


def check(
    image: ImageReference, model: str, version: str, entries: Iterable[Entry], keys: Iterable[VerificationKey]
) -> VerificationKey:
    """Which of ``keys`` has signed the image as that of this model version; raises ``SignatureError``."""
    keys, why = tuple(keys), "it has no signature"
    for entry in entries:
        made_by = maker(keys, entry.signature, entry.payload)
        if made_by is None:
            names = ", ".join(str(key.who) for key in keys) or "none"
            why = f"none of the keys listed in image_keys of [signing] ({names}) has made its signature"
        elif not (why := _objection(image, model, version, entry.payload)):
            return made_by
    raise SignatureError(why)


def _objection(image: ImageReference, model: str, version: str, payload: bytes) -> str:
    """What of a signed payload is not about this image; empty where all of it is."""
    try:
        found = msgspec.json.decode(payload, type=_Payload)
    except msgspec.MsgspecError as error:
        return f"its signature is over something else than cosign's text: {error}"
    critical, about = found.critical, found.optional or {}
    if (critical.type, critical.image.docker_manifest_digest) != (_KIND, image.digest):
        return f"its signature is that of {critical.image.docker_manifest_digest}"
    if critical.identity.docker_reference != _named(image):
        return f"its signature is for {critical.identity.docker_reference}, and this is {_named(image)}"
    if (about.get(_MODEL), about.get(_VERSION)) != (model, version):
        return f"its signature is for version {about.get(_VERSION)} of {about.get(_MODEL)}"
    return ""


def _named(image: ImageReference) -> str:
    """The repository, or the folder without those that it lies in, which may move."""
    return image.place.rpartition("/")[2] if image.kind == "folder" else image.place
