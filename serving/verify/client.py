"""The verification client's side of HTTP: one keep-alive connection, on the standard library alone."""

import http.client
import json
import os
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_REQUEST_ID_PREFIX = "verify-"
"""For people who read the log. What is the release's own is told by the client's name, which no request chooses."""
_TIMEOUT = 10.0


class Failed(Exception):
    """Raised when a check saw something else than it should; the message says both."""


class Client:
    """One keep-alive connection to the server."""

    def __init__(self, url: str, key: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SystemExit(f"{url!r} is not an address: give http://host:port")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=_TIMEOUT)
        self._headers = {"X-API-Key": key} if key else {}
        self._trace = {"traceparent": parent} if (parent := os.environ.get("TRACEPARENT")) else {}

    def get(self, path: str) -> tuple[int, bytes]:
        return self._send("GET", path, None, self._headers)

    def predict(self, records: Any, *, key: bool = True, explain: bool = False) -> tuple[int, bytes]:
        headers = dict(self._headers) if key else {}
        headers |= self._trace | {
            "Content-Type": "application/json",
            "X-Request-ID": f"{_REQUEST_ID_PREFIX}{uuid.uuid4().hex}",
        }
        path = "/predict?explain=true" if explain else "/predict"
        return self._send("POST", path, json.dumps(records).encode(), headers)

    def close(self) -> None:
        self._connection.close()

    def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        try:
            self._connection.request(method, path, body, dict(headers))
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next request starts on a new connection
            raise


def members(what: str, status: int, body: bytes) -> dict[str, Any]:
    """The JSON object that was answered with 200; ``Failed`` for anything else, such as the page of a proxy."""
    expect(what, status, 200, body)
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Failed(f"{what} should answer a JSON object, answered {body[:300].decode(errors='replace')}")
    return found


def expect(what: str, status: int, wanted: int, body: bytes = b"") -> str:
    if status != wanted:
        raise Failed(f"{what} should answer {wanted}, answered {status} {body[:300].decode(errors='replace')}".strip())
    return f"{what}: {status}"
