"""Errors that a client sees: RFC 9457 problem documents, whoever found the fault."""

import logging
from collections.abc import Sequence
from http import HTTPStatus

import msgspec
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WsgiResponse

from serving.accounting import PROBLEM, REQUEST_ID

_log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
FAULTS_SHOWN = 100


class Fault(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One thing that is wrong with a request."""

    record: int | None = None
    """Index of the record in the request."""
    line: int | None = None
    """Where the record begins in CSV or JSON by line, as an editor counts: a CSV file's header is line 1."""
    field: str | None = None
    given: str | None = None
    """The value that was sent, shortened; absent where the fault is that there is none."""
    allowed: str
    """What would have been right."""


class Document(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of an error answer."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors_total: int | None = None
    errors: Sequence[Fault] | None = None
    """At most ``FAULTS_SHOWN`` of them."""


class Problem(Exception):
    """Raised anywhere below a request; becomes an answer with this status."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    name = "internal-error"
    title = "The server failed"
    headers: tuple[tuple[str, str], ...] = ()

    def __init__(self, detail: str, faults: Sequence[Fault] | None = None, total: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = faults
        self.total = total

    def document(self, request_id: str) -> bytes:
        """The JSON body."""
        document = Document(
            type=f"urn:scoring:problem:{self.name}",
            title=self.title,
            status=int(self.status),
            detail=self.detail,
            request_id=request_id,
            errors_total=self.total,
            errors=self.faults,
        )
        return msgspec.json.encode(document)


class InternalError(Problem):
    """Raised for a fault of ours. The log has the reason, the answer has not."""


class Unparsable(Problem):
    """Raised when the body is not of the form that it is said to have, or breaks off."""

    status = HTTPStatus.BAD_REQUEST
    name = "unparsable"
    title = "The body cannot be parsed"


class ParameterRefused(Problem):
    """Raised for a query parameter, or a value of one, that there is not."""

    status = HTTPStatus.BAD_REQUEST
    name = "parameter-refused"
    title = "The query parameter is not taken"


class NoReasons(Problem):
    """Raised when reasons are asked of a model that has no exact ones."""

    status = HTTPStatus.BAD_REQUEST
    name = "no-reasons"
    title = "This model gives no reasons"


class KeyMissing(Problem):
    """Raised when a request has no API key."""

    status = HTTPStatus.UNAUTHORIZED
    name = "key-missing"
    title = "An API key is needed"
    headers = (("WWW-Authenticate", 'ApiKey header="X-API-Key"'),)


class KeyRefused(Problem):
    """Raised when a request has an API key that is not ours."""

    status = HTTPStatus.FORBIDDEN
    name = "key-refused"
    title = "The API key is not known"


class TokenRefused(Problem):
    """Raised when a request has no access token, or one that is not good here."""

    status = HTTPStatus.UNAUTHORIZED
    name = "token-refused"
    title = "An access token is needed"
    headers = (("WWW-Authenticate", "Bearer"),)


class RoleMissing(Problem):
    """Raised when an access token is good and does not allow this."""

    status = HTTPStatus.FORBIDDEN
    name = "role-missing"
    title = "The access token does not allow this"


class NotFound(Problem):
    """Raised for a path that nothing is at."""

    status = HTTPStatus.NOT_FOUND
    name = "not-found"
    title = "There is nothing at this path"


class MethodNotAllowed(Problem):
    """Raised for a method that the path does not have."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    name = "method-not-allowed"
    title = "The path has no such method"

    def __init__(self, detail: str, allowed: str) -> None:
        super().__init__(detail)
        self.headers = (("Allow", allowed),)


class TooLarge(Problem):
    """Raised when the body, or what would be answered, is larger than is allowed."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    name = "too-large"
    title = "The request is too large"


class NotAcceptable(Problem):
    """Raised when the client accepts none of the forms that answers have."""

    status = HTTPStatus.NOT_ACCEPTABLE
    name = "not-acceptable"
    title = "The answer has no such form"


class UnsupportedMediaType(Problem):
    """Raised when the body is said to be something other than records in UTF-8."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    name = "unsupported-media-type"
    title = "The body's media type is not taken"


class ContractViolated(Problem):
    """Raised when records do not meet the feature contract; ``errors`` lists the faults."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    name = "contract-violated"
    title = "The records do not meet the feature contract"


class Busy(Problem):
    """Raised when a request takes long, and another one that does is being worked on."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    name = "busy"
    title = "Another such request is being worked on"
    headers = (("Retry-After", "10"),)


class NotReady(Problem):
    """Raised when the server cannot answer now: it is draining, knows no keys, or cannot write its log."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    name = "not-ready"
    title = "The server is not ready"
    headers = (("Retry-After", "1"),)


class Stopped(Problem):
    """Raised while the stop switch is set."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    name = "stopped"
    title = "This service has been stopped"
    headers = (("Retry-After", "60"),)


class Refused(Problem):
    """Raised for a request that is not HTTP as this server takes it, before any route has seen it."""

    name = "refused"
    title = "The request is not one that this server takes"

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def init_app(app: Flask) -> None:
    """Answer every error of every route with its document."""
    app.register_error_handler(Problem, _answer)
    app.register_error_handler(HTTPException, _answer_http_error)
    app.register_error_handler(Exception, _answer_failure)


def _answer(problem: Problem) -> Response:
    request.environ[PROBLEM] = problem.name
    return Response(
        problem.document(request.environ[REQUEST_ID]),
        int(problem.status),
        content_type=MEDIA_TYPE,
        headers=list(problem.headers),
    )


def _answer_http_error(error: HTTPException) -> Response | WsgiResponse:
    """Werkzeug's own errors."""
    if error.code is None or error.code < HTTPStatus.BAD_REQUEST:  # a redirect
        return error.get_response()
    if error.code == HTTPStatus.NOT_FOUND:
        return _answer(NotFound(f"nothing is at {request.path[:100]!r}; /openapi.json lists what there is"))
    if error.code == HTTPStatus.METHOD_NOT_ALLOWED:
        methods = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        return _answer(MethodNotAllowed(f"this path takes {methods}", methods))
    return _answer(Refused(HTTPStatus(error.code), "the request is not one that this path takes"))


def _answer_failure(error: Exception) -> Response:
    """A fault of ours. The path is not logged: whoever mistakes it for a place of the key has the key there."""
    _log.error("a request failed", exc_info=error, extra={"request_id": request.environ[REQUEST_ID]})
    return _answer(InternalError("the log has the reason"))
