"""The caller's trace: its id in every log line, and spans where an endpoint is named."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serving.trace_context import TRACE_ID, note_trace
from tests.support.collector import Collector, collecting
from tests.support.machine import eventually
from tests.support.serving_bundles import Attrition
from tests.support.serving_processes import Server

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def noted(header: str) -> str | None:
    environ = {"HTTP_TRACEPARENT": header}
    note_trace(environ)
    return environ.get(TRACE_ID)


@pytest.mark.parametrize("header", [PARENT, f" {PARENT}", f"00-{TRACE}-{SPAN}-00", f"cc-{TRACE}-{SPAN}-01-what-comes"])
def test_trace_of_the_caller_is_noted(header: str) -> None:
    assert noted(header) == TRACE


@pytest.mark.parametrize(
    "header",
    [
        "",
        PARENT.upper(),
        f"{PARENT}-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}",
        f"{PARENT},{PARENT}",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"00-{TRACE}-{SPAN}-0\u0661",
        PARENT + "\n",
    ],
)
def test_malformed_header_is_ignored(header: str) -> None:
    assert noted(header) is None


_HEX = st.text("0123456789abcdef", min_size=1, max_size=34)


@given(st.one_of(st.text(max_size=80), st.builds("{}-{}-{}-{}".format, _HEX, _HEX, _HEX, _HEX), st.just(PARENT)))
def test_what_is_noted_is_what_opentelemetry_reads(header: str) -> None:
    context = get_current_span(TraceContextTextMapPropagator().extract({"traceparent": header})).get_span_context()
    found = noted(header)
    assert found is None or found == f"{context.trace_id:032x}"


def test_trace_id_is_in_both_log_lines_and_the_access_line_and_malformed_ones_in_none(
    attrition: Attrition, tmp_path: Path
) -> None:
    with Server(tmp_path, attrition.folder) as server:
        for name, header in (("with", PARENT), ("broken", "00-nothing")):
            assert server.predict(attrition.records(1), X_Request_ID=name, traceparent=header).status == 200
        assert server.predict(attrition.records(1), X_Request_ID="without").status == 200
        lines = server.log_lines()
        assert [line.get("trace_id") for line in lines if line["request_id"] == "with"] == [TRACE, TRACE]
        assert [line.get("trace_id") for line in lines if line["request_id"] != "with"] == [None] * 4

        def accessed() -> dict[str, str | None]:
            found = [json.loads(line) for line in server.stderr.read_text().splitlines()]
            return {line["request_id"]: line["trace_id"] for line in found if line["type"] == "Access"}

        assert eventually(lambda: len(accessed()) == 3, 5)
        assert accessed() == {"with": TRACE, "broken": None, "without": None}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        yield found


@pytest.mark.stack
def test_spans_of_sampled_traces_are_exported_by_the_workers_and_of_others_not(
    attrition: Attrition, tmp_path: Path, collector: Collector
) -> None:
    with Server(tmp_path, attrition.folder, WORKERS=2) as server:
        other = f"00-{'c' * 32}-{SPAN}-00"
        for header in (other, PARENT):
            assert server.predict(attrition.records(1), traceparent=header).status == 200
        assert eventually(lambda: bool(collector.spans), 10)
    assert [(span.name, span.trace, span.parent) for span in collector.spans] == [("POST /predict", TRACE, SPAN)]


@pytest.mark.stack
def test_collector_that_is_gone_holds_up_neither_answers_nor_the_end(
    attrition: Attrition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with Server(tmp_path, attrition.folder) as server:
        assert server.predict(attrition.records(1), traceparent=PARENT).status == 200
        server.process.terminate()
        server.process.wait(timeout=20)
