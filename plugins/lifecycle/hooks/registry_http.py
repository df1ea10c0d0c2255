"""One repository of an image registry, over the registry's HTTP API: its manifests and blobs, read and written."""

import hashlib
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

import requests

from lifecycle.hooks.connections import address

_TIMEOUT = 30
_AZURE_SCOPE = "https://containerregistry.azure.net/.default"
"""As Azure's own client asks: registries may be told to take no token for all of Azure's management."""
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
PULL, PULL_AND_PUSH = "pull", "pull,push"


class Repository:
    """What lies below one name. Raises ``requests.HTTPError`` for any answer but those that are spoken of.

    A session that the registry does not know yet logs in as the registry asks: with login and password, or with a token
    that these, or nothing, are exchanged for.
    """

    def __init__(self, base: str, name: str, *, actions: str = PULL, login: tuple[str, str] | None = None) -> None:
        self._base, self._name, self._actions, self._login = base, name, actions, login
        self._session = requests.Session()
        self._session.auth = login

    def authorise(self, token: str) -> None:
        """Ask with this token from here on."""
        self._session.auth = _Bearer(token)

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> "Repository":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def manifest(self, reference: str, accept: str) -> bytes | None:
        """A manifest by tag or digest; ``None`` where there is none."""
        answer = self._send("GET", f"manifests/{reference}", headers={"Accept": accept})
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return answer.content

    def blob(self, digest: str) -> bytes | None:
        """A blob whose content is that of its digest; ``None`` where the registry has none, or another content."""
        answer = self._send("GET", f"blobs/{digest}")
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return answer.content if digest_of(answer.content) == digest else None

    def put_blob(self, content: bytes) -> str:
        """Keep a blob and return its digest; one that is there already stays."""
        digest = digest_of(content)
        if self._send("HEAD", f"blobs/{digest}").status_code == 200:
            return digest
        begun = self._send("POST", "blobs/uploads/")
        begun.raise_for_status()
        place = urljoin(begun.url, begun.headers["Location"])
        headers = {"Content-Type": "application/octet-stream"}
        self._request("PUT", place, params={"digest": digest}, data=content, headers=headers).raise_for_status()
        return digest

    def put_manifest(self, reference: str, content: bytes, media_type: str) -> None:
        """Keep a manifest under a tag, in place of the one that was there."""
        headers = {"Content-Type": media_type}
        self._send("PUT", f"manifests/{reference}", data=content, headers=headers).raise_for_status()

    def _send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        return self._request(method, f"{self._base}/v2/{self._name}/{path}", **arguments)

    def _request(self, method: str, url: str, **arguments: Any) -> requests.Response:
        answer = self._session.request(method, url, timeout=_TIMEOUT, **arguments)
        challenge = answer.headers.get("WWW-Authenticate", "")
        if answer.status_code != 401 or not challenge.lower().startswith("bearer "):
            return answer
        self.authorise(self._exchanged(dict(_CHALLENGE.findall(challenge))))
        return self._session.request(method, url, timeout=_TIMEOUT, **arguments)

    def _exchanged(self, challenge: dict[str, str]) -> str:
        """A token of the server that the registry names, for this repository."""
        asked = {"service": challenge.get("service", ""), "scope": f"repository:{self._name}:{self._actions}"}
        answer = requests.get(challenge["realm"], params=asked, auth=self._login, timeout=_TIMEOUT)
        answer.raise_for_status()
        found = answer.json()
        return str(found.get("token") or found["access_token"])


class _Bearer(requests.auth.AuthBase):
    """A token as requests takes it: also where a ``.netrc`` knows the host."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def open_acr(connection: Any, credential: Callable[[], Any], name: str, actions: str = PULL) -> Repository:
    """A repository of a container registry of Azure.

    A connection with login and password speaks to the registry with these; another one exchanges its Azure token, of
    what ``credential`` returns, for one of the registry.
    """
    base = address(connection, "https")
    if connection.conn_type != "azure" and connection.login and connection.password:
        return Repository(base, name, actions=actions, login=(connection.login, connection.password))
    repository = Repository(base, name, actions=actions)
    repository.authorise(_azure_token(base, credential(), name, actions))
    return repository


def digest_of(content: bytes) -> str:
    """``sha256:`` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _azure_token(base: str, credential: Any, repository: str, actions: str) -> str:
    service = base.partition("://")[2]
    exchanged = requests.post(
        f"{base}/oauth2/exchange",
        data={
            "grant_type": "access_token",
            "service": service,
            "access_token": credential.get_token(_AZURE_SCOPE).token,
        },
        timeout=_TIMEOUT,
    )
    exchanged.raise_for_status()
    granted = requests.post(
        f"{base}/oauth2/token",
        data={
            "grant_type": "refresh_token",
            "service": service,
            "scope": f"repository:{repository}:{actions}",
            "refresh_token": exchanged.json()["refresh_token"],
        },
        timeout=_TIMEOUT,
    )
    granted.raise_for_status()
    return str(granted.json()["access_token"])
