"""Calls to the scoring servers, as a client would make them."""

from dataclasses import dataclass
from typing import Any

import requests

_TIMEOUT = 10.0


class ScoringError(RuntimeError):
    """Raised when a scoring server does not answer as it should; the message has its answer."""


@dataclass(frozen=True)
class Scoring:
    """One scoring server behind its public address."""

    url: str
    key: str

    def version(self) -> str | None:
        """The model version that answers; ``None`` where nobody listens."""
        try:
            return str(self._get("/version")["model"]["version"])
        except requests.ConnectionError:
            return None

    def sample(self) -> list[dict[str, Any]]:
        """The example request of the server's own documentation."""
        operation = self._get("/openapi.json")["paths"]["/predict"]["post"]
        example: list[dict[str, Any]] = operation["requestBody"]["content"]["application/json"]["example"]
        return example

    def predict(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        answer = requests.post(f"{self.url}/predict", json=records, headers={"X-API-Key": self.key}, timeout=_TIMEOUT)
        return _checked(answer)

    def _get(self, path: str) -> dict[str, Any]:
        return _checked(requests.get(f"{self.url}{path}", headers={"X-API-Key": self.key}, timeout=_TIMEOUT))


def _checked(answer: requests.Response) -> dict[str, Any]:
    if not answer.ok:
        raise ScoringError(f"{answer.url} answered {answer.status_code}: {answer.text[:500]}")
    content: dict[str, Any] = answer.json()
    return content
