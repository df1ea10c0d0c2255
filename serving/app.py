"""The WSGI application: ``/predict`` beside a small Flask application for everything else."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask, Response, request

from serving import docs, http_errors
from serving.metrics import ENDPOINTS
from serving.openapi import openapi_document
from serving.predict import REQUEST_ID, PredictEndpoint, request_id
from serving.problems import NotReady
from serving.service import Service
from serving.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_BEGAN = "scoring.began"


def create_app(settings: Settings, workers: int = 1) -> Flask:
    """Load the bundle and build the application; ``app.extensions["scoring"]`` is its ``Service``.

    ``workers``: how many processes will be forked from this one. Raises ``SettingsError`` or ``BundleError``.
    """
    service = Service.load(settings, workers)
    app = Flask(__name__, static_folder=None)
    app.extensions["scoring"] = service
    _add_accounting(app, service)
    _add_routes(app, service)
    http_errors.init_app(app)
    docs.init_app(app, service.bundle.contract.title)
    app.wsgi_app = _Dispatch(PredictEndpoint(service), app.wsgi_app)  # type: ignore[method-assign]
    return app


class _Dispatch:
    """Sends ``/predict`` past Flask."""

    def __init__(self, predict: "WSGIApplication", others: "WSGIApplication") -> None:
        self._predict = predict
        self._others = others

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        chosen = self._predict if environ["PATH_INFO"] == "/predict" else self._others
        return chosen(environ, start_response)


def _add_routes(app: Flask, service: Service) -> None:
    release, lifecycle = service.release, service.lifecycle
    document = openapi_document(service.bundle.contract, release, service.settings)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    def readyz() -> dict[str, str]:
        if not lifecycle.ready:
            raise NotReady("the server is draining" if lifecycle.draining else "the models are being loaded")
        return {"status": "ready"}

    @app.get("/version")
    def version() -> dict[str, object]:
        return {
            "service": service.bundle.contract.title,
            "model": {"name": release.model_name, "version": release.model_version},
            "revision": release.revision,
            "run_id": release.run_id,
            "data_digest": release.data_digest,
            "code_hash": release.code_hash,
            "sbom_digest": release.sbom_digest,
            "created": release.created,
        }

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(service.metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/openapi.json")
    def openapi() -> Response:
        return Response(document, content_type="application/json")


def _add_accounting(app: Flask, service: Service) -> None:
    """Request ids and counters for every route."""

    @app.before_request
    def begin() -> None:
        request_id(request.environ)
        request.environ[_BEGAN] = time.perf_counter()

    @app.after_request
    def account(response: Response) -> Response:
        response.headers["X-Request-ID"] = request.environ[REQUEST_ID]
        response.headers.setdefault("Cache-Control", "no-store")
        endpoint = (request.endpoint or "other").partition(".")[0]
        seconds = time.perf_counter() - request.environ[_BEGAN]
        known = endpoint if endpoint in ENDPOINTS else "other"
        service.metrics.answered(known, response.status_code, seconds)
        return response
