"""The HTTP API of a real gunicorn process."""

import http.client
import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.app import create_app
from serving.errors import ContractViolated
from serving.media import JSON
from serving.metrics import MANY_RECORDS
from serving.scoring.bundle import Bundle
from serving.settings import read_settings
from tests.support.serving_bundles import Attrition
from tests.support.serving_processes import CLIENT, KEY, Server

PUBLISHED_KEYS = {
    "classifier__predictions",
    "drift__threshold",
    "drift__is_drift",
    "drift__p_value",
    "drift__magnitude",
    "outliers__is_outlier",
    "outliers__score",
}


def test_predict_answers_as_the_bundle_and_with_the_published_keys(
    server: Server, attrition: Attrition, bundle: Bundle
) -> None:
    records = attrition.records(20)
    answer = server.predict(records)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json
    assert body.keys() >= PUBLISHED_KEYS
    assert body["model"] == {"name": "employee_attrition", "version": "0"}
    expected = bundle.score(records)
    assert body["classifier__predictions"] == pytest.approx(expected.classifier__predictions, abs=1e-12)
    assert body["drift__p_value"] == expected.drift__p_value
    assert body["outliers__is_outlier"] == expected.outliers__is_outlier
    assert body["drift__sample_size"] == 20
    assert body["drift__threshold"] == 0.05


def test_missing_and_unknown_values_are_answered_and_counted(server: Server, attrition: Attrition) -> None:
    record = attrition.examples["records"][0]

    def unknown_jobs() -> float:
        return metric(server, "scoring_unknown_categories_total", field="JobRole")

    before = unknown_jobs()
    assert server.predict([record | {"JobRole": "Astronaut", "MonthlyIncome": None}]).status == 200
    assert unknown_jobs() == before + 1


def metric(server: Server, name: str, **labels: str) -> float:
    """The value of one sample of /metrics."""
    text = server.metrics()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    raise AssertionError(f"{name} {labels} is not in {text}")


def test_metrics_count_requests_records_and_show_drift(server: Server, attrition: Attrition) -> None:
    before = metric(server, "scoring_records_total")
    answers = metric(server, "scoring_requests_total", endpoint="predict", status="200")
    answer = server.predict(attrition.records(MANY_RECORDS))
    assert metric(server, "scoring_records_total") == before + MANY_RECORDS
    assert metric(server, "scoring_requests_total", endpoint="predict", status="200") == answers + 1
    assert metric(server, "scoring_request_duration_seconds_count") >= answers + 1
    assert metric(server, "scoring_drift_p_value", field="Age") == answer.json["drift__p_value"]["Age"]


@pytest.mark.parametrize("given", ["abc-1.2:3/4", "a" * 128])
def test_sane_request_id_is_echoed_in_header_body_and_log(server: Server, attrition: Attrition, given: str) -> None:
    answer = server.predict(attrition.records(1), X_Request_ID=given)
    assert answer.headers["x-request-id"] == answer.json["request_id"] == given
    assert {line["type"] for line in server.log_lines() if line["request_id"] == given} == {"InputData", "OutputData"}


@pytest.mark.parametrize("given", ["a" * 129, 'x","y":"', "-rf", "\u00e4"], ids=["long", "quote", "dash", "umlaut"])
def test_other_request_ids_are_replaced(server: Server, attrition: Attrition, given: str) -> None:
    answer = server.predict(attrition.records(1), X_Request_ID=given)
    assert answer.status == 200
    assert answer.headers["x-request-id"] != given
    assert len(answer.json["request_id"]) == 32


def test_log_names_the_client(server: Server, attrition: Attrition) -> None:
    server.predict(attrition.records(1), X_Request_ID="who-asks")
    assert [line["client"] for line in server.log_lines() if line["request_id"] == "who-asks"] == [CLIENT] * 2


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/healthz", {"status": "ok"}), ("/readyz", {"status": "ready"})],
)
def test_probes_answer(server: Server, path: str, expected: Any) -> None:
    answer = server.request("GET", path)
    assert (answer.status, answer.json) == (200, expected)


def test_version_names_service_model_and_revision(attrition: Attrition, tmp_path: Path) -> None:
    release = {"model_name": "cat.sch.employee_attrition", "model_version": "12", "revision": "0123abc", "run_id": "r"}
    signed_by = {"signer": "training", "key": "ab" * 32}
    (tmp_path / "release.json").write_text(json.dumps({**release, "signed_by": signed_by}))
    with Server(tmp_path, attrition.folder) as released:
        version = released.request("GET", "/version").json
        model = {"name": "cat.sch.employee_attrition", "version": "12"}
        assert version["service"] == "Employee Attrition API"
        assert (version["model"], version["revision"], version["run_id"]) == (model, "0123abc", "r")
        assert version["signed_by"] == signed_by
        assert released.predict(attrition.records(1)).json["model"] == model


def problem(answer: Any, status: int) -> dict[str, Any]:
    """The problem document of an answer that has this status."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document["title"]
    assert document["type"].startswith("urn:scoring:problem:")
    return document


def test_faults_are_all_in_one_answer_with_record_field_given_and_allowed(server: Server, attrition: Attrition) -> None:
    records = [dict(record) for record in attrition.records(4)]
    records[0]["Age"] = 200
    records[1]["Gender"] = 3
    del records[2]["OverTime"]
    records[3]["Shoe"] = 44
    records[3]["Age"] = 40.5
    document = problem(server.predict(records), 422)
    assert document["errors_total"] == 5
    faults = {(fault["record"], fault["field"]): fault for fault in document["errors"]}
    assert faults.keys() == {(0, "Age"), (1, "Gender"), (2, "OverTime"), (3, "Shoe"), (3, "Age")}
    assert faults[0, "Age"]["given"] == "200"
    assert faults[0, "Age"]["allowed"] == "a whole number from 16 to 100 (years), or null"
    assert "given" not in faults[2, "OverTime"]
    assert "must be there" in faults[2, "OverTime"]["allowed"]
    assert faults[3, "Shoe"]["allowed"] == "only fields of the contract"


def test_listed_faults_are_capped_but_counted(server: Server, attrition: Attrition) -> None:
    records = [record | {"Age": 1, "MonthlyIncome": -5} for record in attrition.records(300)]
    document = problem(server.predict(records), 422)
    assert (document["errors_total"], len(document["errors"])) == (600, 100)
    assert len(json.dumps(document)) < 30_000


def test_problems_do_not_echo_records(server: Server, attrition: Attrition) -> None:
    secret = "S3cret" * 100
    record = attrition.records(1)[0]
    for records in ([[record | {"JobRole": secret}]], {"JobRole": secret}, [record | {"JobRole": secret}]):
        answer = server.predict(records)
        assert answer.status == 422
        assert answer.body.count(b"S3cret") <= 10


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[{", 400),
        (b"not json", 400),
        (b"[NaN]", 400),
        (b'[{"Age": NaN}]', 400),
        (b"\xff\xfe", 400),
        (b'["\xff"]', 400),
        (b"[" * 100_000 + b"]" * 100_000, 400),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400),
        (b"[]", 422),
        (b"{}", 422),
        (b"null", 422),
        (b"[1, null, [], {}]", 422),
        (b'[{"Age": 1e400}]', 422),
        (b'[{"Age": ' + b"9" * 5000 + b"}]", 422),
        (b'[{"Age": true}]', 422),
        (b'[{"Gender": "\\ud800"}]', 400),
    ],
)
def test_bad_bodies_are_client_errors(server: Server, body: bytes, status: int) -> None:
    problem(server.predict(body), status)


def test_key_twice_in_a_record_is_refused_by_record_and_field_and_never_logged(
    server: Server, attrition: Attrition
) -> None:
    first, second = (json.dumps(record) for record in attrition.records(2))
    body = f'[{first}, {second[:-1]}, "\\u0041ge": 60}}]'.encode()
    document = problem(server.predict(body, X_Request_ID="age-twice"), 422)
    assert document["errors"] == [
        {"record": 1, "field": "Age", "given": "2 times in the record", "allowed": "each field once"}
    ]
    assert not [line for line in server.log_lines() if line["request_id"] == "age-twice"]


def test_colons_in_texts_and_absent_fields_are_no_reason_to_refuse(server: Server, attrition: Attrition) -> None:
    records = [record | {"JobRole": ":::"} for record in attrition.records(2)]
    records += [{k: v for k, v in record.items() if k != "EmployeeNumber"} for record in attrition.records(2)]
    assert server.predict(records).status == 200


@pytest.mark.parametrize("name", ["floor: level", "floor\\u003a level"])
def test_key_twice_is_refused_though_a_colon_of_a_name_is_escaped(flats: Path, name: str) -> None:
    """Colons are counted, and the escape makes up for the one too many."""
    app = create_app(read_settings({"SCORING_BUNDLE": str(flats), "SCORING_AUTH": "off"}))
    endpoint: Any = app.view_functions["predict"]
    flat = f'{{"square metres":50,"Stadtteil":"Nord","heating":"gas","rooms":2,"{name}":1'
    assert len(endpoint._fields(f"[{flat}}}]".encode(), JSON)[0]) == 1
    with pytest.raises(ContractViolated) as refused:
        endpoint._fields(f'[{flat},"rooms":3}}]'.encode(), JSON)
    assert [(fault.record, fault.field) for fault in refused.value.faults or ()] == [(0, "rooms")]


def test_whole_numbers_may_be_written_as_floats(server: Server, attrition: Attrition) -> None:
    (record,) = attrition.records(1)
    floats = {k: float(v) if isinstance(v, int) else v for k, v in record.items()}
    answer = server.predict([floats])
    assert answer.status == 200
    assert answer.json["classifier__predictions"] == server.predict([record]).json["classifier__predictions"]
    assert problem(server.predict([record | {"Age": 30.5}]), 422)["errors_total"] == 1


@pytest.mark.parametrize(
    ("encode", "words"),
    [
        (lambda text: b"\xef\xbb\xbf" + text.encode(), "byte order mark"),
        (lambda text: text.encode("utf-16"), "UTF-16"),
        (lambda text: text.encode("utf-16-le"), "UTF-16"),
        (lambda text: text.encode("utf-32"), "UTF-32"),
    ],
    ids=["BOM", "UTF-16", "UTF-16 without a mark", "UTF-32"],
)
def test_other_encodings_are_named(server: Server, attrition: Attrition, encode: Any, words: str) -> None:
    assert words in problem(server.predict(encode(json.dumps(attrition.records(1)))), 400)["detail"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_a_number_is_named_with_record_and_field(
    server: Server, attrition: Attrition, value: float
) -> None:
    records = attrition.records(3)
    records[2]["MonthlyIncome"] = value
    document = problem(server.predict(json.dumps(records).encode()), 400)
    assert "null" in document["detail"]
    (fault,) = document["errors"]
    assert (fault["record"], fault["field"], fault["given"]) == (2, "MonthlyIncome", json.dumps(value))


def test_keys_are_needed_and_known(server: Server, attrition: Attrition) -> None:
    body = json.dumps(attrition.records(1)).encode()
    kind = {"Content-Type": "application/json"}
    missing = server.request("POST", "/predict", body, kind)
    assert "X-API-Key" in problem(missing, 401)["detail"]
    assert missing.headers["www-authenticate"]
    refused = problem(server.request("POST", "/predict", body, kind | {"X-API-Key": "guess"}), 403)
    assert "guess" not in json.dumps(refused)


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "application/json;odata=verbose;charset=utf-16",
        "application/jsonp",
    ],
)
def test_other_media_types_are_415(server: Server, kind: str) -> None:
    problem(server.predict([], Content_Type=kind), 415)


def test_json_in_utf_8_is_taken_whatever_else_the_headers_say(server: Server, attrition: Attrition) -> None:
    for kind in (
        'Application/JSON; charset="UTF-8"',
        "application/json;odata=verbose",
        "application/json; charset=utf8",
    ):
        assert server.predict(attrition.records(1), Content_Type=kind).status == 200
    assert server.predict(attrition.records(1), Content_Encoding="Identity").status == 200
    problem(server.predict(attrition.records(1), Content_Encoding="gzip"), 415)


def test_too_large_a_body_is_413_with_and_without_a_length(server: Server) -> None:
    body = b"[" + b" " * (5 * 1024 * 1024) + b"]"
    assert "5242880" in problem(server.predict(body), 413)["detail"]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    pieces = (body[start : start + 65536] for start in range(0, len(body), 65536))
    connection.request(
        "POST", "/predict", pieces, {"X-API-Key": KEY, "Content-Type": "application/json"}, encode_chunked=True
    )
    assert connection.getresponse().status == 413
    connection.close()


def test_chunked_request_is_answered_like_any_other(server: Server, attrition: Attrition) -> None:
    body = json.dumps(attrition.records(40)).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    pieces = (body[start : start + 1000] for start in range(0, len(body), 1000))
    connection.request(
        "POST", "/predict", pieces, {"X-API-Key": KEY, "Content-Type": "application/json"}, encode_chunked=True
    )
    answer = connection.getresponse()
    chunked = json.loads(answer.read())
    assert answer.status == 200
    assert chunked["classifier__predictions"] == server.predict(body).json["classifier__predictions"]
    connection.close()


def test_whatever_is_answered_is_counted_as_what_it_was(server: Server, attrition: Attrition) -> None:
    """Counted as 500, a client's own fault would end a canary."""
    body, headers = json.dumps(attrition.records(1)).encode(), {"X-API-Key": KEY, "Content-Type": JSON}
    before = server.metrics()
    answered = [
        ("predict", server.request("POST", "/predict", body, headers | {"Accept": "image/png"}).status),
        ("docs", server.request("GET", "/docs/swagger-ui.css", headers={"Range": "bytes=0-9"}).status),
        ("docs", server.request("GET", "/docs/swagger-ui.css", headers={"Range": "bytes=9999999-"}).status),
    ]
    assert [status for _, status in answered] == [406, 206, 416]

    def counted(text: str) -> Counter[tuple[str, int]]:
        families = text_string_to_metric_families(text)
        samples = (one for family in families for one in family.samples if one.name == "scoring_requests_total")
        return Counter({(one.labels["endpoint"], int(one.labels["status"])): int(one.value) for one in samples})

    found = counted(server.metrics()) - counted(before)
    assert {key: count for key, count in found.items() if key[0] != "metrics"} == dict.fromkeys(answered, 1)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/nothing", 404),
        ("GET", "/predict/", 404),
        ("GET", "/docs/none.js", 404),
        ("GET", "/docs/..%2f..%2fsettings.py", 404),
        ("GET", "/predict", 405),
        ("DELETE", "/predict", 405),
        ("POST", "/healthz", 405),
    ],
)
def test_wrong_paths_and_methods_are_problems(server: Server, method: str, path: str, status: int) -> None:
    answer = server.request(method, path)
    problem(answer, status)
    assert ("allow" in answer.headers) == (status == 405)


def test_page_and_its_files_come_from_here_alone(server: Server) -> None:
    page = server.request("GET", "/")
    assert page.status == 200
    assert b"Employee Attrition API" in page.body
    assert b"http://" not in page.body
    assert b"https://" not in page.body
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name in (b"/docs/swagger-ui-bundle.js", b"/docs/swagger-ui.css"):
        assert name in page.body
        assert server.request("GET", name.decode()).status == 200


def test_openapi_example_works_when_pasted(server: Server) -> None:
    document = server.request("GET", "/openapi.json").json
    assert document["openapi"].startswith("3.1")
    example = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert len(example[0]) == 34
    assert (example[0]["Over18"], example[0]["StandardHours"]) == ("Yes", 65)
    assert server.predict(example).status == 200


def test_access_lines_and_warnings_are_json_and_hold_no_payload(server: Server, attrition: Attrition) -> None:
    server.predict(attrition.records(1), X_Request_ID="access-line")
    # The access line is written after the answer has been sent.
    deadline = time.monotonic() + 10
    while '"access-line"' not in server.stderr.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    lines = [json.loads(line) for line in server.stderr.read_text().splitlines()]
    access = next(line for line in lines if line.get("request_id") == "access-line")
    assert (access["type"], access["path"], access["status"], access["client"]) == ("Access", "/predict", 200, CLIENT)
    assert access["duration_ms"] > 0
    assert access["problem"] is None
    probes = [line for line in lines if line["type"] == "Access" and line["path"] == "/readyz"]
    assert all(line["status"] != 200 for line in probes)
    assert KEY not in server.stderr.read_text()


def test_any_wsgi_server_can_run_the_application(attrition: Attrition, tmp_path: Path) -> None:
    app = create_app(read_settings({"SCORING_BUNDLE": str(attrition.folder), "SCORING_AUTH": "off"}))
    with make_server("127.0.0.1", 0, app, handler_class=QuietHandler) as plain:
        thread = threading.Thread(target=plain.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            client = http.client.HTTPConnection("127.0.0.1", plain.server_port, timeout=20)
            answers = {}
            for method, path, body in (
                ("POST", "/predict", json.dumps(attrition.records(2)).encode()),
                ("POST", "/predict?explain=true", json.dumps(attrition.records(2)).encode()),
                ("POST", "/predict", b"[]"),
                ("GET", "/readyz", None),
                ("GET", "/", None),
            ):
                client.request(method, path, body, {"Content-Type": "application/json"})
                answer = client.getresponse()
                answers[method, path, body] = answer.status
                answer.read()
            client.close()
        finally:
            plain.shutdown()
            thread.join()
    assert list(answers.values()) == [200, 200, 422, 200, 200]


class QuietHandler(WSGIRequestHandler):
    """The standard library's, without its lines on stderr."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_another_bundle_is_served_by_its_own_contract(flats: Path, tmp_path: Path) -> None:
    with Server(tmp_path, flats, AUTH="off", DRIFT="adjusted") as other:
        document = other.request("GET", "/openapi.json").json
        assert document["info"]["title"] == "Flat Finder"
        assert "securitySchemes" not in document["components"]
        assert "OverTime" not in json.dumps(document)
        answer = other.predict([{"square metres": 60.5, "heating": "coal", "rooms": 3}])
        assert answer.status == 200
        assert list(answer.json["drift__p_value"]) == ["square metres", "Stadtteil", "heating", "rooms", "floor: level"]
        faults = problem(other.predict([{"square metres": 1, "heating": None, "rooms": None}]), 422)["errors"]
        assert {fault["field"] for fault in faults} == {"square metres", "heating"}
        assert other.log_lines()[0]["client"] == "anonymous"
        assert other.log_lines()[0]["service_name"] == "Flat Finder"
