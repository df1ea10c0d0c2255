"""``POST /predict``: read a body, score its records, log both, answer."""

import logging
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from flask import Response, request
from gunicorn.http.errors import ParseException
from numpy.typing import NDArray

from serving import validation
from serving.accounting import CLIENT, REQUEST_ID
from serving.answers import NOTE, ScoredRecord, ScoredRecords
from serving.errors import NoReasons, NotReady, Problem, TooLarge, Unparsable, UnsupportedMediaType
from serving.files import as_list, csv_header, csv_lines, json_lines, naming_lines, read_csv
from serving.log_writer import LogUnavailable
from serving.media import CSV, JSON, NDJSON, sent_as, wanted_as
from serving.metrics import MANY_RECORDS
from serving.options import Options, read_options
from serving.scoring.bundle import DRIFT_KEYS, Result
from serving.scoring.encode import UNKNOWN
from serving.service import Service
from serving.trace_context import TRACE_ID
from serving.version import Model

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_log = logging.getLogger(__name__)
_DISCARDED = 4  # times the largest body: read and thrown away, so that the client sees the 413
_PIECE = 1 << 16  # bytes of it at a time
LARGEST_ANSWER = 16 << 20
"""Bytes of what is said of the records: each thread may have such an answer in memory that its client does not take."""
_LONG = 8
"""Parts of a request with reasons above which it goes on alone: about two seconds."""


class PredictEndpoint:
    """The view of ``POST /predict``."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._adjusted = service.settings.drift == "adjusted"
        contract = service.bundle.contract
        self._model = msgspec.json.encode(Model(service.release.model_name, service.release.model_version))
        self._categories = [p for p, field in enumerate(contract.fields) if field.kind == "category"]
        self._records = ScoredRecords(service.bundle, service.let_others)
        self._at_once = service.bundle.reasons.at_once if service.bundle.reasons else 0

    def __call__(self) -> Response:
        service, environ = self._service, request.environ
        environ[CLIENT] = service.caller(environ)
        service.switch.refuse()
        options = read_options(environ.get("QUERY_STRING", ""))
        sent, wanted = sent_as(environ.get("CONTENT_TYPE", "")), wanted_as(environ.get("HTTP_ACCEPT", ""))
        body = _read_body(environ, service.settings.max_body)
        if options.explain and not self._at_once:
            raise NoReasons("this model gives no reasons; /version says which does. Ask without explain=true")
        socket = environ.get("gunicorn.socket")  # there is none where the main thread serves
        with service.at_work(socket) if socket else _NOTHING:
            return Response(self._score(environ, body, options, sent, wanted), content_type=_CONTENT_TYPES[wanted])

    def _score(self, environ: "WSGIEnvironment", body: bytes, options: Options, sent: str, wanted: str) -> bytes:
        """The answer to a request, which has been logged."""
        service = self._service
        identity, client = environ[REQUEST_ID], environ[CLIENT]
        with service.computing:
            fields, body = self._fields(body, sent)
            result = service.bundle.score_fields(fields, adjusted=self._adjusted)
            encoded = msgspec.json.encode(result)
            unknown = _unknown(fields, self._categories)
            at_once = self._at_once if options.explain else 0
            many = at_once and len(fields) > _LONG * at_once
            with service.long_work() if many else _NOTHING:
                said = self._said(self._records.parts(body, fields, result, bool(unknown), at_once), wanted)
            answer = self._answer(identity, said, _members(result, encoded, options), options, wanted)
            lines = service.log.lines(identity, client, body, result, encoded, environ.get(TRACE_ID, ""))
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
            unknown,
            list(result.drift__p_value.values()),
        )
        return answer

    def _said(self, parts: Iterable[list[ScoredRecord]], wanted: str) -> bytes:
        """What is said of each record in the form that is wanted. Of each part only the text is kept."""
        encode, between = _FORMS[wanted]
        said: list[bytes] = []
        size = 0
        for part in parts:
            said.append(encode(part))
            size += len(said[-1])
            if size > LARGEST_ANSWER:
                raise TooLarge(
                    f"the answer would have more than {LARGEST_ANSWER} bytes; send fewer records in a request, or "
                    "score them in batch"
                )
        return between.join(said)

    def _answer(self, identity: str, said: bytes, members: bytes, options: Options, wanted: str) -> bytes:
        """The whole answer; CSV and JSON by line have only what is said of each record."""
        if wanted == CSV:
            return csv_header(explain=options.explain) + said
        if wanted == NDJSON:
            return said
        return b'{"request_id":"%b","model":%b,%b,"records":[%b]}' % (identity.encode(), self._model, members, said)

    def _fields(self, body: bytes, sent: str) -> tuple[NDArray[np.float64], bytes]:
        """The encoded records of a request, at least one, and its records as JSON, as the log is to have them.

        A ``Problem`` holds nothing of what was read: that is free again before anybody else computes.
        """
        try:
            return self._read(body, sent)
        except Problem as problem:
            problem.__context__ = None
            raise problem.with_traceback(None) from None

    def _read(self, body: bytes, sent: str) -> tuple[NDArray[np.float64], bytes]:
        contract = self._service.bundle.contract
        if sent == CSV:
            return read_csv(body, contract, self._service.settings.max_body)
        if sent == NDJSON:
            with naming_lines(body):
                return self._json_fields(as_list(body, contract))
        return self._json_fields(body)

    def _json_fields(self, body: bytes) -> tuple[NDArray[np.float64], bytes]:
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


_CONTENT_TYPES = {JSON: JSON, CSV: f"{CSV}; charset=utf-8; header=present", NDJSON: NDJSON}
_FORMS: dict[str, tuple[Callable[[list[ScoredRecord]], bytes], bytes]] = {
    JSON: (lambda records: msgspec.json.encode(records)[1:-1], b","),
    CSV: (csv_lines, b""),
    NDJSON: (json_lines, b""),
}
"""How some of an answer's records are written, and what stands between those and the next ones."""
_NOTHING = nullcontext()
_NOTE = b',"drift__note":%b' % msgspec.json.encode(NOTE)


def _members(result: Result, encoded: bytes, options: Options) -> bytes:
    """The members of a result, without the braces; ``encoded`` is all of it as JSON."""
    if not options.drift:
        kept = {key: value for key, value in msgspec.structs.asdict(result).items() if key not in DRIFT_KEYS}
        return msgspec.json.encode(kept)[1:-1]
    return encoded[1:-1] + _NOTE if len(result.outliers__score) < MANY_RECORDS else encoded[1:-1]


def _unknown(fields: NDArray[np.float64], categories: list[int]) -> list[int]:
    """How many values of each category field are unknown; most requests have none."""
    unknown = fields == UNKNOWN
    return unknown[:, categories].sum(axis=0).tolist() if unknown.any() else []


def _read_body(environ: "WSGIEnvironment", limit: int) -> bytes:
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
        _discard(stream, min(int(length), _DISCARDED * limit))
        raise TooLarge(f"the body has {length} bytes, {limit} are taken; send fewer records in a request")
    if length:
        body = stream.read(int(length))
        if len(body) < int(length):
            raise Unparsable(f"the body broke off after {len(body)} of {length} bytes")
        return body
    body = stream.read(limit + 1)  # chunked
    if len(body) > limit:
        _discard(stream, _DISCARDED * limit)
        raise TooLarge(f"the body has more than the {limit} bytes that are taken; send fewer records in a request")
    return body


def _discard(stream: Any, count: int) -> None:
    """Read at most ``count`` bytes and keep none of them: every thread may be sent that many at once."""
    while count > 0 and (piece := stream.read(min(count, _PIECE))):
        count -= len(piece)
