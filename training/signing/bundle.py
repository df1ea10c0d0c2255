"""The signature of a bundle, in the OpenSSF model signing format: a statement of every file's digest, signed.

It is a Sigstore bundle (version 0.3) with one DSSE envelope around an in-toto statement. ``model_signing verify key``
takes it as it is. Written here and not with that package, which brings twelve more and does not start as installed.
"""

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from training.signing.keys import SignatureError, SigningKey, VerificationKey, key_id, maker

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_NAMED = 3
"""Files of each kind that a refusal names."""


class _Signature(msgspec.Struct):
    sig: str


class _Envelope(msgspec.Struct, rename="camel"):
    payload: str
    payload_type: str
    signatures: list[_Signature]


class _Bundle(msgspec.Struct, rename="camel"):
    media_type: str
    dsse_envelope: _Envelope


class _Subject(msgspec.Struct):
    name: str
    digest: dict[str, str]


class _Resource(msgspec.Struct):
    name: str
    algorithm: str
    digest: str


class _Predicate(msgspec.Struct):
    serialization: dict[str, Any]
    resources: list[_Resource]


class _Statement(msgspec.Struct, rename={"kind": "_type", "predicate_type": "predicateType"}):
    kind: str
    predicate_type: str
    subject: list[_Subject]
    predicate: _Predicate


def subject(model: str, run_id: str) -> str:
    """What a version's bundle is called in its signature: the registered model, and the run that trained it."""
    return f"{model}/{run_id}"


def sign(folder: Path, name: str, key: SigningKey) -> str:
    """The signature of all files of ``folder`` under ``name`` (``subject``), as JSON text."""
    digests = file_digests(folder)
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": _root(digests.values())}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []},
            "resources": [{"name": file, "algorithm": "sha256", "digest": digest} for file, digest in digests.items()],
        },
    }
    payload = msgspec.json.encode(statement)
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": base64.b64encode(key.sign(authenticated(payload))).decode(), "keyid": ""}],
    }
    material = {"publicKey": {"hint": key_id(key.public)}, "tlogEntries": []}
    document = {"mediaType": MEDIA_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope}
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def check(folder: Path, name: str, signature: str, keys: Iterable[VerificationKey]) -> VerificationKey:
    """Which of ``keys`` has signed exactly the files of ``folder`` under ``name``; raises ``SignatureError``."""
    payload, made_by = _signed_payload(signature, keys)
    try:
        statement = msgspec.json.decode(payload, type=_Statement)
    except msgspec.MsgspecError as error:
        raise SignatureError(f"its signature is over something else than a statement about files: {error}") from error
    _check_form(statement)
    (about,) = statement.subject
    if about.name != name:
        raise SignatureError(f"its signature is that of {about.name}, and this is {name}")
    signed = {resource.name: resource.digest for resource in statement.predicate.resources}
    if about.digest.get("sha256") != _root(one.digest for one in statement.predicate.resources):
        raise SignatureError("the files in its signature do not have the digest that stands beside them")
    if differences := _differences(signed, file_digests(folder)):
        raise SignatureError(f"its files are not those that {made_by.signer} has signed: {differences}")
    return made_by


def authenticated(payload: bytes) -> bytes:
    """What DSSE signs: the payload with its type and length."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def file_digests(folder: Path) -> dict[str, str]:
    """Path within ``folder`` to SHA-256 of every file, in the format's order; raises ``SignatureError`` for a link."""
    found = sorted(folder.rglob("*"), key=lambda path: PurePosixPath(path.relative_to(folder).as_posix()))
    if links := [path.name for path in found if path.is_symlink()]:
        raise SignatureError(f"a bundle holds files and no links, and this one has {', '.join(links[:_NAMED])}")
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in found
        if path.is_file()
    }


def _signed_payload(signature: str, keys: Iterable[VerificationKey]) -> tuple[bytes, VerificationKey]:
    """What the envelope holds, and which key has signed it."""
    try:
        document = msgspec.json.decode(signature, type=_Bundle)
        envelope = document.dsse_envelope
        payload = base64.b64decode(envelope.payload, validate=True)
        made = [base64.b64decode(one.sig, validate=True) for one in envelope.signatures]
    except (msgspec.MsgspecError, ValueError) as error:
        raise SignatureError(f"what is stored as its signature cannot be read as one: {error}") from error
    if (document.media_type, envelope.payload_type) != (MEDIA_TYPE, PAYLOAD_TYPE):
        raise SignatureError(
            f"its signature has the types {document.media_type} and {envelope.payload_type}: "
            f"{MEDIA_TYPE} and {PAYLOAD_TYPE} are known here"
        )
    keys = tuple(keys)
    for one in made:
        if found := maker(keys, one, authenticated(payload)):
            return payload, found
    names = ", ".join(str(key.who) for key in keys) or "none"
    raise SignatureError(f"none of the keys listed in bundle_keys of [signing] ({names}) has made its signature")


def _check_form(statement: _Statement) -> None:
    if (statement.kind, statement.predicate_type) != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise SignatureError(f"its signature is a statement of another kind: {statement.predicate_type}")
    resources = statement.predicate.resources
    if len(statement.subject) != 1 or len({one.name for one in resources}) != len(resources):
        raise SignatureError("its signature names more than one subject, or a file twice")
    if statement.predicate.serialization.get("method") != "files" or {one.algorithm for one in resources} - {"sha256"}:
        raise SignatureError("its signature counts otherwise than by whole files and SHA-256")


def _differences(signed: dict[str, str], found: dict[str, str]) -> str:
    """In words: empty where both are the same."""
    told = {
        "changed": [name for name in signed if name in found and found[name] != signed[name]],
        "missing": [name for name in signed if name not in found],
        "not signed": [name for name in found if name not in signed],
    }
    return "; ".join(
        f"{word}: {', '.join(names[:_NAMED])}{f' and {len(names) - _NAMED} more' if names[_NAMED:] else ''}"
        for word, names in told.items()
        if names
    )


def _root(digests: Iterable[str]) -> str:
    """The digest of all digests in their order, as the format has it; raises ``SignatureError``."""
    try:
        return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()
    except ValueError as error:
        raise SignatureError(f"a digest in its signature cannot be read: {error}") from error
