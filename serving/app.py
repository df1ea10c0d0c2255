"""The WSGI application: a Flask application with every route."""

import msgspec
from flask import Flask, Response, request

from serving import accounting, docs, errors
from serving.errors import NotFound, NotReady
from serving.media import JSON
from serving.openapi import openapi_document
from serving.predict import PredictEndpoint
from serving.service import Service
from serving.settings import Settings
from serving.version import Model, Version


def create_app(settings: Settings, workers: int = 1) -> Flask:
    """Load the bundle and build the application; ``app.extensions["scoring"]`` is its ``Service``.

    ``workers``: how many processes will be forked from this one. Raises ``SettingsError`` or ``BundleError``.
    """
    service = Service.load(settings, workers)
    app = Flask(__name__, static_folder=None)
    app.extensions["scoring"] = service
    accounting.init_app(app, service)
    errors.init_app(app)
    _add_routes(app, service)
    docs.init_app(app, service.bundle.contract.title)
    return app


def _add_routes(app: Flask, service: Service) -> None:
    release, lifecycle = service.release, service.lifecycle
    gives_reasons = service.bundle.reasons is not None
    document = openapi_document(service.bundle.contract, release, service.settings, gives_reasons=gives_reasons)
    metrics_port = service.settings.metrics_port
    predict = PredictEndpoint(service)
    app.add_url_rule("/predict", "predict", predict, methods=["POST"], provide_automatic_options=False)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    def readyz() -> dict[str, str]:
        if lifecycle.draining:
            raise NotReady("the server is draining")
        if not lifecycle.warm:  # under another WSGI server than gunicorn, whose workers are warm before they listen
            service.warm_up()
        return {"status": "ready"}

    @app.get("/version")
    def version() -> Response:
        said = Version(
            service=service.bundle.contract.title,
            model=Model(release.model_name, release.model_version),
            revision=release.revision,
            run_id=release.run_id,
            data_digest=release.data_digest,
            code_hash=release.code_hash,
            sbom_digest=release.sbom_digest,
            created=release.created,
            extras=release.extras,
            signed_by=release.signed_by,
            stopped=service.switch.stop,
            reasons=gives_reasons,
        )
        return Response(msgspec.json.encode(said), content_type=JSON)

    @app.get("/metrics")
    def metrics() -> Response:
        if request.environ["SERVER_PORT"] != metrics_port:
            raise NotFound("metrics have a port of their own: SCORING_METRICS_BIND")
        return Response(service.metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/openapi.json")
    def openapi() -> Response:
        return Response(document, content_type=JSON)
