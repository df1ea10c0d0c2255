"""Whatever is sent, the answer is never a 5xx, and what is answered with 200 is logged as JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.media import MEDIA_TYPES
from tests.support.serving_bundles import Attrition
from tests.support.serving_processes import KEY, ROOT, Server

FUZZ = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

awkward = st.sampled_from(
    [
        b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"1e-400", b"9" * 400, b"-" + b"9" * 25, b"0.1e1",
        b"41.0", b"41.5", b"-0", b"1E2", b"01", b"+1", b"true", b"null", b"[]", b"{}", b'""', b'"\\ud800"',
        b'"\\udc00\\ud800"', b'"\\u0000"', b'"\xff"', b'"\xed\xa0\x80"', b'"' + b"x" * 200 + b'"', b'"}{"', b"'a'",
        "\"\U0001f600\u2028\"".encode(), b'"\n"', b"[[[[]]]]", b'{"a":{"a":1}}', b"\x00", b"// c\n1",
    ]
)  # fmt: skip
nested = st.builds(lambda depth, way: way[0] * depth + way[1] * depth, st.integers(1, 3000),
                   st.sampled_from([(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")]))  # fmt: skip
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())


def check(server: Server, body: bytes) -> None:
    answer = server.predict(body)
    assert answer.status in (200, 400, 422), (answer, body)
    document = json.loads(answer.body.decode("utf-8"))
    if answer.status != 200:
        assert document["status"] == answer.status
        assert len(answer.body) < 40_000


@FUZZ
@given(body=st.binary(max_size=200) | nested | any_json | awkward)
def test_any_body_is_a_client_error_at_worst(server: Server, body: bytes) -> None:
    check(server, body)


@FUZZ
@given(data=st.data())
def test_records_with_any_value_in_any_field_are_answered(server: Server, attrition: Attrition, data: Any) -> None:
    record = attrition.examples["records"][0]
    pairs = [(json.dumps(name).encode(), json.dumps(value).encode()) for name, value in record.items()]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(pairs) - 1))
        action = data.draw(st.sampled_from(["value", "drop", "double", "rename"]))
        name, value = pairs[place]
        if action == "drop":
            pairs.pop(place)
        elif action == "rename":
            pairs[place] = (data.draw(st.text().map(lambda text: json.dumps(text).encode())), value)
        else:
            replacement = (name, data.draw(awkward | any_json))
            pairs[place : place + (action == "value")] = [replacement]
    space = data.draw(st.sampled_from([b"", b" ", b"\n", b"\r\n\t"]))
    body = b"[{" + (b"," + space).join(name + b":" + space + value for name, value in pairs) + b"}]"
    check(server, body)


@FUZZ
@given(
    headers=st.dictionaries(
        st.sampled_from(["X-Request-ID", "Content-Type", "Content-Encoding", "X-API-Key", "Accept", "Expect", "TE"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40).map(str.strip),
        max_size=3,
    )
)
def test_any_header_is_a_client_error_at_worst(server: Server, headers: dict[str, str]) -> None:
    answer = server.predict([], **headers)
    assert answer.status < 500


def test_everything_that_was_fuzzed_and_answered_is_in_the_log_as_json(server: Server) -> None:
    text = server.stdout.read_bytes()
    for line in text.split(b"\n")[:-1]:
        assert json.loads(line.decode("utf-8"))["type"] in ("InputData", "OutputData")


def test_schemathesis_finds_no_fault_against_the_openapi_document(server: Server, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{server.port}/openapi.json",
        "-H", f"X-API-Key: {KEY}",
        "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        "--max-examples", "15", "--seed", "1", "--phases", "examples,coverage,fuzzing",
        "--report", "har", "--report-har-path", "calls.har",
    ]  # fmt: skip
    environ = os.environ | {"SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    seen = set()
    for entry in json.loads((tmp_path / "calls.har").read_text())["log"]["entries"]:
        asked = entry["request"]
        if "/predict" in asked["url"] and asked["method"] == "POST":
            kind = next((h["value"] for h in asked["headers"] if h["name"].lower() == "content-type"), "")
            query = {(pair["name"], pair["value"]) for pair in asked["queryString"]}
            seen |= {(what, entry["response"]["status"]) for what in (kind, *query)}
    assert seen >= {(kind, 200) for kind in MEDIA_TYPES}
    assert seen >= {(("explain", "true"), 200), (("drift", "false"), 200)}
