"""Signed approvals: Ed25519 over what was decided, about what, by whom and when.

The private key is the password of Airflow's connection ``approval_key``, which only the workers may read. Whatever
checks an approval needs public keys alone, and they are settings (``approval_keys``).
"""

import base64
import hashlib
from collections.abc import Iterable
from datetime import date, datetime
from typing import Self

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

CONNECTION_ID = "approval_key"
_CONTEXT = b"lifecycle approval, version 1\n"
"""Before the signed bytes, so that no signature made for another purpose passes for an approval."""


class SignatureError(ValueError):
    """Raised when an approval cannot be signed, or its signature does not hold."""


class PublicKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key that approvals are checked with."""

    id: str
    """Names the key in each approval that it signed."""
    public: str
    """32 bytes in base64."""
    since: date = msgspec.field(name="from")
    """The first day (UTC) whose decisions it signs."""
    until: date | None = None
    """The last such day; none while the key is in use. Approvals up to then stay valid."""

    def __post_init__(self) -> None:
        if len(_decoded(self.public, f"public key {self.id!r}")) != 32:
            raise ValueError(
                f"public key {self.id!r} is not 32 bytes long: `make approval-key` prints the line to copy"
            )

    def covers(self, moment: str) -> bool:
        """Whether a decision at ``moment`` (RFC 3339, UTC) falls into its days."""
        day = datetime.fromisoformat(moment).date()
        return self.since <= day and (self.until is None or day <= self.until)


class Statement(msgspec.Struct, frozen=True):
    """What a signature vouches for."""

    model: str
    version: str
    image: str
    """The image reference as text: what its content is stands in it."""
    evidence: str
    """Digest of the evidence document before the decision was written into it."""
    approved: bool
    decided_by: str
    user_id: str
    decided_at: str
    """RFC 3339, UTC."""

    def encoded(self) -> bytes:
        return _CONTEXT + msgspec.json.encode(self, order="sorted")


class SignedApproval(msgspec.Struct, frozen=True):
    """A statement with its signature."""

    statement: Statement
    key: str
    """Id of the public key."""
    signature: str
    """64 bytes in base64."""

    @classmethod
    def sign(cls, statement: Statement, private: str, keys: Iterable[PublicKey]) -> Self:
        """Sign with a private key (32 bytes in base64) whose public half is listed and covers the decision's day."""
        signer = _private_key(private)
        public = public_half(private)
        key = next((key for key in keys if key.public == public), None)
        if key is None:
            raise SignatureError(
                f"the public half of the private key in connection {CONNECTION_ID} is not listed in the settings, so "
                f"nothing could check this approval: add {public} to approval_keys, as docs/operate.md says"
            )
        if not key.covers(statement.decided_at):
            raise SignatureError(
                f"approval key {key.id!r} counts from {key.since} until {key.until or 'further notice'}, and the "
                f"decision was taken at {statement.decided_at}: correct the dates in approval_keys, or release again"
            )
        return cls(statement, key.id, base64.b64encode(signer.sign(statement.encoded())).decode())

    def check(self, keys: Iterable[PublicKey]) -> None:
        """Raise ``SignatureError`` unless a listed key signed the statement, in its days."""
        key = next((key for key in keys if key.id == self.key), None)
        if key is None:
            raise SignatureError(f"its key {self.key!r} is not listed in approval_keys of the settings")
        if not key.covers(self.statement.decided_at):
            raise SignatureError(
                f"key {key.id!r} counts from {key.since} until {key.until or 'further notice'}, and the decision is "
                f"dated {self.statement.decided_at}"
            )
        public = Ed25519PublicKey.from_public_bytes(_decoded(key.public, f"public key {key.id!r}"))
        try:
            public.verify(_decoded(self.signature, "the signature"), self.statement.encoded())
        except InvalidSignature:
            raise SignatureError(f"its signature was not made with key {key.id!r} over what it says") from None


def new_private_key() -> str:
    """A new private key: 32 bytes in base64."""
    return base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode()


def public_half(private: str) -> str:
    """The public key that belongs to a private one; 32 bytes in base64."""
    return base64.b64encode(_private_key(private).public_key().public_bytes_raw()).decode()


def key_id(public: str) -> str:
    """A name for a public key: the first 12 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(_decoded(public, "the public key")).hexdigest()[:12]


def _private_key(private: str) -> Ed25519PrivateKey:
    raw = _decoded(private, f"the private key in connection {CONNECTION_ID}")
    if len(raw) != 32:
        raise SignatureError(
            f"the private key in connection {CONNECTION_ID} has {len(raw)} bytes and not 32: make one with "
            "`make approval-key`"
        )
    return Ed25519PrivateKey.from_private_bytes(raw)


def _decoded(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # not in the alphabet, or not even ASCII
        # Not the text itself: it may be the private key.
        raise SignatureError(f"{what} is not base64 ({error}): make a key with `make approval-key`") from None
