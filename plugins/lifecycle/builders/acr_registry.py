"""Ask a container registry of Azure for the image behind a tag: its digest, and what its labels say."""

import hashlib
from typing import Any

import msgspec
import requests

from lifecycle.hooks.connections import address
from serving.scoring.described import described

_TIMEOUT = 30
_SCOPE = "https://containerregistry.azure.net/.default"
"""As Azure's own client asks: registries may be told to take no token for all of Azure's management."""
MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
"""What to accept when a tag's digest is asked for: the index of all systems counts before one system's manifest."""


class RegistryImage(msgspec.Struct, frozen=True):
    """What a registry keeps under a tag."""

    digest: str
    labels: dict[str, str]
    """Of the image's configuration; empty for an index of several images, which has none."""


class _Descriptor(msgspec.Struct):
    digest: str


@described
class _Manifest(msgspec.Struct):
    config: _Descriptor | None = None


class _Labels(msgspec.Struct, rename="pascal"):
    labels: dict[str, str] | None = None


@described
class _Configuration(msgspec.Struct):
    config: _Labels | None = None


def find_image(connection: Any, credential: Any, *, repository: str, tag: str) -> RegistryImage | None:
    """The image at ``repository:tag``, or ``None`` where the registry has no such tag.

    A connection with login and password speaks to the registry with these; another one exchanges its
    Azure token for one of the registry. Raises ``requests.HTTPError`` for any answer but 200 and 404.
    """
    base = address(connection, "https")
    with requests.Session() as session:
        if connection.conn_type != "azure" and connection.login and connection.password:
            session.auth = (connection.login, connection.password)
        else:
            session.headers["Authorization"] = f"Bearer {_token(session, base, credential, repository)}"
        url = f"{base}/v2/{repository}"
        answer = session.get(f"{url}/manifests/{tag}", headers={"Accept": MANIFESTS}, timeout=_TIMEOUT)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        labels: dict[str, str] = {}
        # What is read is what the digest names: neither the tag nor the registry's header can say otherwise.
        if (described := msgspec.json.decode(answer.content, type=_Manifest).config) is not None:
            configuration = session.get(f"{url}/blobs/{described.digest}", timeout=_TIMEOUT)
            configuration.raise_for_status()
            if _digest(configuration.content) == described.digest:
                found = msgspec.json.decode(configuration.content, type=_Configuration).config
                labels = (found.labels if found else None) or {}
    return RegistryImage(_digest(answer.content), labels)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _token(session: requests.Session, base: str, credential: Any, repository: str) -> str:
    service = base.partition("://")[2]
    exchanged = session.post(
        f"{base}/oauth2/exchange",
        data={
            "grant_type": "access_token",
            "service": service,
            "access_token": credential.get_token(_SCOPE).token,
        },
        timeout=_TIMEOUT,
    )
    exchanged.raise_for_status()
    granted = session.post(
        f"{base}/oauth2/token",
        data={
            "grant_type": "refresh_token",
            "service": service,
            "scope": f"repository:{repository}:pull",
            "refresh_token": exchanged.json()["refresh_token"],
        },
        timeout=_TIMEOUT,
    )
    granted.raise_for_status()
    return str(granted.json()["access_token"])
