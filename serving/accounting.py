"""Who asks, and what is counted: request ids and counters of every route."""

import re
import secrets
import time
from typing import TYPE_CHECKING

from flask import Flask, Response, request

from serving.metrics import ENDPOINTS

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from serving.service import Service

REQUEST_ID = "scoring.request_id"
CLIENT = "scoring.client"
"""Keys of the WSGI environment under which the access log finds both."""
REQUEST_ID_PATTERN = "[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}"
_SANE = re.compile(REQUEST_ID_PATTERN)
_BEGAN = "scoring.began"


def request_id(environ: "WSGIEnvironment") -> str:
    """The client's ``X-Request-ID`` where it is sane, otherwise a new one; kept in the environment."""
    given = environ.get("HTTP_X_REQUEST_ID", "")
    chosen = given if _SANE.fullmatch(given) else secrets.token_hex(16)
    environ[REQUEST_ID] = chosen
    return str(chosen)


def init_app(app: Flask, service: "Service") -> None:
    """Give every request an id, and count every answer."""

    @app.before_request
    def begin() -> None:
        request_id(request.environ)
        request.environ[_BEGAN] = time.perf_counter()

    @app.after_request
    def account(response: Response) -> Response:
        response.headers["X-Request-ID"] = request.environ[REQUEST_ID]
        response.headers.setdefault("Cache-Control", "no-store")
        endpoint = (request.endpoint or "other").partition(".")[0]
        known = endpoint if endpoint in ENDPOINTS else "other"
        service.metrics.answered(known, response.status_code, time.perf_counter() - request.environ[_BEGAN])
        return response
