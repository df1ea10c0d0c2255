"""Keys that sign bundles and images: ECDSA on the curve P-256 with SHA-256, which both formats know.

A private key is a PEM file, or it stays in an Azure Key Vault, which signs with it and never shows it. Whatever checks
a signature needs public keys alone, and they are settings (``[signing]``).
"""

import base64
import functools
import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

_ALGORITHM = ec.ECDSA(hashes.SHA256())
_VAULT_KEY = re.compile(r"https://[a-z0-9-]+(\.[a-z0-9-]+)+/keys/[A-Za-z0-9-]+(/[0-9a-f]+)?", re.IGNORECASE)
_DOUBLE = re.compile(r"http://127\.0\.0\.1:\d+/keys/[A-Za-z0-9-]+(/[0-9a-f]+)?")
"""A test's stand-in: whatever else is spoken to without TLS could take the token."""
_API_VERSION = "7.4"
_TIMEOUT = 30
_SHOWN = 12
"""Hexadecimal digits of a key's id that people see."""


class SignatureError(ValueError):
    """Raised when something cannot be signed, or its signature does not hold; the message says why."""


class Signer(msgspec.Struct, frozen=True):
    """Who has signed something."""

    signer: str
    """As the settings name whoever holds the private key."""
    key: str
    """Id of the public key."""

    def __str__(self) -> str:
        return f"{self.signer} (key {self.key[:_SHOWN]})"


class VerificationKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A public key whose signatures count."""

    signer: str
    """Who holds the private half, in words that people read."""
    public: str
    """The public key as PEM has it, without the lines that begin and end it: base64, in one line."""

    def __post_init__(self) -> None:
        if not self.signer.strip():
            raise ValueError("a key of [signing] has an empty signer: say who holds its private half")
        _loaded(self)

    @property
    def id(self) -> str:
        """64 hexadecimal digits: the hint that the model signing format names a key by."""
        return key_id(_loaded(self))

    @property
    def who(self) -> Signer:
        return Signer(self.signer, self.id)

    def made(self, signature: bytes, data: bytes) -> bool:
        """Whether this key has made a signature (DER) over these bytes."""
        try:
            _loaded(self).verify(signature, data, _ALGORITHM)
        except InvalidSignature:
            return False
        return True


class SigningKey(Protocol):
    """A private key, wherever it is."""

    @property
    def public(self) -> ec.EllipticCurvePublicKey:
        """Its public half."""

    def sign(self, data: bytes) -> bytes:
        """A signature (DER) over these bytes; raises ``SignatureError``."""


class FileKey:
    """A key in a PEM file, as ``openssl ecparam -name prime256v1 -genkey`` and this project write it."""

    def __init__(self, path: Path) -> None:
        try:
            self._private = private_of_pem(path.read_text())
        except OSError as error:
            raise SignatureError(f"the signing key {path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise SignatureError(f"{path} {error}") from None

    @property
    def public(self) -> ec.EllipticCurvePublicKey:
        return self._private.public_key()

    def sign(self, data: bytes) -> bytes:
        return self._private.sign(data, _ALGORITHM)


class VaultKey:
    """A key of type EC or EC-HSM on P-256 in an Azure Key Vault, of its newest version where the address names none.

    ``token`` gives an access token for the vault; it needs the rights ``keys/get`` and ``keys/sign``.
    """

    def __init__(self, url: str, token: Callable[[], str]) -> None:
        self._url = url
        self._token = token

    @property
    def public(self) -> ec.EllipticCurvePublicKey:
        key = self._key
        try:
            numbers = ec.EllipticCurvePublicNumbers(_number(key["x"]), _number(key["y"]), ec.SECP256R1())
            if key["crv"] != "P-256":
                raise ValueError(key["crv"])
            return numbers.public_key()
        except (KeyError, ValueError) as error:
            raise SignatureError(
                f"{self._url} is not an elliptic curve key on P-256: make one with --curve P-256"
            ) from error

    def sign(self, data: bytes) -> bytes:
        digest = hashlib.sha256(data).digest()
        answer = self._ask("POST", f"{self._key['kid']}/sign", {"alg": "ES256", "value": _base64url(digest)})
        # The vault gives r and s side by side, as JWS has them; both formats want DER.
        raw = _from_base64url(answer["value"])
        half = len(raw) // 2
        return utils.encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))

    @functools.cached_property
    def _key(self) -> dict[str, Any]:
        """The key as JSON Web Key; ``kid`` is its address with the version."""
        found: dict[str, Any] = self._ask("GET", self._url, None)["key"]
        if _place(found["kid"]) != _place(self._url):
            raise SignatureError(f"{self._url} answers with the address of another key: {found['kid']}")
        return found

    def _ask(self, method: str, url: str, body: dict[str, str] | None) -> dict[str, Any]:
        import requests

        headers = {"Authorization": f"Bearer {self._token()}"}
        answer = requests.request(
            method, url, params={"api-version": _API_VERSION}, json=body, headers=headers, timeout=_TIMEOUT
        )
        if 400 <= answer.status_code < 500 and answer.status_code != 429:
            raise SignatureError(
                f"Key Vault refuses {method} {url} with {answer.status_code}: {answer.text[:300]}. The caller needs "
                "the role Key Vault Crypto User on this key"
            )
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


def open_key(place: str, credential: str = "") -> SigningKey:
    """The private key at a place: the path of a PEM file, or ``https://VAULT.vault.azure.net/keys/NAME[/VERSION]``.

    Whoever asks a vault is known by the Unity Catalog service credential that ``credential`` names, on Databricks
    alone, and otherwise by Azure's default credential.
    """
    if "://" not in place:
        return FileKey(Path(place))
    if not _VAULT_KEY.fullmatch(place) and not _DOUBLE.fullmatch(place):
        raise SignatureError(
            f"{place!r} is not the address of a key: give a file, or https://VAULT.vault.azure.net/keys/NAME"
        )
    return VaultKey(place, functools.partial(_azure_token, place, credential))


def listed(key: SigningKey, keys: Iterable[VerificationKey], setting: str) -> VerificationKey:
    """The listed public half of a private key: nothing could check what another key signs."""
    public = key_id(key.public)
    found = next((one for one in keys if one.id == public), None)
    if found is None:
        raise SignatureError(
            f"the public half of the key that would sign is not listed in {setting} of [signing] in the settings: add "
            f'{{ signer = "...", public = "{public_text(key.public)}" }} there'
        )
    return found


def maker(keys: Iterable[VerificationKey], signature: bytes, data: bytes) -> VerificationKey | None:
    """Which of the listed keys has made a signature over these bytes, if one has."""
    return next((key for key in keys if key.made(signature, data)), None)


def private_of_pem(text: str) -> ec.EllipticCurvePrivateKey:
    """A private key from its PEM; raises ``ValueError`` that says what the text is, and quotes nothing of it."""
    try:
        found = serialization.load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("is not a private key in PEM without a password") from None
    if not isinstance(found, ec.EllipticCurvePrivateKey) or found.curve.name != "secp256r1":
        raise ValueError("is a private key of another kind: give an elliptic curve key on P-256")
    return found


def new_private_pem() -> str:
    """A new private key as PEM, without a password."""
    made = ec.generate_private_key(ec.SECP256R1())
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return made.private_bytes(*encoding).decode()


def public_text(public: ec.EllipticCurvePublicKey) -> str:
    """A public key as the settings list it: base64, in one line."""
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def public_pem(public: ec.EllipticCurvePublicKey) -> str:
    """A public key as cosign, Ratify, Kyverno and model_signing read it."""
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def key_id(public: ec.EllipticCurvePublicKey) -> str:
    """64 hexadecimal digits: SHA-256 over the public key's PEM."""
    return hashlib.sha256(public_pem(public).encode()).hexdigest()


@functools.lru_cache(maxsize=64)
def _loaded(key: VerificationKey) -> ec.EllipticCurvePublicKey:
    try:
        found = serialization.load_der_public_key(base64.b64decode(key.public, validate=True))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(
            f"the public key of {key.signer!r} cannot be read ({error}): `make signing-key` prints the line to copy"
        ) from error
    if not isinstance(found, ec.EllipticCurvePublicKey) or found.curve.name != "secp256r1":
        raise ValueError(f"the public key of {key.signer!r} is of another kind: give an elliptic curve key on P-256")
    return found


def _azure_token(url: str, credential: str) -> str:
    host = urlsplit(url).hostname or ""
    scope = f"https://{host.partition('.')[2]}/.default"
    if credential:
        # Databricks has both: its runtime's own object, and an azure-identity credential behind the name.
        from databricks.sdk.runtime import dbutils

        utilities: Any = dbutils  # what the SDK says of it is not what the runtime has
        return str(utilities.credentials.getServiceCredentialsProvider(credential).get_token(scope).token)
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential().get_token(scope).token


def _place(url: str) -> tuple[str, str]:
    """Vault and name of a key's address."""
    parts = urlsplit(url)
    return parts.netloc.lower(), parts.path.split("/")[2].lower()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _number(text: str) -> int:
    return int.from_bytes(_from_base64url(text))
