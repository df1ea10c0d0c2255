"""One span for each prediction, exported by OTLP over HTTP. Needs the optional requirements ``otlp``.

OpenTelemetry's own variables say where to and which: ``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_SERVICE_NAME``,
``OTEL_TRACES_SAMPLER``. By default the caller's trace decides whether it is sampled.
"""

import time
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serving.accounting import CLIENT, REQUEST_ID
from serving.settings import Release

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_CARRIED = {"traceparent": "HTTP_TRACEPARENT", "tracestate": "HTTP_TRACESTATE"}


class Spans:
    """Makes and exports the spans of this process."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._context = TraceContextTextMapPropagator()
        self._tracer: Tracer | None = None

    def start(self) -> None:
        """In the worker: the exporter has a thread, which would not survive the fork."""
        named = {SERVICE_NAME: f"{self._release.model_name}-scoring", SERVICE_VERSION: self._release.model_version}
        provider = TracerProvider(resource=Resource(named).merge(Resource.create()))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = provider.get_tracer("scoring")

    def answered(self, environ: "WSGIEnvironment", status: int, seconds: float) -> None:
        """Export the span of a prediction that has just been answered. What was sent is not in it."""
        if self._tracer is None:
            return
        end = time.time_ns()
        sent = {name: environ[key] for name, key in _CARRIED.items() if key in environ}
        span = self._tracer.start_span(
            "POST /predict",
            context=self._context.extract(sent),
            kind=SpanKind.SERVER,
            start_time=end - int(seconds * 1e9),
            attributes={
                "http.request.method": environ["REQUEST_METHOD"],
                "http.route": "/predict",
                "http.response.status_code": status,
                "scoring.request_id": environ[REQUEST_ID],
                "scoring.client": environ.get(CLIENT, ""),
            },
        )
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end)
