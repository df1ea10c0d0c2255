"""What the page reads of Airflow, from an API that answers in pages."""

import json
from urllib.parse import urlsplit

import pytest
import requests
from airflow.models.connection import Connection

from lifecycle.release_page import airflow_view
from tests.support.airflow import USE_CASE
from training.use_case import load

FOUND = load(USE_CASE)


@pytest.fixture
def api(connections, monkeypatch):
    """Three entries a page, whatever is asked for; ``entries`` holds them by path."""
    connections["airflow_api"] = Connection(conn_id="airflow_api", conn_type="http", host="airflow")
    entries = {}

    def get(self, url, params, timeout):
        path = urlsplit(url).path
        kind = "hitl_details" if path.endswith("hitlDetails") else "dag_runs"
        listed = entries.get(path, [])
        page = listed[params["offset"] : params["offset"] + 3]
        answer = requests.Response()
        answer.status_code = 200 if path in entries else 404
        answer._content = json.dumps({kind: page, "total_entries": len(listed)}).encode()
        return answer

    monkeypatch.setattr(requests.Session, "get", get)
    return entries


def runs(count):
    return [
        {
            "dag_id": FOUND.release_dag,
            "dag_run_id": f"r{number}",
            "state": "success",
            "run_after": "2026-11-21T09:00:00Z",
        }
        for number in range(count)
    ]


@pytest.mark.parametrize(("count", "shown"), [(0, 0), (4, 4), (80, airflow_view.RUNS)])
def test_newest_runs_are_read_however_few_a_page_holds(api, count, shown):
    api[f"/api/v2/dags/{FOUND.release_dag}/dagRuns"] = runs(count)
    view = airflow_view.read("token", FOUND)
    assert [run.dag_run_id for run in view.runs] == [f"r{number}" for number in range(shown)]


def test_question_on_the_last_page_is_seen(api):
    api[f"/api/v2/dags/{FOUND.release_dag}/dagRuns/~/hitlDetails"] = [
        {"task_instance": {"dag_run_id": f"r{number}"}} for number in range(7)
    ]
    assert airflow_view.read("token", FOUND).waiting == {f"r{number}" for number in range(7)}
