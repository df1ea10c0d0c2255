"""What an answer says of each record: key, band, warnings, reasons; and the query parameters that ask for them."""

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from serving.answers import record_keys
from serving.metrics import MANY_RECORDS
from serving.scoring.bundle import DRIFT_KEYS, Bundle
from serving.scoring.contract import Field
from tests.serving.test_http import problem
from tests.support.serving_bundles import Attrition
from tests.support.serving_processes import KEY, Answer, Server


def ask(server: Server, records: list[dict[str, Any]], query: str) -> Answer:
    """``POST /predict`` with a query string."""
    headers = {"Content-Type": "application/json", "X-API-Key": KEY}
    return server.request("POST", f"/predict?{query}", json.dumps(records).encode(), headers)


def test_records_are_named_by_the_key_that_was_sent(server: Server, attrition: Attrition) -> None:
    first, second, third = attrition.records(3)
    records = [first | {"EmployeeNumber": 7}, second | {"EmployeeNumber": None}, third | {"EmployeeNumber": 9.0}]
    answer = server.predict(records).json
    assert [record.get("key") for record in answer["records"]] == [7, None, 9]
    assert "key" not in answer["records"][1]
    assert [record["probability"] for record in answer["records"]] == answer["classifier__predictions"]
    assert [record["outlier"] for record in answer["records"]] == answer["outliers__is_outlier"]
    assert not {"base", "reasons", "other", "warnings"} & answer["records"][0].keys()


def test_band_is_that_of_the_bundle(server: Server, attrition: Attrition) -> None:
    cut = json.loads((attrition.folder / "contract.json").read_text())["band"]["cut"]
    answer = server.predict(attrition.records(200)).json
    bands = [record["band"] for record in answer["records"]]
    assert bands == ["top 20%" if p > cut else "rest" for p in answer["classifier__predictions"]]
    assert 10 < bands.count("top 20%") < 80


def test_unknown_category_is_a_warning_with_field_and_value(server: Server, attrition: Attrition) -> None:
    records = attrition.records(2)
    records[1] |= {"JobRole": "Astronaut", "Gender": "unsaid"}
    plain, warned = server.predict(records).json["records"]
    assert "warnings" not in plain
    (warning,) = warned["warnings"]  # no model sees the other field
    assert (warning["field"], warning["value"]) == ("JobRole", "Astronaut")
    assert "none of the categories" in warning["text"]


def test_reasons_add_up_to_the_probability_and_say_it_in_words(server: Server, attrition: Attrition) -> None:
    records = [*attrition.records(40), attrition.examples["records"][0] | {"JobRole": "Astronaut", "DailyRate": None}]
    answer = ask(server, records, "explain=true").json
    seen = {field.name for field in attrition.employees.use_case.features}
    for record, sent in zip(answer["records"], records, strict=True):
        effects = [reason["effect"] for reason in record["reasons"]]
        sum_ = record["base"] + sum(effects) + record["other"]
        assert 1 / (1 + math.exp(-sum_)) == pytest.approx(record["probability"], abs=1e-6)
        assert [abs(effect) for effect in effects] == sorted(map(abs, effects), reverse=True)
        assert sum(effect > 0 for effect in effects) <= 3
        assert sum(effect < 0 for effect in effects) <= 3
        for reason in record["reasons"]:
            assert reason["field"] in seen
            assert reason["value"] == sent[reason["field"]]
            assert reason["direction"] == ("raises" if reason["effect"] > 0 else "lowers")
            assert reason["text"].endswith(f": {reason['direction']} the probability")
    texts = {reason["text"] for record in answer["records"] for reason in record["reasons"]}
    assert "OverTime is Yes: raises the probability" in texts


def test_version_says_whether_a_model_gives_reasons(server: Server, flats: Path, tmp_path: Path) -> None:
    assert server.request("GET", "/version").json["reasons"] is True
    with Server(tmp_path, flats) as silent:
        assert silent.request("GET", "/version").json["reasons"] is False
        record = {"square metres": 54.5, "heating": "gas", "rooms": 2}
        assert silent.predict([record]).json["records"][0].keys() == {"probability", "outlier"}
        document = problem(ask(silent, [record], "explain=true"), 400)
        assert "this model gives no reasons" in document["detail"]


def test_drift_can_be_left_out_and_says_when_it_means_little(server: Server, attrition: Attrition) -> None:
    few, many = server.predict(attrition.records(2)).json, server.predict(attrition.records(MANY_RECORDS)).json
    assert "means little" in few["drift__note"]
    assert "drift__note" not in many
    answer = ask(server, attrition.records(2), "drift=false").json
    assert not [name for name in answer if name.startswith("drift__")]
    assert answer.keys() == few.keys() - set(DRIFT_KEYS) - {"drift__note"}
    assert [line for line in server.log_lines() if line["request_id"] == answer["request_id"]][1]["data"].keys() >= set(
        DRIFT_KEYS
    )


@pytest.mark.parametrize(
    ("query", "allowed"),
    [
        ("explian=true", "explain=true or false"),
        ("explain=1", "explain=true or explain=false"),
        ("explain=", "explain=true or explain=false"),
        ("drift=no", "drift=true or drift=false"),
        ("drift=true&drift=false", "once"),
        ("drift=false&%00=1", "explain=true or false and drift=true or false"),
    ],
)
def test_other_query_parameters_are_refused_and_the_allowed_named(
    server: Server, attrition: Attrition, query: str, allowed: str
) -> None:
    assert allowed in problem(ask(server, attrition.records(1), query), 400)["detail"]


def test_openapi_marks_the_band_as_no_decision(server: Server) -> None:
    document = server.request("GET", "/openapi.json").json
    band = document["components"]["schemas"]["ScoredRecord"]["properties"]["band"]
    assert "not a decision" in band["description"]
    names = [parameter["name"] for parameter in document["paths"]["/predict"]["post"]["parameters"]]
    assert names[1:] == ["explain", "drift"]


def test_openapi_describes_every_member_of_answers_and_problems(server: Server) -> None:
    document = server.request("GET", "/openapi.json").json
    bare = {
        (name, member)
        for name, schema in document["components"]["schemas"].items()
        for member, described in schema["properties"].items()
        if not described.get("description")
    }
    assert bare == set()
    predict = document["paths"]["/predict"]["post"]
    kinds = {"application/json", "text/csv", "application/x-ndjson"}
    assert predict["requestBody"]["content"].keys() == predict["responses"]["200"]["content"].keys() == kinds
    for kind, body in predict["requestBody"]["content"].items():
        example = body["example"] if isinstance(body["example"], str) else json.dumps(body["example"])
        assert server.predict(example.encode(), Content_Type=kind).status == 200
    assert "406" in predict["responses"]


def test_key_that_is_text_comes_back_as_it_was_sent(bundle: Bundle) -> None:
    fields = (*bundle.contract.fields, Field("code", "category", "Code", "a", role="carried", required=False))
    contract = msgspec.structs.replace(bundle.contract, fields=fields, key="code")
    records = [{"code": "a-\u00fc"}, {"code": None}, {}]
    keys = list(record_keys(contract)(json.dumps(records).encode(), np.empty((3, len(fields)))))
    assert keys == ["a-\u00fc", msgspec.UNSET, msgspec.UNSET]
