"""``POST /predict``: read a body, score its records, log both, answer."""

import logging
import re
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from flask import Response, request
from gunicorn.http.errors import ParseException
from numpy.typing import NDArray

from serving import validation
from serving.accounting import CLIENT, REQUEST_ID
from serving.errors import NotReady, TooLarge, Unparsable, UnsupportedMediaType
from serving.log_writer import LogUnavailable
from serving.scoring.encode import UNKNOWN
from serving.service import Service

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_log = logging.getLogger(__name__)
_JSON = re.compile(r"application/json\s*(;.*)?", re.IGNORECASE)
_OTHER_CHARSET = re.compile(r";\s*charset\s*=\s*(?!\"?utf-?8\"?\s*(;|$))", re.IGNORECASE)

NOBODY = "anonymous"
"""The client's name where authentication is off."""

_DISCARDED = 4  # times the largest body: read and thrown away, so that the client sees the 413


class PredictEndpoint:
    """The view of ``POST /predict``."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._adjusted = service.settings.drift == "adjusted"
        contract = service.bundle.contract
        self._model = msgspec.json.encode(
            {"name": service.release.model_name, "version": service.release.model_version}
        )
        self._categories = [p for p, field in enumerate(contract.fields) if field.kind == "category"]

    def __call__(self) -> Response:
        service, environ = self._service, request.environ
        identity: str = environ[REQUEST_ID]
        client = service.keys.client(environ.get("HTTP_X_API_KEY")) if service.keys else NOBODY
        environ[CLIENT] = client
        if not service.lifecycle.warm:
            raise NotReady("the models are being loaded")
        body = _read_body(environ, service.settings.max_body)
        with service.computing:
            fields, body = self._fields(body)
            result = service.bundle.score_fields(fields, adjusted=self._adjusted)
            encoded = msgspec.json.encode(result)
            lines = service.log.lines(identity, client, body, result, encoded)
        try:
            service.log.write(lines)
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
        answer = b'{"request_id":"%b","model":%b,%b' % (identity.encode(), self._model, encoded[1:])
        return Response(answer, content_type="application/json")

    def _fields(self, body: bytes) -> tuple[NDArray[np.float64], bytes]:
        """The encoded records of a request, at least one, and the body as the log is to have it."""
        reader, contract = self._service.reader, self._service.bundle.contract
        try:
            fields = reader.read(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return validation.reread(body, contract, error)
        if not len(fields):
            raise validation.no_records()
        if reader.may_repeat(body, fields):
            validation.refuse_repeated_fields(body)
        return fields, body


def _unknown(fields: NDArray[np.float64], categories: list[int]) -> list[int]:
    """How many values of each category field are unknown; most requests have none."""
    unknown = fields == UNKNOWN
    return unknown[:, categories].sum(axis=0).tolist() if unknown.any() else []


def _read_body(environ: "WSGIEnvironment", limit: int) -> bytes:
    kind = environ.get("CONTENT_TYPE", "")
    if not _JSON.fullmatch(kind) or _OTHER_CHARSET.search(kind):
        raise UnsupportedMediaType("send JSON in UTF-8 with the header Content-Type: application/json")
    if environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        raise UnsupportedMediaType("send the body without Content-Encoding")
    try:
        return _received(environ, limit)
    except ParseException as error:
        raise Unparsable(f"the body's chunks are not as HTTP/1.1 has them ({type(error).__name__})") from error
    except OSError as error:
        raise Unparsable("the body broke off before its end") from error


def _received(environ: "WSGIEnvironment", limit: int) -> bytes:
    length = environ.get("CONTENT_LENGTH", "")
    stream: Any = environ["wsgi.input"]
    body: bytes
    if length and int(length) > limit:
        # Most clients read the answer only when they have sent everything.
        stream.read(min(int(length), _DISCARDED * limit))
        raise TooLarge(f"the body has {length} bytes, {limit} are taken; send fewer records a request")
    if length:
        body = stream.read(int(length))
        if len(body) < int(length):
            raise Unparsable(f"the body broke off after {len(body)} of {length} bytes")
        return body
    body = stream.read(limit + 1)  # chunked
    if len(body) > limit:
        stream.read(_DISCARDED * limit)
        raise TooLarge(f"the body has more than the {limit} bytes that are taken; send fewer records a request")
    return body
