"""The server's settings: environment variables, read here and nowhere else.

Every variable is ``SCORING_`` and the upper-case name of a field of ``Settings``.
"""

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from serving.scoring.described import described

PREFIX = "SCORING_"
_PORT, _METRICS_PORT = 8080, 8081

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class SettingsError(ValueError):
    """Raised when an environment variable says something that cannot be; the message names it."""


@described
class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it, with defaults for the image."""

    bundle: str = "/app/bundle"
    """Folder of the model bundle."""
    release: str = "/app/release.json"
    """What the image build wrote about this release; without the file the model version is "0"."""
    auth: Literal["keys", "entra", "off"] = "keys"
    """Who may predict: holders of an API key, holders of a Microsoft Entra access token, or everybody."""
    entra_tenant: str = ""
    """Tenant id (a GUID) whose tokens are taken, with `SCORING_AUTH=entra`."""
    entra_audience: str = ""
    """What a token has to be made for: the client id of this API (tokens of version 2), or its `api://` address."""
    entra_role: str = "Score"
    """Application role, or delegated scope, that a token must carry."""
    entra_authority: str = "https://login.microsoftonline.com"
    """Who signs the tokens, and publishes the keys; another address in a sovereign cloud."""
    api_keys_file: str = ""
    """With `entra` too, where the client `release` alone is taken from it.
    JSON object: client name to the SHA-256 of its key in hex. Read again when the file changes."""
    stop_file: str = ""
    """As long as this file is there, `/predict` answers 503 with the reason that it holds. Empty: there is none."""
    bind: str = ""
    """Comma list of addresses. Empty: port 8080, on loopback only where ``auth`` is off."""
    metrics_bind: str = ""
    """A further address, at which ``/metrics`` is answered. Empty: port 8081, on loopback only where ``auth`` is
    off; nowhere where ``bind`` is given."""
    workers: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Processes; 0 means one a CPU of the container's limit."""
    threads: Count = 8
    """Threads of a worker, for what may wait for a client: slow uploads, unread answers, every other route."""
    max_body: Count = 5 * 1024 * 1024
    """Largest request body in bytes; more is answered with 413."""
    drift: Literal["raw", "adjusted"] = "raw"
    """Which p-values ``drift__is_drift`` compares with the threshold."""
    log_required: bool = True
    """A request that cannot be logged is answered with 503. False: it is served unlogged."""
    log_timeout: Seconds = 2.0
    """Seconds that stdout may refuse a line before it counts as unable."""
    log_sensitive: Literal["keep", "drop", "hash"] = "keep"
    """What the inference log does with the fields that the contract marks as sensitive."""
    log_hash_key: str = ""
    """Secret for ``hash``: without one, a hash of an age is as good as the age."""
    access_log: bool = True
    """One JSON line for each request on stderr; successful probes are left out."""
    keepalive: Count = 75
    """Seconds that an idle connection is kept: longer than a proxy in front does (nginx: 60), for otherwise the proxy
    sends requests into connections that are just being closed."""
    client_timeout: Count = 30
    """Seconds in which a client has to send a request once it has begun, and to take the answer."""
    drain_seconds: Seconds = 1.0
    """After SIGTERM: readiness has fallen and requests are still accepted for this long."""
    graceful_timeout: Count = 30
    """Seconds after SIGTERM at which what still runs is cut off."""
    max_requests: Annotated[int, msgspec.Meta(ge=0)] = 200_000
    """Requests after which a worker is replaced, give or take a tenth; 0 means never."""

    @property
    def binds(self) -> list[str]:
        """The addresses to listen on, that of the metrics last."""
        addresses = [address.strip() for address in (self.bind or self._at(_PORT)).split(",") if address.strip()]
        return [*addresses, self._metrics_address] if self._metrics_address else addresses

    @property
    def metrics_port(self) -> str:
        """The port of the metrics' address, as WSGI has it; empty where there is none."""
        kind, _, rest = self._metrics_address.partition("://")
        if kind != "fd":
            return self._metrics_address.rpartition(":")[2]
        with socket.socket(fileno=os.dup(int(rest))) as handed_over:
            return str(handed_over.getsockname()[1])

    @property
    def _metrics_address(self) -> str:
        return self.metrics_bind or ("" if self.bind else self._at(_METRICS_PORT))

    def _at(self, port: int) -> str:
        return f"{'127.0.0.1' if self.auth == 'off' else '0.0.0.0'}:{port}"  # noqa: S104 - a container's own


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from environment variables; an unknown or wrong one raises ``SettingsError``."""
    values = {name.removeprefix(PREFIX).lower(): value for name, value in environ.items() if name.startswith(PREFIX)}
    for name in values:
        if name not in Settings.__struct_fields__:
            raise SettingsError(
                f"{PREFIX}{name.upper()} is not a setting of the scoring server: see serving/settings.py"
            )
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"a {PREFIX}* variable is wrong: {error}") from error
    if settings.auth != "off" and not settings.api_keys_file:
        raise SettingsError(f"{PREFIX}API_KEYS_FILE is not set: name the file of key hashes, or set {PREFIX}AUTH=off")
    if settings.auth == "entra":
        _refuse_entra(settings)
    if settings.log_sensitive == "hash" and not settings.log_hash_key:
        raise SettingsError(f"{PREFIX}LOG_SENSITIVE=hash needs a secret in {PREFIX}LOG_HASH_KEY")
    return settings


_TENANT = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _refuse_entra(settings: Settings) -> None:
    """Raise ``SettingsError`` where these say too little of whose tokens are taken, or what no token will match."""
    if not (settings.entra_tenant and settings.entra_audience):
        raise SettingsError(
            f"{PREFIX}AUTH=entra needs the tenant's id in {PREFIX}ENTRA_TENANT and this API's client id in "
            f"{PREFIX}ENTRA_AUDIENCE"
        )
    if not _TENANT.fullmatch(settings.entra_tenant):
        raise SettingsError(
            f"{PREFIX}ENTRA_TENANT is {settings.entra_tenant!r}: give the tenant's id as tokens name it, a GUID in "
            "lower case such as 9c0f1d2e-0a1b-4c3d-8e5f-0123456789ab (`az account show --query tenantId`). No token "
            "names a domain, `common` or `organizations`"
        )


def settings_or_exit() -> Settings:
    """The settings of this process; wrong ones end it with one line."""
    try:
        return read_settings()
    except SettingsError as error:
        raise not_started(error) from None


def not_started(error: SettingsError) -> SystemExit:
    """What ends a process that cannot start: gunicorn would tell where in its own code that happened."""
    return SystemExit(f"the scoring server does not start: {error}")


class SignedBy(msgspec.Struct, frozen=True):
    """Who has signed the model's bundle."""

    signer: str
    key: str
    """Id of the public key, 64 hexadecimal digits."""


@described
class Release(msgspec.Struct, frozen=True):
    """What the image build says of the model that it packed (``release.json``)."""

    model_name: str
    model_version: str = "0"
    run_id: str = ""
    data_digest: str = ""
    revision: str = ""
    """Git revision of the image."""
    code_hash: str = ""
    sbom_digest: str = ""
    """Of the image's ``sbom.json``."""
    created: str = ""
    extras: tuple[str, ...] = ()
    """Optional requirements that the image holds."""
    signed_by: SignedBy | None = None
    """Of the model's bundle; ``None`` where the build did without a signature."""


def read_release(path: Path, model_name: str) -> Release:
    """Read ``release.json``; where there is none, version "0" of ``model_name``."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Release)
    except FileNotFoundError:
        return Release(model_name=model_name)
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingsError(f"the release file {path} cannot be read: {error}") from error
