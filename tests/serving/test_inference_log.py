"""What the inference log says of a request, whatever its size."""

import json
from typing import Any

import msgspec
import pytest

from serving.inference_log import LINE_LIMIT, InferenceLog
from serving.scoring.bundle import Bundle
from serving.scoring.records import RecordReader
from serving.settings import Release, Settings
from tests.support.serving_bundles import Attrition


class Collector:
    """In place of the writer."""

    def __init__(self) -> None:
        self.text = b""

    def write(self, lines: bytes) -> None:
        self.text += lines


def logged(bundle: Bundle, body: bytes, **settings: Any) -> list[dict[str, Any]]:
    """The parsed lines of one request; each fits a line of the container runtime."""
    collector = Collector()
    release = Release(model_name="m", model_version="4")
    log = InferenceLog(bundle.contract, release, Settings(**settings), collector)  # type: ignore[arg-type]
    result = bundle.score_fields(RecordReader(bundle.contract).read(body))
    log.write(log.lines("request-1", "hr", body, result, msgspec.json.encode(result)))
    lines = collector.text.split(b"\n")
    assert lines.pop() == b""
    assert all(len(line) <= LINE_LIMIT for line in lines)
    return [json.loads(line) for line in lines]


def test_small_request_is_one_input_and_one_output_line(attrition: Attrition, bundle: Bundle) -> None:
    records = attrition.records(2)
    input_line, output_line = logged(bundle, json.dumps(records, indent=2).encode())
    for line, kind in ((input_line, "InputData"), (output_line, "OutputData")):
        assert line["service_name"] == bundle.contract.title == "Employee Attrition API"
        assert (line["type"], line["request_id"], line["client"]) == (kind, "request-1", "hr")
        assert (line["model_name"], line["model_version"]) == ("m", "4")
        assert line["timestamp"].endswith("Z")
        assert (line["chunk"], line["chunks"], line["first_record"]) == (1, 1, 0)
    assert input_line["data"] == records
    result = bundle.score(records)
    assert output_line["data"]["classifier__predictions"] == pytest.approx(result.classifier__predictions)
    assert output_line["data"]["drift__magnitude"] == pytest.approx(result.drift__magnitude)


@pytest.mark.parametrize("count", [15, 100, 1000])
@pytest.mark.parametrize("indent", [None, 3])
def test_large_request_is_whole_record_lines_with_every_record_once(
    attrition: Attrition, bundle: Bundle, count: int, indent: int | None
) -> None:
    records = attrition.records(count)
    lines = logged(bundle, json.dumps(records, indent=indent).encode())
    result = bundle.score(records)
    for kind in ("InputData", "OutputData"):
        parts = [line for line in lines if line["type"] == kind]
        assert [line["chunk"] for line in parts] == list(range(1, len(parts) + 1))
        assert {line["chunks"] for line in parts} == {len(parts)}
        joined: list[Any] = []
        for line in parts:
            assert line["first_record"] == len(joined)
            joined += line["data"] if kind == "InputData" else line["data"]["outliers__score"]
        assert joined == (records if kind == "InputData" else pytest.approx(result.outliers__score))
        if kind == "OutputData":
            assert ["drift__p_value" in line["data"] for line in parts] == [True] + [False] * (len(parts) - 1)


@pytest.mark.parametrize("text", ["a{b}c", "}{", '"}, {"', "[]", "\u2028\u00e4\U0001f600", "\x07 tab\t"])
def test_texts_with_braces_and_odd_characters_are_logged_unharmed(
    attrition: Attrition, bundle: Bundle, text: str
) -> None:
    records = [record | {"JobRole": text} for record in attrition.records(60)]
    for ascii_only in (True, False):
        lines = logged(bundle, json.dumps(records, ensure_ascii=ascii_only).encode())
        inputs = [record for line in lines if line["type"] == "InputData" for record in line["data"]]
        assert inputs == records


def test_padded_records_do_not_make_long_lines(attrition: Attrition, bundle: Bundle) -> None:
    records = attrition.records(3)
    body = json.dumps(records).replace('"Age":', '"Age":' + " " * 20_000).replace("}, {", "}\r\n,\n{").encode()
    lines = logged(bundle, body)
    assert [record for line in lines if line["type"] == "InputData" for record in line["data"]] == records


def test_sensitive_fields_are_dropped_where_the_setting_says_so(attrition: Attrition, bundle: Bundle) -> None:
    sensitive = {field.name for field in bundle.contract.fields if field.sensitive}
    assert {"Age", "Gender"} <= sensitive
    records = attrition.records(30)
    lines = logged(bundle, json.dumps(records).encode(), log_sensitive="drop")
    inputs = [record for line in lines if line["type"] == "InputData" for record in line["data"]]
    assert inputs == [{k: v for k, v in record.items() if k not in sensitive} for record in records]


def test_sensitive_fields_are_hashed_with_the_secret(attrition: Attrition, bundle: Bundle) -> None:
    records = [record | {"Age": 40} for record in attrition.records(2)]
    records[1]["Gender"] = None

    def ages(secret: str) -> list[Any]:
        lines = logged(bundle, json.dumps(records).encode(), log_sensitive="hash", log_hash_key=secret)
        assert lines[0]["data"][1]["Gender"] is None
        assert lines[0]["data"][0]["DailyRate"] == records[0]["DailyRate"]
        return [record["Age"] for record in lines[0]["data"]]

    first, second = ages("one"), ages("two")
    assert first[0] == first[1] != 40
    assert first != second
