"""The page Model releases, over a real MLflow server; Airflow's side is given as the API answers it."""

import asyncio
import re
import sys
import threading
import uuid
from typing import ClassVar

import httpx
import msgspec
import pytest
from airflow.api_fastapi.core_api.security import get_user
from airflow.models.connection import Connection
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

import use_cases
from lifecycle import settings
from lifecycle.evidence import signature
from lifecycle.hooks import registry
from lifecycle.release_page import airflow_view, app, chart, history, registry_view
from lifecycle.release_page.airflow_view import AirflowView, Run
from lifecycle.release_page.registry_view import Night
from tests.support.airflow import USE_CASE, make_settings
from tests.support.definitions import define
from tests.support.release_page_data import RING, past, release, train
from training.registry import tags
from training.use_case import load


def run(run_id, state="success", dag_id="attrition_release", **more):
    return Run(dag_id=dag_id, dag_run_id=run_id, state=state, run_after="2026-11-01T00:00:00Z", **more)


RUNS = AirflowView(
    runs=[
        run("manual__1"),
        run("manual__2"),
        run("manual__3", "failed"),
        run("manual__4", "running"),
        run("manual__5", "failed", note="build_image failed: no registry"),
        run("manual__7", "queued", dag_id="attrition_rollback"),
        run(
            "manual__6",
            dag_id="attrition_rollback",
            triggering_user_name="rita",
            conf={"reason": "error rate doubled"},
            note="Version 1 is in production",
        ),
    ],
    waiting=frozenset({"manual__4"}),
)


def answering(view_of):
    """In the place of ``airflow_view.read``: what Airflow answers about a use case."""

    async def read(airflow, token, use_case):
        return view_of(use_case)

    return read


class Rights:
    """Airflow's auth manager, for somebody who may read every DAG but the hidden ones."""

    hidden: ClassVar[set[str]] = set()

    def filter_authorized_dag_ids(self, *, dag_ids, user, method):
        assert method == "GET"
        return dag_ids - self.hidden


def settings_of(name):
    return make_settings({"model_name": name, "experiment": name}, approval_keys=RING.public)


@pytest.fixture
def configured(mlflow_connection, monkeypatch):
    """Settings with a model that nobody has trained yet."""
    found = settings_of(f"model_{uuid.uuid4().hex[:8]}")
    monkeypatch.setattr(settings, "load", lambda: found)


@pytest.fixture(scope="module")
def written_past(mlflow_server):
    """Settings of a model with a past; the versions' run ids."""
    found = settings_of(f"model_{uuid.uuid4().hex[:8]}")
    host, port = mlflow_server.removeprefix("http://").split(":")
    connection = Connection(conn_id="mlflow", conn_type="http", host=host, port=int(port))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "load", lambda: found)
        key = Connection(conn_id=signature.CONNECTION_ID, conn_type="generic", password=RING.private)
        known = {"mlflow": connection, signature.CONNECTION_ID: key}
        patch.setattr(registry.BaseHook, "get_connection", lambda conn_id: known[conn_id])
        registry.client.cache_clear()
        past(registry.client())
        registry.client.cache_clear()
    return found


@pytest.fixture
def with_past(configured, written_past, monkeypatch):
    """The settings of a model with a past."""
    monkeypatch.setattr(settings, "load", lambda: written_past)


@pytest.fixture
def page(configured, monkeypatch):
    """The page for somebody who may see it; Airflow answers with ``RUNS``."""
    monkeypatch.setattr(airflow_view, "read", answering(lambda use_case: RUNS))
    monkeypatch.setattr(app, "load_all", lambda: ((load(USE_CASE),), ()))
    monkeypatch.setattr(app, "get_auth_manager", lambda: Rights())
    return mounted_page()


def mounted_page():
    """The page as Airflow mounts it, with nothing read yet."""
    application = app.application.__wrapped__()
    application.dependency_overrides[get_user] = lambda: None

    async def mounted(scope, receive, send):
        await application({**scope, app.AIRFLOW: None} if scope["type"] == "http" else scope, receive, send)

    return TestClient(mounted)


def text_of(answer):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))


def test_page_of_a_use_case_without_a_model_shows_its_train_dag_and_nothing_else(page, monkeypatch):
    monkeypatch.setattr(airflow_view, "read", answering(lambda use_case: AirflowView([], frozenset())))
    answer = page.get("/releases")
    assert answer.status_code == 200
    assert "No model has been trained yet: attrition_train does that" in text_of(answer)
    assert "History" not in answer.text


def test_page_of_an_empty_registry_says_what_to_do_in_every_part(page):
    answer = page.get("/releases")
    assert answer.status_code == 200
    shown = text_of(answer)
    for part in ("Nothing has been released yet", "Nothing has been deployed yet", "No version has the alias"):
        assert part in shown
    assert "No night has been judged yet" in shown


def test_page_shows_places_candidate_history_and_drift(page, with_past):
    answer = page.get("/releases")
    assert answer.status_code == 200
    shown = text_of(answer)
    for part in (
        "Version 4 beside champion version 3",
        "Version 3 (champion)",
        "Trained on employees.csv: 1470 original rows and 30 labelled by outcomes",
        "0.861 (0.822 to 0.897)",
        "0.847 (0.806 to 0.884)",
        "Plain logistic regression",
        "0.830 (0.790 to 0.870)",
        "Share picked out Age: 0.380 (0.200 to 0.550)",
        "Fairness gap 0.38 at most 0.35 met Age, 95% interval 0.20 to 0.55",
        "Latency in ms 7.2 at most 5 missed",
        "Approved by hana",
        "released",
        "rejected",
        "approved, but failed",
        "waits for approval",
        "failed before the gate",
        "rolled back",
        "rollback waits to start",
        "error rate doubled. Version 1 is in production",
        "drifted: 7 of 34 fields drifted",
    ):
        assert part in shown, part
    assert answer.text.count("<rect") == 30
    assert "http://airflow/dags/attrition_release/runs/manual__4/tasks/await_approval/required_actions" in answer.text
    assert re.search(r"http://mlflow/#/experiments/\d+/runs/[0-9a-f]{32}/artifacts", answer.text)


def test_page_says_which_decision_is_unsigned_and_holds_the_others_to_the_public_keys(page, with_past, monkeypatch):
    answer = page.get("/releases")
    assert answer.text.count(">unsigned<") == 1, "the first release was decided before approvals were signed"
    assert 'title="it is unsigned, as all are that were given before approvals were signed"' in answer.text
    keyless = msgspec.structs.replace(settings.load(), approval_keys=())
    monkeypatch.setattr(settings, "load", lambda: keyless)
    registry_view._read_document.cache_clear()
    assert mounted_page().get("/releases").text.count(">unsigned<") == 4, "three decisions, and production's"
    registry_view._read_document.cache_clear()


def test_page_escapes_what_people_typed_and_allows_no_foreign_script(page, with_past):
    answer = page.get("/releases")
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert " style=" not in answer.text
    assert " onclick=" not in answer.text


def test_page_asks_mlflow_once_for_many_readers(page, monkeypatch):
    asked = []
    read = registry_view.read
    monkeypatch.setattr(registry_view, "read", lambda use_case: asked.append(1) or read(use_case))
    with page:
        for _ in range(5):
            assert page.get("/releases").status_code == 200
    assert len(asked) == 1


def test_mlflow_down_is_said_and_what_airflow_knows_is_still_shown(page, connections, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    connections["mlflow"] = Connection(conn_id="mlflow", conn_type="http", host="127.0.0.1", port=9)
    answer = page.get("/releases")
    assert answer.status_code == 503
    shown = text_of(answer)
    for part in ("MLflow cannot be read", "rolled back", "run ended", "run failed", "waits for approval"):
        assert part in shown
    assert "manual__4/tasks/await_approval/required_actions" in answer.text
    assert "before the gate" not in shown, "without MLflow nobody knows how far they came"


def test_mlflow_connection_missing_is_said(page, monkeypatch):
    from airflow.sdk.exceptions import AirflowNotFoundException

    def missing(conn_id):
        raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")

    monkeypatch.setattr(registry.BaseHook, "get_connection", missing)
    answer = page.get("/releases")
    assert answer.status_code == 503
    assert "The conn_id `mlflow`" in answer.text.replace("&#39;", "'")


def test_mlflow_that_does_not_answer_in_time_is_said(page, monkeypatch):
    answered = threading.Event()
    monkeypatch.setattr(app, "DEADLINE_SECONDS", 0.1)
    monkeypatch.setattr(registry_view, "read", lambda use_case: answered.wait(1))
    try:
        answer = page.get("/releases")
    finally:
        answered.set()
    assert answer.status_code == 503
    assert "has not answered within 0.1 s" in answer.text


def test_airflow_api_down_is_said_and_the_registry_is_still_shown(page, with_past, monkeypatch):
    async def down(airflow, token, use_case):
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(airflow_view, "read", down)
    answer = page.get("/releases")
    assert answer.status_code == 200
    assert "Airflow's API cannot be read" in answer.text
    assert "What runs where" in answer.text


@pytest.mark.parametrize("below", ["", "/tools"])
def test_airflow_is_asked_in_this_process_with_the_readers_own_token(below):
    airflow, asked = FastAPI(root_path=below), []

    @airflow.get("/api/v2/dags/{dag_id}/dagRuns")
    def runs(dag_id: str, limit: int, request: Request):
        asked.append((dag_id, limit, request.headers["Authorization"]))
        return {"dag_runs": [msgspec.to_builtins(run("manual__1", dag_id=dag_id))], "total_entries": 1}

    @airflow.get("/api/v2/dags/{dag_id}/dagRuns/~/hitlDetails")
    def questions(dag_id: str, response_received: bool, state: str):
        return {"hitl_details": [{"task_instance": {"dag_run_id": "manual__1"}}], "total_entries": 1}

    found = asyncio.run(airflow_view.read(airflow, "ritas", load(USE_CASE)))
    dags = ["attrition_release", "attrition_rollback", "attrition_stop", "attrition_resume"]
    assert [one.dag_id for one in found.runs] == dags
    assert found.waiting == {"manual__1"}
    assert asked == [(dag, airflow_view.RUNS, "Bearer ritas") for dag in dags]


def test_airflow_that_refuses_or_breaks_is_an_error_that_the_page_shows():
    airflow = FastAPI()

    @airflow.get("/api/v2/dags/{dag_id}/dagRuns")
    def runs(dag_id: str):
        raise RuntimeError("the database is locked")

    with pytest.raises(httpx.HTTPStatusError, match="500"):
        asyncio.run(airflow_view.read(airflow, "ritas", load(USE_CASE)))


def test_evidence_that_is_none_is_named_and_the_rest_is_shown(page, with_past):
    run_id = registry.by_alias(USE_CASE, tags.CHAMPION).run_id
    registry.client().log_text(run_id, '{"release": 1}', "evidence/broken.json")
    registry.client().log_text(run_id, "not json", "evidence/worse.json")
    registry.client().log_text(run_id, "what the gate showed", "evidence/worse.md")
    shown = text_of(page.get("/releases"))
    assert "evidence/broken.json of run" in shown
    assert "evidence/worse.json of run" in shown
    assert "worse.md" not in shown
    assert "waits for approval" in shown


@pytest.fixture
def two(page, with_past, written_past, monkeypatch, tmp_path):
    """A page of attrition and of a second use case, which has a first release at its gate."""
    define(tmp_path, "churn", title="Customer Churn")
    monkeypatch.setattr(use_cases, "__path__", [*use_cases.__path__, str(tmp_path)])
    name = f"model_{uuid.uuid4().hex[:8]}"
    both = {**written_past.use_cases, "churn": {"model_name": name, "experiment": name}}
    configured = msgspec.structs.replace(written_past, use_cases=both)
    monkeypatch.setattr(settings, "load", lambda: configured)
    client = registry.client()
    client.create_registered_model(name)
    version = train(client, client.create_experiment(name), "churn")
    release(version, 9, "churn", note="spring campaign")
    asked = AirflowView([run("manual__9", "running", dag_id="churn_release")], frozenset({"manual__9"}))
    runs = {"attrition": RUNS, "churn": asked}
    monkeypatch.setattr(airflow_view, "read", answering(lambda use_case: runs[use_case.name]))
    monkeypatch.setattr(app, "load_all", lambda: ((load("attrition"), load("churn")), ()))
    yield page
    load.cache_clear()
    sys.modules.pop("use_cases.churn")


def test_page_has_a_section_for_each_use_case_with_its_own_history(two):
    answer = two.get("/releases")
    assert answer.status_code == 200
    _, attrition, churn = re.split(r'<article class="use-case" id="\w+"', answer.text)
    assert "Employee Attrition API" in attrition
    assert "Customer Churn" in churn
    assert "http://airflow/dags/attrition_release/runs/manual__4" in attrition
    assert "http://airflow/dags/churn_release/runs/manual__9/tasks/await_approval/required_actions" in churn
    assert "spring campaign" in churn
    assert "attrition" not in churn
    assert "churn" not in attrition.lower()
    identifiers = re.findall(r' id="([^"]+)"', answer.text)
    assert len(identifiers) == len(set(identifiers))


def test_page_leaves_out_a_use_case_whose_release_dag_the_caller_may_not_read(two, monkeypatch):
    monkeypatch.setattr(Rights, "hidden", {"attrition_release"})
    answer = two.get("/releases")
    assert answer.status_code == 200
    assert "Customer Churn" in answer.text
    assert "attrition" not in answer.text.lower()


def test_caller_without_a_login_is_refused(configured):
    answer = TestClient(app.application.__wrapped__()).get("/releases")
    assert answer.status_code == 401
    assert "Version" not in answer.text


def test_caller_who_may_read_no_release_dag_is_refused(page, with_past, monkeypatch):
    monkeypatch.setattr(Rights, "hidden", {"attrition_release"})
    answer = page.get("/releases")
    assert answer.status_code == 403
    assert "Version" not in answer.text


def test_style_and_script_are_served_from_the_page_itself(page):
    for name in ("page.css", "page.js", "icon.svg"):
        assert page.get(f"/static/{name}").status_code == 200
    assert "http" not in page.get("/static/page.css").text.replace("http://www.w3.org", "")


def test_approver_of_what_runs_is_shown_after_a_later_rejection_of_the_same_version(page, with_past):
    champion = registry.by_alias(USE_CASE, tags.CHAMPION)
    registry.set_tags(champion, {tags.APPROVAL: "rejected", tags.APPROVED_BY: ""})
    assert "Approved by hana" in text_of(page.get("/releases"))


def test_page_heads_the_candidates_comparison_with_its_own_version_after_a_rollback(page, with_past):
    name, client = registry.model_name(USE_CASE), registry.client()
    client.set_registered_model_alias(name, tags.CHAMPION, "1")
    try:
        shown = text_of(page.get("/releases"))
    finally:
        client.set_registered_model_alias(name, tags.CHAMPION, "3")
    assert "Version 3 (champion then)" in shown
    assert "compared with version 3, which was champion then. Production runs version 1 now" in shown


def test_history_is_sorted_and_outlives_airflows_runs(with_past):
    releases = registry_view.read(USE_CASE).releases
    forgotten = history.compose(load(USE_CASE), releases, AirflowView([], frozenset()), "http://airflow")
    assert [entry.when for entry in forgotten] == sorted((entry.when for entry in forgotten), reverse=True)
    assert {entry.what for entry in forgotten} == {"approved", "rejected", "ended without a decision"}
    assert {entry.run_url for entry in forgotten} == {""}


@pytest.mark.parametrize("count", [1, 30, 45])
def test_chart_keeps_every_bar_within_its_frame(count):
    drawn = chart.draw([Night(f"2026-10-{n:02}", "drifted", "", "", n, "u") for n in range(1, count + 1)])
    assert len(drawn.bars) == min(count, 30)
    for bar in drawn.bars:
        assert drawn.left <= bar.x
        assert bar.x + bar.width <= drawn.width
        assert 0 <= bar.y <= drawn.base
        assert bar.y + bar.height == pytest.approx(drawn.base, abs=0.11)
    assert drawn.bars[-1].label


def test_rollback_that_was_started_without_a_version_shows_what_it_found():
    seen = AirflowView(
        [run("manual__6", dag_id="attrition_rollback", conf={"reason": "error rate doubled"})],
        frozenset(),
        {"manual__6": airflow_view.Produced("1", "scoring@sha256:abc")},
    )
    (entry,) = history.compose(load(USE_CASE), [], seen, "http://airflow")
    assert (entry.version, entry.digest) == ("1", "sha256:abc")
