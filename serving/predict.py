"""``POST /predict``, as a plain WSGI application: the one route that has to be fast.

Flask would take 45 microseconds a request for what is a single path here.
"""

import logging
import re
import secrets
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving import faults
from serving.log_writer import LogUnavailable
from serving.problems import (
    MEDIA_TYPE,
    InternalError,
    MethodNotAllowed,
    NotReady,
    Problem,
    TooLarge,
    Unparsable,
    UnsupportedMediaType,
)
from serving.scoring.encode import UNKNOWN
from serving.service import Service
from serving.turns import Turns

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_log = logging.getLogger(__name__)
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_JSON = re.compile(r"application/json\s*(;\s*charset=\"?utf-?8\"?\s*)?", re.IGNORECASE)
_NO_HEADERS: tuple[tuple[str, str], ...] = ()

NOBODY = "anonymous"
"""The client's name where authentication is off."""

_DISCARDED = 4  # times the largest body: read and thrown away, so that the client sees the 413

_CHUNK = 1 << 18  # bytes to ask the socket for

REQUEST_ID = "scoring.request_id"
CLIENT = "scoring.client"
"""Keys of the WSGI environment under which the access log finds both."""


def request_id(environ: "WSGIEnvironment") -> str:
    """The client's ``X-Request-ID`` where it is sane, else a new one; kept in the environment."""
    given = environ.get("HTTP_X_REQUEST_ID", "")
    chosen = given if _SANE_REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
    environ[REQUEST_ID] = chosen
    return str(chosen)


class PredictEndpoint:
    """The WSGI application at ``/predict``."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._turns = Turns()
        self._adjusted = service.settings.drift == "adjusted"
        contract = service.bundle.contract
        self._model = msgspec.json.encode(
            {"name": service.release.model_name, "version": service.release.model_version}
        )
        self._categories = [p for p, field in enumerate(contract.fields) if field.kind == "category"]

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        began = time.perf_counter()
        identity = request_id(environ)
        try:
            body = self._answer(environ, identity)
            status, kind, extra = "200 OK", "application/json", _NO_HEADERS
        except Problem as problem:
            body, status, kind, extra = _as_answer(problem, identity)
        except Exception:  # noqa: BLE001 - the boundary: whatever fails below is answered, and logged
            _log.exception("POST /predict failed", extra={"request_id": identity})
            body, status, kind, extra = _as_answer(InternalError("the log has the reason"), identity)
        self._service.metrics.answered("predict", int(status[:3]), time.perf_counter() - began)
        start_response(
            status,
            [
                ("Content-Type", kind),
                ("Content-Length", str(len(body))),
                ("X-Request-ID", identity),
                ("Cache-Control", "no-store"),
                *extra,
            ],
        )
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, environ: "WSGIEnvironment", identity: str) -> bytes:
        service = self._service
        if environ["REQUEST_METHOD"] != "POST":
            raise MethodNotAllowed("send records with POST", "POST")
        client = service.keys.client(environ.get("HTTP_X_API_KEY")) if service.keys else NOBODY
        environ[CLIENT] = client
        if not service.lifecycle.warm:
            raise NotReady("the models are being loaded")
        body = _read_body(environ, service.settings.max_body)
        with self._turns:
            fields = self._fields(body)
            finish = service.bundle.begin(fields, adjusted=self._adjusted)
            entry = service.log.entry(identity, client, body, len(fields))  # while the assistant scores outliers
            result = finish()
            encoded = msgspec.json.encode(result)
        try:
            service.log.write(entry, result, encoded)
        except LogUnavailable as error:
            service.metrics.unlogged()
            if service.settings.log_required:
                _log.error("the inference log cannot be written: %s", error, extra={"request_id": identity})
                raise NotReady("the request could not be logged, so it is not answered; try again") from error
        service.metrics.scored(
            len(fields),
            sum(result.outliers__is_outlier),
            _unknown(fields, self._categories),
            list(result.drift__p_value.values()),
        )
        return b'{"request_id":"%b","model":%b,%b' % (identity.encode(), self._model, encoded[1:])

    def _fields(self, body: bytes) -> NDArray[np.float64]:
        """The encoded records of a request, at least one."""
        try:
            fields = self._service.reader.read(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise faults.explain(body, self._service.bundle.contract, error) from error
        if not len(fields):
            raise faults.no_records()
        return fields


def _unknown(fields: NDArray[np.float64], categories: list[int]) -> list[int]:
    """How many values of each category field are unknown; most requests have none."""
    unknown = fields == UNKNOWN
    return unknown[:, categories].sum(axis=0).tolist() if unknown.any() else []


def _read_body(environ: "WSGIEnvironment", limit: int) -> bytes:
    if not _JSON.fullmatch(environ.get("CONTENT_TYPE", "")):
        raise UnsupportedMediaType("send the header Content-Type: application/json")
    if environ.get("HTTP_CONTENT_ENCODING", "identity") != "identity":
        raise UnsupportedMediaType("send the body without Content-Encoding")
    length = environ.get("CONTENT_LENGTH", "")
    stream: Any = environ["wsgi.input"]
    body: bytes
    if length and int(length) > limit:
        # Most clients read the answer only when they have sent everything.
        stream.read(min(int(length), _DISCARDED * limit))
        raise TooLarge(f"the body has {length} bytes, {limit} are taken; send fewer records a request")
    if length:
        body = _source(stream).read(int(length))
        if len(body) < int(length):
            raise Unparsable(f"the body broke off after {len(body)} of {length} bytes")
        return body
    body = stream.read(limit + 1)  # chunked
    if len(body) > limit:
        stream.read(_DISCARDED * limit)
        raise TooLarge(f"the body has more than the {limit} bytes that are taken; send fewer records a request")
    return body


def _source(stream: Any) -> Any:
    """What is below gunicorn's buffer, which fetches 1 KiB at a time, and takes 2 ms for a thousand records."""
    reader = getattr(stream, "reader", None)
    if reader is None:
        return stream
    reader.unreader.mxchunk = _CHUNK  # it asks the socket for 8 KiB at a time
    return reader


def _as_answer(problem: Problem, identity: str) -> tuple[bytes, str, str, tuple[tuple[str, str], ...]]:
    status = f"{int(problem.status)} {problem.status.phrase}"
    return problem.document(identity), status, MEDIA_TYPE, problem.headers
