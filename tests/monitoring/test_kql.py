"""The KQL of ``monitoring/kql``: run on DuckDB over lines that the scoring server's own log writer wrote.

``make test-tools`` also has every query and alert checked by Microsoft's language service, against the columns of the
Log Analytics tables.
"""

import json
import os
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import duckdb_kql
import pytest

from monitoring import render
from serving.scoring.bundle import Result
from tests.support.collector import Span
from tests.support.log_analytics import Workspace
from tests.support.rendered_for import MADE_UP, USE_CASES

QUERIES = sorted(path.stem for path in render.QUERIES.glob("*.kql"))


def result(records, *, p=0.5, outliers=0, prediction=0.2):
    return Result(
        classifier__predictions=[prediction] * records,
        drift__threshold=0.05,
        drift__sample_size=records,
        drift__is_drift={"Age": p < 0.05, "Gender": False},
        drift__p_value={"Age": p, "Gender": 0.9},
        drift__adjusted_p_value={"Age": p, "Gender": 0.9},
        drift__magnitude={"Age": 1 - p, "Gender": 0.1},
        outliers__is_outlier=[index < outliers for index in range(records)],
        outliers__score=[0.1] * records,
    )


@pytest.fixture(params=USE_CASES, ids=lambda use_case: use_case.name)
def workspace(request):
    return Workspace(request.param)


@pytest.mark.parametrize("use_case", USE_CASES, ids=lambda use_case: use_case.name)
@pytest.mark.parametrize("name", QUERIES)
def test_query_parses(use_case, name):
    assert duckdb_kql.parse(render.query(use_case, name)).ok


def test_use_cases_in_one_workspace_see_their_own_lines_alone():
    workspace = Workspace()
    for use_case in USE_CASES:
        workspace.use_case = use_case
        workspace.scored(f"request of {use_case.name}", result(60))
        workspace.answered(200)
        workspace.log('"plain text"')
        workspace.log(json.dumps({"service_name": use_case.title, "type": "InputData", "request_id": use_case.name}))
    for use_case in USE_CASES:
        workspace.use_case = use_case
        assert [row["Requests"] for row in workspace.ask("records")] == [1]
        assert [row["Requests"] for row in workspace.ask("requests")] == [1]
        assert {row["Requests"] for row in workspace.ask("drifted_features")} == {1}
        assert [row["RequestId"] for row in workspace.ask("unanswered")] == [use_case.name]
        assert [row["Unreadable"] for row in workspace.ask("unreadable")] == [2]


def test_drift_magnitude_has_one_row_a_request_with_each_feature(workspace):
    workspace.scored("small", result(1, p=0.01))
    workspace.scored("large", result(600))
    workspace.log('{"service_name":"another","type":"OutputData"}')
    # bag_unpack is not in the engine that runs it here; what it would unpack is.
    query = workspace.text_of("drift_magnitude").replace("| evaluate bag_unpack(DriftMagnitude)", "")
    found = {row["RequestId"]: json.loads(row["DriftMagnitude"]) for row in workspace.ask("", query)}
    assert found == {"small": {"Age": 0.99, "Gender": 0.1}, "large": {"Age": 0.5, "Gender": 0.1}}


def test_drifted_features_leaves_small_requests_and_copies_out(workspace):
    workspace.scored("alone", result(1, p=0.001))
    workspace.scored("first", result(60, p=0.001), times=3)
    workspace.scored("second", result(60))
    found = {
        row["Feature"]: (row["Requests"], row["Drifted"], row["Share"]) for row in workspace.ask("drifted_features")
    }
    assert found == {"Age": (2, 1, 0.5), "Gender": (2, 0, 0.0)}


@pytest.mark.parametrize("name", ["records", "drifted_features", "drift_magnitude"])
def test_what_a_release_asks_does_not_count_and_a_request_id_hides_nothing(workspace, name):
    query = workspace.text_of(name).replace("| evaluate bag_unpack(DriftMagnitude)", "")
    workspace.scored("hr-1", result(60), client="release")
    assert workspace.ask("", query) == []
    workspace.scored("verify-1", result(60))
    assert workspace.ask("", query) != []


def test_records_counts_every_record_once_by_version(workspace):
    workspace.scored("one", result(600, outliers=60, prediction=0.25), times=2)
    workspace.scored("two", result(10, outliers=10), version="8")
    seven, eight = sorted(workspace.ask("records"), key=lambda row: row["Version"])
    assert (seven["Requests"], seven["Records"], seven["Outliers"], seven["OutlierRate"]) == (1, 600, 60, 0.1)
    assert seven["MeanPrediction"] == pytest.approx(0.25)
    assert (eight["Records"], eight["Outliers"], eight["Clients"]) == (10, 10, 1)


def test_requests_counts_failures_and_latency_of_predict_alone(workspace):
    workspace.answered(200, times=18)
    for status, path in [(422, "/predict"), (503, "/predict"), (500, "/docs")]:
        workspace.answered(status, path=path)
    row = workspace.ask("requests")[0]
    assert (row["Requests"], row["Refused"], row["Failed"], row["FailedShare"]) == (20, 1, 1, 0.05)
    assert row["Stopped"] == 0
    assert row["P95"] == pytest.approx(4.0)


def test_what_the_stop_switch_refuses_is_no_failure_and_raises_no_alert_of_one(workspace):
    workspace.answered(200, times=10)
    workspace.answered(503, times=89, problem="stopped", trace_id="a" * 32, request_id="r")
    workspace.answered(503, problem="not-ready")
    row = workspace.ask("requests")[0]
    assert (row["Requests"], row["Stopped"], row["Failed"], row["FailedShare"]) == (100, 89, 1, 0.01)
    (trace,) = workspace.ask("trace")
    assert (trace["Answers"], trace["Stopped"], trace["Failed"]) == (89, 89, 0)


def test_trace_joins_what_was_asked_answered_and_refused_on_its_way(workspace):
    one, other = "a" * 32, "b" * 32
    workspace.scored("first", result(2), trace_id=one, times=2)
    workspace.answered(200, request_id="first", trace_id=one)
    workspace.answered(503, request_id="second", trace_id=one)
    workspace.answered(200, request_id="third", trace_id=other, age=timedelta(hours=2))
    workspace.scored("untraced", result(2))
    workspace.answered(200, request_id="untraced", trace_id=None)
    found = [
        (row["TraceId"], row["Requests"], row["Answers"], row["Failed"], row["Scored"])
        for row in workspace.ask("trace")
    ]
    assert found == [(one, 2, 2, 1, 1), (other, 1, 1, 0, 0)]


TRACE = "ab" * 16


def span(name, number, parent=0, *, server=False, trace=TRACE, **attributes):
    start = int(time.time() - 3600) * 10**9 + number * 10**6
    ids = (f"{number:016x}", f"{parent:016x}" if parent else "")
    return Span("airflow", name, trace, *ids, server, False, start, start + 5 * 10**6, attributes)


def test_trace_of_a_release_has_every_span_once_with_what_was_logged_of_its_call(workspace):
    workspace.span(span("dag_run.release", 1))
    workspace.span(span("worker.verify", 2, 1))
    workspace.span(span("POST /predict", 3, 2, server=True, **{"scoring.request_id": "r-1"}))
    workspace.span(span("elsewhere", 4, trace="cd" * 16))
    workspace.scored("r-1", result(2), trace_id=TRACE, times=2)
    workspace.answered(200, request_id="r-1", trace_id=TRACE)
    workspace.answered(503, request_id="r-2", trace_id=TRACE)  # its server died before it exported the span
    workspace.scored("r-3", result(2), trace_id="cd" * 16)
    found = workspace.ask("", workspace.text_of("trace_of_release").replace("TRACE_ID", TRACE))
    assert [(row["Name"], row["Span"], row["RequestId"], row["Version"], row["Status"], row["Outputs"])
            for row in sorted(found, key=lambda row: row["Span"] or "z")] == [
        ("dag_run.release", f"{1:016x}", None, None, None, None),
        ("worker.verify", f"{2:016x}", None, None, None, None),
        ("POST /predict", f"{3:016x}", "r-1", "7", 200, 1),
        ("POST /predict", None, "r-2", "", 503, 0),
    ]  # fmt: skip
    assert [row["Time"] for row in found] == sorted(row["Time"] for row in found)


def test_trace_of_a_request_has_its_lines_its_span_and_its_callers(workspace):
    workspace.span(span("GET /employees", 1, server=True))
    workspace.span(span("POST /predict", 2, 1, server=True, **{"scoring.request_id": "r/1=", "scoring.client": "hr"}))
    workspace.span(span("POST /predict", 3, 1, server=True, **{"scoring.request_id": "r/1=2"}))
    for request_id in ("r/1=", "r/1=2"):
        workspace.scored(request_id, result(2), trace_id=TRACE)
        workspace.answered(200, request_id=request_id, trace_id=TRACE, client="hr")
    asked = workspace.text_of("trace_of_request").replace("REQUEST_ID", "r/1=")
    found = workspace.ask("", asked)
    assert sorted(row["Name"] for row in found) == [
        "Access",
        "GET /employees",
        "InputData",
        "OutputData",
        "POST /predict",
    ]
    assert {row["TraceId"] for row in found} == {TRACE}
    assert {row["Client"] for row in found if row["Name"] != "GET /employees"} == {"hr"}


def test_trace_of_a_request_without_a_trace_is_its_lines_alone(workspace):
    workspace.span(span("POST /predict", 1, server=True))
    workspace.answered(422, request_id="r-1", trace_id=None, problem="contract-violated")
    (found,) = workspace.ask("", workspace.text_of("trace_of_request").replace("REQUEST_ID", "r-1"))
    assert (found["Name"], found["Status"], found["Problem"]) == ("Access", 422, "contract-violated")


def test_unreadable_counts_what_is_no_inference_line(workspace):
    workspace.scored("good", result(2))
    workspace.log('"plain text"')
    workspace.log('{"type":"OutputData","request_id":"cut"}')
    row = workspace.ask("unreadable")[0]
    assert (row["Lines"], row["Unreadable"], row["UnreadableShare"]) == (4, 2, 0.5)


def test_unanswered_names_an_input_without_its_output(workspace):
    workspace.scored("whole", result(2))
    line = {"service_name": workspace.use_case.title, "type": "InputData", "chunk": 1, "data": []}
    workspace.log(json.dumps({**line, "request_id": "lost"}))
    workspace.log(json.dumps({**line, "request_id": "just now"}), age=timedelta(minutes=1))
    assert [row["RequestId"] for row in workspace.ask("unanswered")] == ["lost"]


@pytest.mark.parametrize(
    ("pods", "requests", "rows"), [(2, 0, 1), (2, 1, 0), (0, 0, 0)], ids=["silent", "busy", "down"]
)
def test_silence_has_a_row_only_where_pods_run_and_nothing_is_logged(workspace, pods, requests, rows):
    workspace.runs(pods)
    for number in range(requests):
        workspace.scored(f"r{number}", result(1))
    assert len(workspace.ask("silence")) == rows


NOW = timedelta(minutes=4)
TROUBLE = {
    "no-inference-logs": lambda workspace: workspace.runs(2),
    "many-failures": lambda workspace: workspace.answered(503, times=2, age=NOW),
    "slow-answers": lambda workspace: workspace.answered(200, 900.0, times=30, age=NOW),
    "many-outliers": lambda workspace: workspace.scored("odd", result(300, outliers=200)),
    "features-drift": lambda workspace: [workspace.scored(f"d{n}", result(60, p=0.001)) for n in range(8)],
    "unreadable-lines": lambda workspace: [workspace.log('{"type":"OutputData","request_id":"cut"}') for _ in range(9)],
}


@pytest.mark.parametrize("alert", render.ALERTS, ids=lambda alert: alert.name)
def test_alert_fires_on_its_own_trouble_and_not_on_a_good_day(alert):
    full = render.alert_query(MADE_UP, alert)
    for bad in (False, True):
        workspace = Workspace()
        if alert.name != "no-inference-logs" or not bad:
            workspace.runs(2)
            workspace.answered(200, times=60, age=NOW)
            for number in range(5):
                workspace.scored(f"r{number}", result(100, outliers=5))
        if bad:
            TROUBLE[alert.name](workspace)
        assert bool(workspace.ask("", full)) is bad


def test_every_query_is_one_that_a_test_here_runs():
    tested = {
        "drift_magnitude",
        "drifted_features",
        "records",
        "requests",
        "unreadable",
        "unanswered",
        "silence",
        "trace",
        "trace_of_release",
        "trace_of_request",
    }
    assert set(QUERIES) == tested


@pytest.mark.tools("node")
def test_microsofts_language_service_finds_no_fault(tmp_path):
    modules = os.environ.get("KQL_MODULES")
    assert modules, "Microsoft's KQL parser is not installed: `make test-tools` installs it"
    script = Path(__file__).with_name("check_kql.js")
    files = []
    for use_case in USE_CASES:
        texts = {name: render.query(use_case, name) for name in QUERIES}
        texts |= {alert.name: render.alert_query(use_case, alert) for alert in render.ALERTS}
        for name, text in texts.items():
            files.append(tmp_path / f"{use_case.name}-{name}.kql")
            files[-1].write_text(text)
    command = ["node", str(script), modules, *map(str, files)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count(": no fault") == len(files)
