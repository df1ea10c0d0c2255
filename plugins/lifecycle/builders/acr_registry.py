"""Ask a container registry of Azure for the digest behind a tag."""

from typing import Any

import requests

from lifecycle.hooks.connections import address

_TIMEOUT = 30
_ARM_SCOPE = "https://management.azure.com/.default"
_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


def manifest_digest(connection: Any, credential: Any, *, repository: str, tag: str) -> str | None:
    """The digest of ``repository:tag``, or ``None`` where the registry has no such tag.

    A connection with login and password speaks to the registry with these; another one exchanges its
    Azure token for one of the registry. Raises ``requests.HTTPError`` for any answer but 200 and 404.
    """
    base = address(connection, "https")
    with requests.Session() as session:
        if connection.conn_type != "azure" and connection.login and connection.password:
            session.auth = (connection.login, connection.password)
        else:
            session.headers["Authorization"] = f"Bearer {_token(session, base, credential, repository)}"
        answer = session.head(
            f"{base}/v2/{repository}/manifests/{tag}", headers={"Accept": _MANIFESTS}, timeout=_TIMEOUT
        )
    if answer.status_code == 404:
        return None
    answer.raise_for_status()
    return answer.headers["Docker-Content-Digest"]


def _token(session: requests.Session, base: str, credential: Any, repository: str) -> str:
    service = base.partition("://")[2]
    exchanged = session.post(
        f"{base}/oauth2/exchange",
        data={
            "grant_type": "access_token",
            "service": service,
            "access_token": credential.get_token(_ARM_SCOPE).token,
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
