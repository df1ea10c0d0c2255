"""Records as CSV and as JSON by line: what they mean, how they are refused, and how answers come in these forms."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.answers import ScoredRecord
from serving.errors import Problem, TooLarge
from serving.files import csv_header, csv_lines, csv_table, read_csv
from serving.media import MEDIA_TYPES, is_json
from serving.scoring.bundle import DRIFT_KEYS, Bundle
from serving.scoring.contract import Contract, Field, OutlierRule
from serving.scoring.spelling import MISSING, limits, text_limit
from tests.serving.test_http import problem
from tests.support.serving_bundles import FLATS, Attrition
from tests.support.serving_processes import KEY, Answer, Server

CSV, NDJSON = "text/csv", "application/x-ndjson"
LIMIT = 5 * 1024 * 1024


def send(server: Server, body: bytes | str, kind: str, query: str = "", **headers: str) -> Answer:
    """``POST /predict`` with a body of some media type."""
    named = {"Content-Type": kind, "X-API-Key": KEY, **{name.replace("_", "-"): text for name, text in headers.items()}}
    return server.request("POST", f"/predict{query}", body.encode() if isinstance(body, str) else body, named)


def ndjson(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def as_table(answer: Answer) -> list[dict[str, str]]:
    """An answer in CSV."""
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    return list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))


def figures(answer: Answer) -> Any:
    """What an answer in JSON says, without what every request has of its own."""
    assert answer.status == 200, answer.body
    return {name: value for name, value in answer.json.items() if name != "request_id"}


def test_the_same_records_are_answered_alike_in_every_form(server: Server, attrition: Attrition) -> None:
    records = attrition.records(40)
    records[3] |= {"JobRole": "Astronaut, first class", "DailyRate": None}
    expected = figures(server.predict(records))
    assert figures(send(server, csv_table(records), CSV)) == expected
    assert figures(send(server, ndjson(records), NDJSON)) == expected


def test_log_has_what_was_understood_as_json_and_before_the_answer(server: Server, attrition: Attrition) -> None:
    records = attrition.records(3)
    records[1] |= {"DailyRate": None}
    for number, (kind, body) in enumerate([(CSV, csv_table(records)), (NDJSON, ndjson(records))]):
        assert send(server, body, kind, X_Request_ID=f"log-of-{number}").status == 200
        sent, answered = (line for line in server.log_lines() if line["request_id"] == f"log-of-{number}")
        assert sent["data"] == records
        assert "." not in json.dumps(sent["data"][0]["Age"])
        assert answered["data"].keys() >= set(DRIFT_KEYS)


def test_columns_may_stand_in_any_order_and_some_may_be_absent(server: Server, attrition: Attrition) -> None:
    records = [
        {name: record[name] for name in reversed(record) if name not in ("Gender", "Age")}
        for record in attrition.records(5)
    ]
    text = csv_table(records).replace("MonthlyIncome", "monthly_income").replace("\r\n", "\n\n")
    answer = figures(send(server, "\ufeff" + text, 'Text/CSV; charset="UTF-8"; header=present'))
    assert answer == figures(server.predict(records))


def test_answers_as_csv_and_by_line_say_of_each_record_what_json_says(server: Server, attrition: Attrition) -> None:
    records = attrition.records(4)
    records[0] |= {"JobRole": "Astronaut"}
    records[1] |= {"EmployeeNumber": None}
    body = json.dumps(records)
    expected = send(server, body, "application/json", "?explain=true").json["records"]
    plain = as_table(send(server, body, "application/json", Accept="text/csv; charset=utf-8"))
    assert list(plain[0]) == ["key", "probability", "outlier", "band", "warnings"]
    told = as_table(send(server, body, "application/json", "?explain=true", Accept=CSV))
    assert list(told[0]) == [*plain[0], "reasons"]
    for row, record in zip(told, expected, strict=True):
        assert row["key"] == str(record.get("key", ""))
        assert float(row["probability"]) == record["probability"]
        assert (row["outlier"], row["band"]) == (str(record["outlier"]).lower(), record["band"])
        assert row["warnings"] == "; ".join(warning["text"] for warning in record.get("warnings", []))
        assert row["reasons"] == "; ".join(reason["text"] for reason in record["reasons"])
    assert "Astronaut" in told[0]["warnings"]
    lines = send(server, ndjson(records), NDJSON, "?explain=true", Accept=f"{NDJSON}, */*;q=0.1")
    assert lines.headers["content-type"] == NDJSON
    assert [json.loads(line) for line in lines.body.splitlines()] == expected


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/json;odata=verbose", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("application/json;q=0.1, text/csv", "text/csv; charset=utf-8; header=present"),
        ("text/*", "text/csv; charset=utf-8; header=present"),
        ("TEXT/CSV;header=present", "text/csv; charset=utf-8; header=present"),
    ],
)
def test_answer_has_the_form_that_is_accepted_best(
    server: Server, attrition: Attrition, accept: str, kind: str
) -> None:
    answer = send(server, json.dumps(attrition.records(1)), "application/json", Accept=accept)
    assert (answer.status, answer.headers["content-type"]) == (200, kind)


@pytest.mark.parametrize("accept", ["text/html", "application/xml, image/png", "*/*;q=0"])
def test_other_forms_are_406_and_what_there_is_is_named(server: Server, attrition: Attrition, accept: str) -> None:
    body = json.dumps(attrition.records(1))
    refused = problem(send(server, body, "application/json", Accept=accept, X_Request_ID="no-such-form"), 406)
    assert all(kind in refused["detail"] for kind in MEDIA_TYPES)
    assert not [line for line in server.log_lines() if line["request_id"] == "no-such-form"]


@pytest.mark.parametrize("kind", ["text/csv; charset=latin-1", "text/csv;header=absent", "text/tab-separated-values"])
def test_other_kinds_of_tables_are_415(server: Server, kind: str) -> None:
    problem(send(server, "a,b\n1,2\n", kind), 415)


def test_faults_of_a_file_name_line_and_field(server: Server, attrition: Attrition) -> None:
    first, second, third = attrition.records(3)
    second |= {"Age": 200, "JobRole": 'a "break"\nwithin a cell'}
    third |= {"DailyRate": "1,000", "OverTime": "x" * 200}
    text = "\n" + csv_table([first, second, third])
    document = problem(send(server, text, CSV), 422)
    faults = {(fault["line"], fault["record"], fault["field"]): fault for fault in document["errors"]}
    # A blank line, the header, a record, and one of two lines stand before it.
    assert faults.keys() == {(4, 1, "Age"), (6, 2, "DailyRate"), (6, 2, "OverTime")}
    assert faults[4, 1, "Age"]["allowed"] == "a whole number from 16 to 100 (years), or null"
    assert faults[6, 2, "DailyRate"]["given"] == '"1,000"'
    assert faults[6, 2, "DailyRate"]["allowed"].endswith("write digits and a point alone, such as 5993.5")
    by_line = problem(send(server, "\n" + ndjson([first, second | {"Shoe": 1}]), NDJSON), 422)
    assert {(fault["line"], fault["field"]) for fault in by_line["errors"]} == {(3, "Age"), (3, "Shoe")}
    twice = json.dumps(first)[:-1] + ', "Age": 30}'
    document = problem(send(server, ndjson([first]) + "\r\n" + twice, NDJSON), 422)
    assert [(fault["line"], fault["field"]) for fault in document["errors"]] == [(3, "Age")]


def test_faults_of_the_header_are_all_told(server: Server, attrition: Attrition) -> None:
    (record,) = attrition.records(1)
    text = csv_table([record])
    header, cells = text.splitlines()
    renamed = header.replace("DailyRate", "DailyRat").replace("Department", "JobRole")
    faults = problem(send(server, f"{renamed}\n{cells}\n", CSV), 422)["errors"]
    assert {(fault["line"], fault["field"]) for fault in faults} == {
        (1, "DailyRate"), (1, "DailyRat"), (1, "Department"), (1, "JobRole"),
    }  # fmt: skip
    semicolons = problem(send(server, text.replace(",", ";"), CSV), 422)
    assert "separated by commas" in semicolons["detail"]


BAD_FILES: list[tuple[str, bytes, int, str]] = [
    (CSV, b"", 400, "header line"),
    (CSV, b"\n\n,,\n", 400, "header line"),
    (CSV, "Age\n41\n".encode("utf-16"), 400, "CSV UTF-8"),
    (CSV, b'"Age', 400, "header line"),
    (NDJSON, b"", 422, "no record"),
    (NDJSON, b"\n \r\n", 422, "no record"),
    (NDJSON, b'{"Age": 41} {"Age": 42}\n', 400, "not JSON"),
    (NDJSON, b'{"Age": 41},{"Age":\n 42}\n', 400, "not JSON"),
    (NDJSON, b'{"Age":\n41}\n', 400, "not JSON"),
    (NDJSON, b'\xef\xbb\xbf{"Age": 41}\n', 400, "byte order mark"),
    (NDJSON, b'{"Age": 41}\n{"Age": NaN}\n', 400, "null for a missing value"),
    (NDJSON, b"[" * 100_000 + b"\n", 400, "nested too deeply"),
    (NDJSON, b'["\xff"]\n', 400, "not JSON"),
    (NDJSON, b"[]\n", 422, "1 fault"),
]


@pytest.mark.parametrize(("kind", "body", "status", "words"), BAD_FILES)
def test_broken_files_are_client_errors(server: Server, kind: str, body: bytes, status: int, words: str) -> None:
    assert words in problem(send(server, body, kind), status)["detail"]


def test_line_that_is_not_json_is_named(server: Server, attrition: Attrition) -> None:
    text = "\n" + ndjson(attrition.records(2)) + '{"Age": NaN}\n'
    (fault,) = problem(send(server, text, NDJSON), 400)["errors"]
    assert (fault["line"], fault["record"], fault["field"], fault["given"]) == (4, 2, "Age", "NaN")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ('"never closed', "never closed"),
        ('"4"1', "quotation mark within a cell"),
        ("," * 40 + "1", "more cells than the header has columns"),
        ("1" * 140_000, "quotation mark left open"),
    ],
)
def test_lines_that_are_not_a_tables_are_named(server: Server, attrition: Attrition, bad: str, words: str) -> None:
    text = csv_table(attrition.records(2)) + bad
    (fault,) = problem(send(server, text, CSV), 400)["errors"]
    assert fault["line"] == 4
    assert words in fault["given"]


def test_bytes_that_are_not_utf_8_are_named_by_line(server: Server, attrition: Attrition) -> None:
    text = csv_table(attrition.records(3)).encode()
    (fault,) = problem(send(server, text.replace(b"\r\n", b"\r\n\xe4", 2), CSV), 400)["errors"]
    assert fault["line"] == 2


def test_header_alone_has_no_record(server: Server, attrition: Attrition) -> None:
    text = csv_table(attrition.records(1)).splitlines()[0]
    assert "no record" in problem(send(server, text, CSV), 422)["detail"]


def test_a_file_may_hold_as_much_as_a_request_in_json(bundle: Bundle, server: Server, attrition: Attrition) -> None:
    """Otherwise a file could be many times as much to score, log and answer as its bytes."""
    text = csv_table(attrition.records(1))
    header, cells = text.splitlines()
    many = f"{header}\n" + f"{cells}\n" * 12_000
    assert len(many) < LIMIT
    assert "as JSON" in problem(send(server, many, CSV), 413)["detail"]
    one, two = f"{header}\n{cells}\n".encode(), f"{header}\n{cells}\n{cells}\n".encode()
    size = len(read_csv(one, bundle.contract, LIMIT)[1])
    assert len(read_csv(one, bundle.contract, size)[0]) == 1
    for body, limit in ((one, size - 1), (two, size)):
        with pytest.raises(Problem, match="as JSON"):
            read_csv(body, bundle.contract, limit)
    problem(send(server, " " * (LIMIT + 1), NDJSON), 413)


def test_header_of_a_million_columns_is_one_fault(server: Server) -> None:
    (fault,) = problem(send(server, "a," * 1_000_000 + "a\n1\n", CSV), 422)["errors"]
    assert (fault["line"], fault["given"]) == (1, "1000001 columns")


@pytest.mark.parametrize(
    ("kind", "accept", "expected"),
    [
        ("application/json", "", True),
        ("Application/JSON; charset=utf-8", "*/*", True),
        ("application/json", "application/json, text/plain, */*", True),
        ("text/csv", "*/*", False),
        ("application/x-ndjson", "", False),
        ("application/json", "text/csv", False),
        ("", "", False),
    ],
)
def test_main_thread_serves_plain_json_alone(kind: str, accept: str, expected: bool) -> None:
    assert is_json(kind, accept) is expected


def test_text_that_a_spreadsheet_would_compute_has_an_apostrophe_before_it() -> None:
    keys: list[Any] = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "a=1", -7, msgspec.UNSET, "\n=1", "\uff1d1"]
    keys += ["a;=1", 'a; "@b', "a\t-1", "a, =1", "1;2", "a - b"]  # a semicolon ends a cell in half of Europe
    records = [ScoredRecord(key, 1e-05, True, msgspec.UNSET) for key in keys]
    rows = list(csv.reader(io.StringIO((csv_header(explain=False) + csv_lines(records)).decode(), newline="")))
    assert [row[0] for row in rows[1:9]] == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "a=1", "-7", ""]
    assert [row[0] for row in rows[9:11]] == ["'\n=1", "'\uff1d1"]
    assert [row[0] for row in rows[11:]] == ["a;'=1", "a;' \"@b", "a\t'-1", "a,' =1", "1;2", "a - b"]
    assert rows[1][1:] == ["1e-05", "true", "", ""]


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("dataframe_records", lambda records: records),
        ("instances", lambda records: records),
        ("inputs", lambda records: records),
        ("inputs", lambda records: {name: [record[name] for record in records] for name in records[0]}),
        (
            "dataframe_split",
            lambda records: {"columns": list(records[0]), "data": [list(record.values()) for record in records]},
        ),
    ],
)
def test_envelopes_of_mlflow_are_refused_with_the_one_line_to_change(
    server: Server, attrition: Attrition, name: str, table: Any
) -> None:
    records = attrition.records(3)
    payload = {name: table(records)}
    detail = problem(server.predict(payload), 422)["detail"]
    mended = detail.partition("send the list itself: json=")[2]
    assert figures(server.predict(eval(mended, {"payload": payload}))) == figures(server.predict(records))  # noqa: S307


def test_one_record_without_a_list_is_told_to_be_put_into_one(server: Server, attrition: Attrition) -> None:
    assert "json=[payload]" in problem(server.predict(attrition.records(1)[0]), 422)["detail"]


# --- generated records ---


def values(field: Field) -> st.SearchStrategy[tuple[Any, str]]:
    """A value in JSON and as a cell, good or bad."""
    nothing = st.sampled_from([(None, ""), (None, "NA")])
    if field.kind == "category":
        letters = st.characters(exclude_categories=["Cs", "Cc"])
        longest = text_limit(field)
        text = st.sampled_from(field.categories) | st.text(letters, min_size=1, max_size=12) | st.just("x" * longest)
        bad = st.just("x" * (longest + 1))
        said = (text | bad).map(str.strip).filter(lambda one: one in field.categories or one not in MISSING)
        return said.map(lambda one: (one, one)) | nothing
    low, high = limits(field)
    numbers = st.integers(int(low or 0), int(min(high or 100, 1000))) | st.floats(-1e3, 1e3).filter(math.isfinite)
    edges = [edge for edge in (low, high) if edge is not None]
    beyond = st.sampled_from([*edges, *(edge + step for edge in edges for step in (-1, 1)), 1e300, "abc", "minus"])
    return (numbers | beyond).map(lambda one: (one, one if isinstance(one, str) else repr(one))) | nothing


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(data=st.data())
def test_generated_records_mean_the_same_and_are_refused_alike_in_every_form(
    flats_server: Server, data: st.DataObject
) -> None:
    kept = [field for field in FLATS if field.required or data.draw(st.booleans())]
    drawn = data.draw(st.lists(st.tuples(*(values(field) for field in kept)), min_size=1, max_size=4))
    records = [{field.name: value for field, (value, _) in zip(kept, row, strict=True)} for row in drawn]
    cells = [{field.name: cell for field, (_, cell) in zip(kept, row, strict=True)} for row in drawn]
    # A line whose cells are all empty says nothing.
    if any(not any(row.values()) for row in cells):
        return
    answers = [
        flats_server.predict(records),
        send(flats_server, ndjson(records), NDJSON),
        send(flats_server, csv_table(cells), CSV),
    ]
    assert {answer.status for answer in answers} <= {200, 422}
    if answers[0].status == 200:
        assert figures(answers[0]) == figures(answers[1]) == figures(answers[2])
    else:
        first, *others = [
            {(fault["record"], fault["field"], fault["allowed"]) for fault in problem(answer, 422)["errors"]}
            for answer in answers
        ]
        assert others == [first, first]


@settings(max_examples=150, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])  # fmt: skip
@given(data=st.data(), at_once=st.integers(1, 4))
def test_rows_mean_the_same_however_many_are_in_memory(data: st.DataObject, at_once: int) -> None:
    line = st.tuples(*(values(field).map(lambda pair: pair[1]) for field in FLATS))
    bad = st.sampled_from([",".join("1" * 9), '"never closed', '"a"b,1', "", ",,,,,"])
    lines = [
        csv_table([dict(zip((field.name for field in FLATS), cells, strict=True))]).splitlines()[1]
        for cells in data.draw(st.lists(line, max_size=9))
    ]
    for _ in range(data.draw(st.integers(0, 2))):
        lines.insert(data.draw(st.integers(0, len(lines))), data.draw(bad))
    body = "\n".join([",".join(field.name for field in FLATS), *lines]).encode()
    limit = data.draw(st.sampled_from([100, 400, LIMIT]))

    def read(rows: int) -> Any:
        with mock.patch("serving.files._ROWS", rows):
            try:
                matrix, understood = read_csv(body, CONTRACT, limit)
            except Problem as problem:
                return type(problem), problem.faults, problem.total
            return np.nan_to_num(matrix, nan=-9).tolist(), json.loads(understood)

    found, whole = read(at_once), read(1000)
    # A file that is too large is told so before all of it has been read.
    assert found == whole or found[0] is TooLarge


CONTRACT = Contract(2, "flats", "Flat Finder", "Finds flats.", FLATS, OutlierRule(1, 1.0, -0.5), 400)


@pytest.fixture(scope="module")
def flats_server(flats: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server of the flats, whose names have blanks, colons and umlauts."""
    with Server(tmp_path_factory.mktemp("flats-server"), flats) as running:
        yield running


@pytest.mark.parametrize("kind", [CSV, NDJSON])
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(pieces=st.lists(st.sampled_from(
    [b",", b'"', b"\n", b"\r", b"\r\n", b"rooms", b"heating", b"gas", b"square metres", b"1", b"\xff", b"\0", b"NA",
     b'{"rooms":2,"heating":"gas","square metres":9}', b"{", b"}", b"[", b"]", b" ", b"\xef\xbb\xbf", b"x" * 200_000]
), max_size=14))  # fmt: skip
def test_any_file_is_a_client_error_at_worst(flats_server: Server, kind: str, pieces: list[bytes]) -> None:
    answer = send(flats_server, b"".join(pieces), kind)
    assert answer.status in (200, 400, 422), answer
    assert len(answer.body) < 60_000
