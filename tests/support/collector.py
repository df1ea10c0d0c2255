"""A receiver of spans, as an OpenTelemetry collector is one."""

import gzip
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent
from opentelemetry.proto.trace.v1.trace_pb2 import Status


class Span(NamedTuple):
    """One span; ids in hexadecimal, times in nanoseconds since 1970."""

    service: str
    name: str
    trace: str
    span: str
    parent: str
    """Empty for the root."""
    server: bool
    """Whether it is the answer to a request."""
    failed: bool
    start: int
    end: int
    attributes: dict[str, Any]


class Collector(http.server.ThreadingHTTPServer):
    """Keeps what it is sent by OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        super().__init__(("127.0.0.1", 0), _Taken)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Taken(http.server.BaseHTTPRequestHandler):
    server: Collector

    def log_message(self, *_: object) -> None: ...

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = str(_plain(resource.resource.attributes)["service.name"])
            self.server.spans += [_span(service, span) for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()


def _span(service: str, sent: Sent) -> Span:
    return Span(
        service=service,
        name=sent.name,
        trace=sent.trace_id.hex(),
        span=sent.span_id.hex(),
        parent=sent.parent_span_id.hex(),
        server=sent.kind == Sent.SPAN_KIND_SERVER,
        failed=sent.status.code == Status.STATUS_CODE_ERROR,
        start=sent.start_time_unix_nano,
        end=sent.end_time_unix_nano,
        attributes=_plain(sent.attributes),
    )


def _plain(attributes: Any) -> dict[str, Any]:
    pairs: list[KeyValue] = list(attributes)
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a port of this machine."""
    with Collector() as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield serving
        finally:
            serving.shutdown()
            thread.join()
