"""Who asks, and what is counted: request ids and counters of every route."""

import re
import secrets
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask

from serving.metrics import ENDPOINTS
from serving.trace_context import note_trace

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from serving.service import Service

REQUEST_ID = "scoring.request_id"
CLIENT = "scoring.client"
PROBLEM = "scoring.problem"
"""Keys of the WSGI environment under which the access log finds these: the last is the kind of a refusal."""
REQUEST_ID_PATTERN = "[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}"
_PATTERN = re.compile(REQUEST_ID_PATTERN)


def request_id(environ: "WSGIEnvironment") -> str:
    """The client's ``X-Request-ID`` where it matches the pattern, otherwise a new one; kept in the environment."""
    given = environ.get("HTTP_X_REQUEST_ID", "")
    chosen = given if _PATTERN.fullmatch(given) else secrets.token_hex(16)
    environ[REQUEST_ID] = chosen
    return str(chosen)


def init_app(app: Flask, service: "Service") -> None:
    """Give every request an id, and count every answer.

    Around Flask and not in its hooks, which would take 20 microseconds.
    """
    answer, count, spans = app.wsgi_app, service.metrics.answered, service.spans

    def accounted(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        began = time.perf_counter()
        own = [("X-Request-ID", request_id(environ))]
        if "HTTP_TRACEPARENT" in environ:
            note_trace(environ)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            endpoint = (environ["werkzeug.request"].endpoint or "other").partition(".")[0]
            took = time.perf_counter() - began
            count(endpoint if endpoint in ENDPOINTS else "other", int(status[:3]), took)
            if spans is not None and endpoint == "predict":
                spans.answered(environ, int(status[:3]), took)
            if not any(name == "Cache-Control" for name, _ in headers):
                own.append(("Cache-Control", "no-store"))
            return start_response(status, headers + own, exc_info)

        return answer(environ, start)

    app.wsgi_app = accounted  # type: ignore[method-assign]
