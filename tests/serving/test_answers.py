"""What an answer says of each record: key, band, warnings, reasons; and the query parameters that ask for them."""

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from serving import predict
from serving.answers import ScoredRecord, ScoredRecords, record_keys
from serving.app import create_app
from serving.metrics import MANY_RECORDS
from serving.scoring.bundle import DRIFT_KEYS, Bundle
from serving.scoring.contract import Field
from serving.scoring.records import RecordReader
from serving.settings import read_settings
from tests.serving.test_http import problem
from tests.support.serving_bundles import ATTRITION, MODEL_NAME, Attrition
from tests.support.serving_processes import KEY, Answer, Server
from training.export.bundle import write_bundle
from training.search.ensemble import Member, StackedEnsemble
from training.search.models import STARTING_POINTS
from training.search.space import space_of


def ask(server: Server, records: list[dict[str, Any]], query: str) -> Answer:
    """``POST /predict`` with a query string."""
    headers = {"Content-Type": "application/json", "X-API-Key": KEY}
    return server.request("POST", f"/predict?{query}", json.dumps(records).encode(), headers, timeout=120)


def adds_up(record: dict[str, Any]) -> bool:
    sum_ = record["base"] + sum(reason["effect"] for reason in record["reasons"]) + record["other"]
    return math.isclose(1 / (1 + math.exp(-sum_)), record["probability"], abs_tol=1e-6)


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
    assert "not a category that the model knows" in warning["text"]


def test_reasons_add_up_to_the_probability_and_say_it_in_words(server: Server, attrition: Attrition) -> None:
    records = [*attrition.records(40), attrition.examples["records"][0] | {"JobRole": "Astronaut", "DailyRate": None}]
    answer = ask(server, records, "explain=true").json
    seen = {field.name for field in attrition.employees.use_case.features}
    for record, sent in zip(answer["records"], records, strict=True):
        effects = [reason["effect"] for reason in record["reasons"]]
        assert adds_up(record)
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


def test_reasons_that_are_made_part_by_part_are_the_same(bundle: Bundle, attrition: Attrition) -> None:
    records = attrition.records(10)
    records[4] |= {"JobRole": "Astronaut"}
    records[9] |= {"JobRole": "Cosmonaut", "EmployeeNumber": 9}
    body = json.dumps(records).encode()
    fields = RecordReader(bundle.contract).read(body)
    pauses: list[int] = []

    def told(at_once: int) -> list[ScoredRecord]:
        pauses.clear()
        said = ScoredRecords(bundle, lambda: pauses.append(at_once))
        return [one for part in said.parts(body, fields, bundle.score_fields(fields), True, at_once) for one in part]

    whole = msgspec.to_builtins(told(10))
    assert pauses == []
    assert [record["warnings"][0]["value"] for record in whole if "warnings" in record] == ["Astronaut", "Cosmonaut"]
    for at_once in (1, 3, 7):
        for record, expected in zip(msgspec.to_builtins(told(at_once)), whole, strict=True):
            assert record["reasons"] == [
                reason | {"effect": pytest.approx(reason["effect"], abs=1e-12)} for reason in expected["reasons"]
            ]
            assert {k: v for k, v in record.items() if k not in ("reasons", "other")} == {
                k: v for k, v in expected.items() if k not in ("reasons", "other")
            }
        assert len(pauses) == math.ceil(10 / at_once) - 1
    plain = told(0)
    assert [record.warnings for record in plain] == [record.warnings for record in told(10)]
    assert {record.reasons for record in plain} == {msgspec.UNSET}


@pytest.mark.parametrize("query", ["", "?explain=true"])
def test_answer_that_would_be_too_large_is_refused_and_not_logged(
    attrition: Attrition, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], query: str
) -> None:
    """Each thread may hold an answer that its client does not take."""
    app = create_app(read_settings({"SCORING_BUNDLE": str(attrition.folder), "SCORING_AUTH": "off"}))
    app.extensions["scoring"].warm_up()
    client = app.test_client()
    records = attrition.records(30)
    answer = client.post(f"/predict{query}", json=records)
    assert answer.status_code == 200
    told = len(json.dumps(answer.json["records"], separators=(",", ":"))) - len("[]")
    capfd.readouterr()
    monkeypatch.setattr(predict, "LARGEST_ANSWER", told - 1)
    refused = client.post(f"/predict{query}", json=records)
    assert (refused.status_code, refused.content_type) == (413, "application/problem+json")
    assert f"more than {told - 1} bytes; send fewer records" in refused.json["detail"]
    assert capfd.readouterr().out == ""
    monkeypatch.setattr(predict, "LARGEST_ANSWER", told)
    assert client.post(f"/predict{query}", json=records).json["records"] == answer.json["records"]
    assert "InputData" in capfd.readouterr().out


@pytest.fixture(scope="module")
def forest(attrition: Attrition, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose classifier is a forest of thousands of leaves."""
    folder = tmp_path_factory.mktemp("forest") / "bundle"
    member = Member(dict(STARTING_POINTS[2]), 1.0)
    data = attrition.employees
    ensemble = StackedEnsemble(space_of(ATTRITION), [member], 0.0, seed=1).fit(data.x, data.y)
    write_bundle(folder, MODEL_NAME, ensemble, attrition.outliers, data, data)
    return folder


@pytest.mark.stack
def test_reasons_of_a_forest_come_for_any_request_while_others_are_answered(
    forest: Path, attrition: Attrition, tmp_path: Path
) -> None:
    reasons = Bundle.load(forest).reasons
    assert reasons is not None
    assert reasons.at_once < 50
    records = attrition.records(20 * reasons.at_once)
    waits: list[float] = []

    def others(server: Server) -> None:
        """Probes, predictions, and the reasons of a record."""
        for path in ("/healthz", "/readyz"):
            began = time.monotonic()
            assert server.request("GET", path).status == 200
            waits.append(time.monotonic() - began)
        for query in ("", "explain=true"):
            assert ask(server, records[:1], query).status == 200

    # Much less time than the request takes: the limit is for clients, and this one has done its part.
    with Server(tmp_path, forest, CLIENT_TIMEOUT=1) as server, ThreadPoolExecutor(2) as pool:
        both = [pool.submit(ask, server, records, "explain=true&drift=false") for _ in range(2)]
        while not all(one.done() for one in both):
            others(server)
        answered, refused = sorted((one.result() for one in both), key=lambda answer: answer.status)
        assert len(waits) > 4
        assert len(answered.json["records"]) == len(records)
        assert all(map(adds_up, answered.json["records"]))
        assert "somebody else" in problem(refused, 429)["detail"]
        assert refused.headers["retry-after"] == "10"
        # Whatever else the query is spelled like, it is not computed where probes are answered.
        spelled = pool.submit(ask, server, records[: 8 * reasons.at_once], "%65xplain=true")
        while not spelled.done():
            others(server)
        assert all(map(adds_up, spelled.result().json["records"]))
    assert max(waits) < 1.0


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


def test_openapi_names_what_people_and_tools_look_for(server: Server, bundle: Bundle) -> None:
    document = server.request("GET", "/openapi.json").json
    schemas = document["components"]["schemas"]
    # Swagger UI shows members without a name as additionalProp1.
    unnamed = [name for name, schema in schemas.items() if isinstance(schema.get("additionalProperties"), dict)]
    assert unnamed == []
    assert '"additionalProperties": {' not in json.dumps(document)
    tested = [field.name for field in bundle.contract.drift_fields]
    assert list(schemas["DriftFlags"]["properties"]) == list(schemas["DriftFigures"]["properties"]) == tested
    assert "Document" not in schemas
    assert schemas["ScoredRecord"]["properties"]["key"]["type"] == "integer"
    assert document["servers"][0]["url"] == "/"
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert {tag for operation in operations for tag in operation["tags"]} == tags
    for operation in operations:
        content = operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert content.keys() & {"$ref", "properties"}
    refused = document["paths"]["/predict"]["post"]["responses"]
    assert {refused[status]["headers"].keys() == {"Retry-After"} for status in ("429", "503")} == {True}
    for figure in ("5,242,880 bytes", "16,777,216 bytes", "30 seconds"):
        assert figure in document["info"]["description"]


@pytest.mark.parametrize("kind", ["category", "integer", "number"])
@pytest.mark.parametrize("role", ["feature", "carried", "compared"])
def test_new_optional_field_breaks_no_caller_and_a_required_one_is_asked_for(
    bundle: Bundle, attrition: Attrition, kind: Any, role: Any
) -> None:
    body = json.dumps(attrition.records(20)).encode()

    def read(**more: Any) -> NDArray[np.float64]:
        field = Field("NewField", kind, "New", "a" if kind == "category" else 1, role=role, **more)
        fields = (field, *bundle.contract.fields)
        return RecordReader(msgspec.structs.replace(bundle.contract, fields=fields)).read(body)

    found = read(required=False)
    assert np.isnan(found[:, 0]).all()
    np.testing.assert_array_equal(found[:, 1:], RecordReader(bundle.contract).read(body))
    with pytest.raises(msgspec.ValidationError, match="NewField"):
        read(required=True)


def test_openapi_says_what_a_key_is(server: Server) -> None:
    schemes = server.request("GET", "/openapi.json").json["components"]["securitySchemes"]
    assert all(scheme["description"] for scheme in schemes.values())


def test_key_that_is_text_comes_back_as_it_was_sent(bundle: Bundle) -> None:
    fields = (*bundle.contract.fields, Field("code", "category", "Code", "a", role="carried", required=False))
    contract = msgspec.structs.replace(bundle.contract, fields=fields, key="code")
    records = [{"code": "a-\u00fc"}, {"code": None}, {}]
    keys = list(record_keys(contract)(json.dumps(records).encode(), np.empty((3, len(fields)))))
    assert keys == ["a-\u00fc", msgspec.UNSET, msgspec.UNSET]
