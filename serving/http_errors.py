"""Every error of the Flask routes as a problem document."""

from http import HTTPStatus

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WsgiResponse

from serving.predict import REQUEST_ID
from serving.problems import MEDIA_TYPE, InternalError, MethodNotAllowed, NotFound, Problem


def init_app(app: Flask) -> None:
    """Register the handlers."""
    app.register_error_handler(Problem, _answer)
    app.register_error_handler(HTTPException, _answer_http_error)


def _answer(problem: Problem) -> Response:
    return Response(
        problem.document(request.environ[REQUEST_ID]),
        int(problem.status),
        content_type=MEDIA_TYPE,
        headers=list(problem.headers),
    )


def _answer_http_error(error: HTTPException) -> Response | WsgiResponse:
    """Werkzeug's own errors; Flask has logged the traceback of an internal one."""
    if error.code is None or error.code < HTTPStatus.BAD_REQUEST:  # a redirect
        return error.get_response()
    if error.code == HTTPStatus.NOT_FOUND:
        return _answer(NotFound(f"nothing is at {request.path[:100]!r}; /openapi.json lists what there is"))
    if error.code == HTTPStatus.METHOD_NOT_ALLOWED:
        methods = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        return _answer(MethodNotAllowed(f"this path takes {methods}", methods))
    if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _answer(InternalError("the log has the reason"))
    return _answer(_refused(error.code, error.name))


def _refused(code: int, title: str) -> Problem:
    problem = Problem("the request is not one that this path takes")
    problem.status, problem.name, problem.title = HTTPStatus(code), "refused", title
    return problem
