"""The page Releases, over MLflow's own server; Airflow's side is given as the API answers it."""

import asyncio
import html
import json
import re
import sys
import threading
import uuid
from datetime import UTC, date, datetime, timedelta
from typing import ClassVar
from urllib.parse import parse_qs

import httpx
import msgspec
import pytest
from airflow.api_fastapi.core_api.security import get_user
from airflow.models.connection import Connection
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

import use_cases
from lifecycle import settings
from lifecycle.evidence import document as evidence
from lifecycle.evidence import links, signature
from lifecycle.hooks import registry
from lifecycle.release_page import airflow_view, app, chart, history, registry_view
from lifecycle.release_page.airflow_view import AirflowView, Run
from lifecycle.release_page.registry_view import Night
from tests.support.airflow import USE_CASE, make_settings
from tests.support.container_instances import report
from tests.support.definitions import define
from tests.support.release_page_data import RING, past, release, train
from training.impact.record import Change, Count, GroupImpact, Impact, Preview
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
            "manual__8",
            dag_id="attrition_stop",
            conf={"reason": "wrong data"},
            note="Version 1 stopped in production by rita: wrong data",
        ),
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
def written_past(mlflow_here):
    """Settings of a model with a past; the versions' run ids."""
    found = settings_of(f"model_{uuid.uuid4().hex[:8]}")
    host, port = mlflow_here.removeprefix("http://").split(":")
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
        "Trained on employees.csv (1,470 rows of the original and 30 labelled by outcomes)",
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
        "stopped",
        "Version 1 stopped in production by rita: wrong data Run",
        "drifted: 7 of 34 fields drifted",
    ):
        assert part in shown, part
    assert answer.text.count("<rect") == 30
    assert "wrong data. Version 1" not in shown, "the note of a stop has its reason"
    assert "release it" not in shown, "its release waits for an answer"
    assert re.search(r"(\d{4}-\d\d-\d\d):? \1", answer.text) is None, "a night's date once"
    assert "http://airflow/dags/attrition_release/runs/manual__4/tasks/await_approval/required_actions" in answer.text
    assert re.search(r"http://mlflow/#/experiments/\d+/runs/[0-9a-f]{32}/artifacts/plots\?", answer.text)


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
    assert 'href="http://airflow/dags/attrition_release">release it</a>' in answer.text, "the candidate's way on"


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

    @airflow.get("/api/v2/dags")
    def paused_dags(paused: bool, tags: str):
        shown = {"attrition_release": "Asset", "attrition_score": None}
        found = [{"dag_id": name, "timetable_summary": when} for name, when in shown.items()]
        return {"dags": found if (paused, tags) == (True, USE_CASE) else [], "total_entries": 2}

    found = asyncio.run(airflow_view.read(airflow, "ritas", load(USE_CASE)))
    assert found.paused == ("attrition_release",), "the other one starts by hand alone"
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
    assert "compared with version 3, champion then, and production runs version 1 now" in shown


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


# --- what the approver sees ---


def evidence_address(version, number):
    return f"/evidence/{USE_CASE}/{version.run_id}/release-{number}"


def test_what_waits_for_an_answer_comes_first_with_the_sentence_of_the_gate(page, with_past):
    answer = page.get("/releases")
    assert answer.text.index("Waits for your answer") < answer.text.index("What runs where")
    waiting = answer.text.split("Waits for your answer")[1].split("</section>")[0]
    name = settings.load().of(USE_CASE).model_name
    assert f"{name} version 4 asks to go into production" in waiting
    assert "manual__4/tasks/await_approval/required_actions" in waiting
    fourth = registry.resolve(USE_CASE, "4")
    assert f'href="http://airflow/lifecycle{evidence_address(fourth, 4)}"' in waiting


def test_deadline_of_a_waiting_release_is_shown(page, with_past):
    fourth = registry.resolve(USE_CASE, "4")
    document = evidence.read(fourth.run_id, "release-4")
    document.answer_by = "2026-11-27T05:51:12+00:00"
    evidence.store(document)
    try:
        shown = text_of(page.get("/releases"))
    finally:
        document.answer_by = ""
        evidence.store(document)
    assert "until 2026-11-27 05:51 UTC" in shown


def test_candidate_and_champion_are_compared_in_mlflow_one_link_away(page, with_past):
    (link,) = re.findall(r'href="(http://mlflow/#/compare-runs[^"]*)"', page.get("/releases").text)
    asked = parse_qs(html.unescape(link).partition("?")[2])
    challenger, champion = (registry.by_alias(USE_CASE, alias) for alias in (tags.CHALLENGER, tags.CHAMPION))
    assert json.loads(asked["runs"][0]) == [challenger.run_id, champion.run_id]
    assert asked["workflowType"] == ["machine_learning"]


def test_versions_lead_to_the_registry_and_the_model_card_to_its_file(page, with_past):
    answer = page.get("/releases")
    name = settings.load().of(USE_CASE).model_name
    for version in "1234":
        assert f'href="http://mlflow/#/models/{name}/versions/{version}?' in answer.text
    assert re.search(r"runs/[0-9a-f]{32}/artifacts/model_card.md\?", answer.text)


def test_every_link_into_mlflow_opens_its_view_for_machine_learning(page, with_past):
    """Without the parameter MLflow opens as a tool for generative AI, with traces and token usage."""
    found = re.findall(r'href="(http://mlflow[^"]*)"', page.get("/releases").text)
    assert len(found) > 5
    assert [link for link in found if not re.search(r"(\?|&amp;)workflowType=machine_learning$", link)] == []


def test_rollback_shows_version_and_person():
    seen = AirflowView(
        [run("manual__6", dag_id="attrition_rollback", triggering_user_name="rita", conf={"reason": "errors"})],
        frozenset(),
        {"manual__6": airflow_view.Produced("1", "scoring@sha256:abc")},
    )
    (entry,) = history.compose(load(USE_CASE), [], seen, "http://airflow")
    assert (entry.version, entry.digest, entry.decided_by) == ("1", "sha256:abc", "rita")


def test_rejected_challenger_is_no_candidate_any_more(page, with_past):
    fourth = registry.resolve(USE_CASE, "4")
    registry.set_tags(fourth, {tags.APPROVAL: "rejected"})
    try:
        shown = text_of(page.get("/releases"))
    finally:
        registry.client().delete_model_version_tag(fourth.name, "4", tags.APPROVAL)
    assert "Version 4 was trained last, and rejected." in shown
    assert "beside champion version" not in shown


def test_alerts_of_the_last_nights_are_named_newest_first(page, with_past):
    newest, before, *_ = registry.recent_windows(USE_CASE, 2)
    nights = [one.data.tags[tags.WINDOW] for one in (newest, before)]
    assert "No alert in these nights" in page.get("/releases").text
    try:
        for night, text in zip(nights, ("drift: Age & more", "silence: none"), strict=True):
            registry.mark_night(USE_CASE, night, tags.ALERTS, text)
        shown = text_of(mounted_page().get("/releases"))
    finally:
        for one in (newest, before):
            registry.client().delete_tag(one.info.run_id, tags.ALERTS)
    assert f"{nights[0]} drift: Age &amp; more {nights[1]} silence: none" in shown


def test_cost_of_the_last_release_and_the_last_night_is_one_line(page, with_past):
    newest, *_ = registry.recent_windows(USE_CASE, 1)
    night = newest.data.tags[tags.WINDOW]
    try:
        registry.mark_night(USE_CASE, night, tags.COST, "12 s of Databricks jobs: no price in the settings")
        shown = text_of(mounted_page().get("/releases"))
    finally:
        registry.client().delete_tag(newest.info.run_id, tags.COST)
    assert f"Night of {night}: 12 s of Databricks jobs: no price in the settings." in shown
    assert re.search(r"Cost\. Release of version \d: 90 s of builds: 0\.03 EUR\. Night", shown)


def judged_week(client, number, figures, **more):
    """The run of a verdict on a week's forecasts, as the job that judges weeks keeps it."""
    name = registry.monitoring_experiment("demand")
    found = client.get_experiment_by_name(name)
    day = date(2026, 10, 5) + timedelta(weeks=number)
    client.create_run(
        found.experiment_id if found else client.create_experiment(name),
        tags={
            tags.WINDOW: str(day), tags.VERDICT: "quiet", tags.NOTE: f"week {day}: WAPE {figures.get('WAPE', '-')}",
            tags.FIGURES: json.dumps(figures), **more,
        },
        start_time=int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000),
    )  # fmt: skip


@pytest.fixture
def demand(page, mlflow_connection, monkeypatch):
    """The page of forecasts, with settings of their own."""
    name = f"model_{uuid.uuid4().hex[:8]}"
    own = make_settings(approval_keys=RING.public, use_cases={"demand": {"model_name": name, "experiment": name}})
    monkeypatch.setattr(settings, "load", lambda: own)
    monkeypatch.setattr(app, "load_all", lambda: ((load("demand"),), ()))
    monkeypatch.setattr(airflow_view, "read", answering(lambda use_case: AirflowView([], frozenset())))
    return page


def test_weeks_of_forecasts_are_shown_with_their_errors_the_newest_first_and_at_most_eight(demand):
    for number in range(10):
        figures = {} if number == 9 else {"Week": f"week {number}", "WAPE": f"2{number}.0%", "Coverage": "80.1%"}
        judged_week(registry.client(), number, figures, **({tags.ALERTS: "forecasts: WAPE"} if number == 4 else {}))
    answer = demand.get("/releases")
    shown = text_of(answer)
    assert "Week WAPE Coverage" in shown
    assert [f"week {number}" for number in range(10) if f"week {number} 2{number}.0% 80.1%" in shown] == [
        f"week {number}" for number in range(1, 9)
    ]
    assert shown.index("28.0%") < shown.index("21.0%")
    assert answer.text.count("<rect") == 10
    assert "Fields that drifted, by week" in shown
    assert "2026-11-02 forecasts: WAPE" in shown
    assert "night" not in shown


def test_weeks_without_an_alert_are_called_weeks(demand):
    judged_week(registry.client(), 0, {"Week": "2026-10-05", "WAPE": "20.0%"})
    shown = text_of(demand.get("/releases"))
    assert "No alert in these weeks" in shown
    assert "night" not in shown


def test_page_is_filtered_by_use_case(two):
    with two:
        everything, answer, unknown = (
            two.get(f"/releases{asked}") for asked in ("", "?use_case=churn", "?use_case=nobody")
        )
    assert 'href="?use_case=churn"' in everything.text
    assert answer.text.count('<article class="use-case"') == 1
    assert "spring campaign" in answer.text
    assert 'href="?use_case=attrition"' in answer.text, "the way back to the other"
    assert unknown.status_code == 404


def test_page_is_not_filtered_to_what_the_caller_may_not_read(two, monkeypatch):
    monkeypatch.setattr(Rights, "hidden", {"attrition_release"})
    answer = two.get("/releases?use_case=attrition")
    assert answer.status_code == 404
    assert "Version" not in answer.text


FEW = Count(3, 1.0, 8.7)
IMPACT = Impact(
    source="the batch of 2026-11-02", entities="employees", rows=1470, records=1470, top_share=0.2, top=294,
    entering=FEW, leaving=FEW, change=Change(0.002, 0.001, 0.003, 0.01, 0.08, 0.3), outliers_before=FEW, outliers=FEW,
    groups=[
        GroupImpact(field="Gender", group="Female", records=588, top=100, entering=FEW, leaving=Count(0, 0.0, 3.8)),
    ],
)  # fmt: skip


def test_evidence_is_a_page_that_people_read(page, with_past):
    fourth = registry.resolve(USE_CASE, "4")
    document = evidence.read(fourth.run_id, "release-4")
    whole = msgspec.structs.replace(
        document,
        preview=Preview(challenger="4", champion="3", impact=IMPACT),
        staging_report={"checks": [{"name": "golden answers", "passed": False, "detail": "<b>0.2 off</b>"}]},
        trial_report={**report(ready=False), "where": "in a container group of <qa>"},
        drift=[evidence.Night(window="2026-11-01", verdict="2026-11-01: 2 fields drifted", confirmed="Age")],
        answer_by="2026-11-27T05:51:12+00:00",
        replaces=evidence.Running(version="3", image=document.image.reference),
    )
    digest = evidence.store(whole)
    try:
        answer = page.get(evidence_address(fourth, 4))
    finally:
        evidence.store(document)
    assert answer.status_code == 200
    shown = text_of(answer)
    for part in (
        "version 4 asks to replace version 3 in production.",
        "Known faults Python packages: no known fault in 24, advisories of 2026-11-20.",
        "Bundle signed by training (key abababababab) Image signed by builds (key cdcdcdcdcdcd)",
        "this release is rejected.",
        "Nothing has been decided yet",
        "0.861 (0.822 to 0.897)",
        "Share picked out Age: 0.380 (0.200 to 0.550)",
        "Latency in ms 7.2 at most 5 missed",
        "3 (95% 1 to 9) of the 294 in the top 20% would be others",
        "Gender: Female 588 100 3 (1 to 9) 0 (0 to 4)",
        "golden answers failed &lt;b&gt;0.2 off&lt;/b&gt;",
        "Tried in a container group of &lt;qa&gt;: failed ready in 7.2 s; golden answers: 5 answers within 1e-06 of",
        "2026-11-01 2 fields drifted Age",
        "autumn data",
        document.image.reference,
        digest,
    ):
        assert part in shown, part
    assert f"runs/{fourth.run_id}/artifacts/evidence/release-4.json" in answer.text
    assert "build_image 90 s of builds 0.000333 EUR 0.03 EUR" in text_of(answer)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert " style=" not in answer.text


@pytest.mark.parametrize(("number", "says"), [(1, "unsigned"), (2, "rejected"), (3, "approved")])
def test_evidence_page_has_the_decision_and_whether_its_signature_counts(page, with_past, number, says):
    answer = page.get(evidence_address(registry.resolve(USE_CASE, str(number)), number))
    assert f">{says}<" in answer.text
    assert (">unsigned<" in answer.text) == (number == 1)
    assert "<script>alert" not in answer.text


@pytest.mark.parametrize(
    "address",
    ["attrition/{run}/release-9", "attrition/{other}/release-1", "attrition/..%2f/x", "nobody/{run}/release-4"],
)
def test_address_of_no_evidence_is_not_found(page, with_past, address):
    run_id = registry.resolve(USE_CASE, "4").run_id
    assert page.get("/evidence/" + address.format(run=run_id, other="0" * 32)).status_code == 404


def test_evidence_of_a_use_case_that_the_caller_may_not_read_is_not_found_under_another_ones_name(two, monkeypatch):
    fourth = registry.resolve(USE_CASE, "4")
    assert two.get(evidence_address(fourth, 4)).status_code == 200
    monkeypatch.setattr(Rights, "hidden", {"attrition_release"})
    for name in ("attrition", "churn"):
        answer = two.get(f"/evidence/{name}/{fourth.run_id}/release-4")
        assert answer.status_code == 404
        assert "asks to" not in answer.text


def test_words_are_explained_one_link_away(page, with_past):
    assert 'href="glossary"' in page.get("/releases").text
    answer = page.get("/glossary")
    assert answer.status_code == 200
    for word in ("challenger, champion", "threshold", "digest", "golden answers", "window"):
        assert f">{word}</dt>" in answer.text


def test_evidence_page_is_refused_without_a_login(configured):
    answer = TestClient(app.application.__wrapped__()).get(f"/evidence/attrition/{'0' * 32}/release-1")
    assert answer.status_code == 401


def test_evidence_that_cannot_be_read_is_said(page, with_past):
    run_id = registry.by_alias(USE_CASE, tags.CHAMPION).run_id
    registry.client().log_text(run_id, '{"release": 1}', "evidence/broken.json")
    answer = page.get(f"/evidence/attrition/{run_id}/broken")
    assert answer.status_code == 503
    assert "the evidence cannot be read" in answer.text


@pytest.mark.parametrize(
    ("address", "name", "page"),
    [
        (
            "http://mlflow",
            "people model",
            "http://mlflow/#/models/people%20model/versions/7?workflowType=machine_learning",
        ),
        ("https://w.example/ml", "main.hr.people", "https://w.example/explore/data/models/main/hr/people/version/7"),
    ],
)
def test_registered_version_has_an_address_in_mlflow_and_in_unity_catalog(address, name, page):
    assert links.model_version(address, name, "7") == page
