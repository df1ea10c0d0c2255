"""The demo's client of Airflow's API reads lists to their end."""

import pytest

from embedded.airflow_client import Airflow, AirflowError
from lifecycle.task_ids import UNFINISHED


@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_every_page_of_a_list_is_read_however_few_entries_the_server_gives(monkeypatch, count):
    asked = []

    def get(self, path, limit, offset, **query):
        asked.append((path, query))
        return {"dag_runs": list(range(count))[offset : offset + 2], "total_entries": count}

    monkeypatch.setattr(Airflow, "get", get)
    found = Airflow("http://airflow", "user", "password").runs("dag", state=("running", "queued"))
    assert found == list(range(count))
    assert {path for path, _ in asked} == {"/dags/dag/dagRuns"}
    assert all(query == {"order_by": "-run_after", "state": ("running", "queued")} for _, query in asked)
    assert len(asked) == max(1, -(-count // 2))


def test_questions_are_those_that_stand_unanswered(monkeypatch):
    asked = []

    def get(self, path, **query):
        asked.append((path, query["response_received"], query["state"]))
        return {"hitl_details": [{"task_instance": {"task_id": "gate"}}], "total_entries": 1}

    monkeypatch.setattr(Airflow, "get", get)
    airflow = Airflow("http://airflow", "user", "password")
    assert airflow.questions() == airflow.questions("dag", "a run") == [{"task_id": "gate"}]
    places = ["/dags/~/dagRuns/~/hitlDetails", "/dags/dag/dagRuns/a%20run/hitlDetails"]
    assert asked == [(place, "false", UNFINISHED) for place in places]


def test_asset_events_are_asked_for_oldest_first_by_what_made_them(monkeypatch):
    asked = []

    def get(self, path, **query):
        asked.append((path, query["order_by"], query["source_dag_id"]))
        return {"asset_events": [{"id": 1}], "total_entries": 1}

    monkeypatch.setattr(Airflow, "get", get)
    assert Airflow("http://airflow", "user", "password").asset_events(source_dag_id="dag") == [{"id": 1}]
    assert asked == [("/assets/events", "timestamp", "dag")]


def test_log_of_a_try_that_airflow_forgot_says_so_and_any_other_fault_is_raised(monkeypatch):
    """Airflow writes no history of a try that it failed while it was queued (CI of 2026-11-27)."""
    status = 404

    def get(self, path, **query):
        raise AirflowError(f"GET {path} was answered with {status}", status)

    monkeypatch.setattr(Airflow, "get", get)
    airflow = Airflow("http://airflow", "user", "password")
    assert airflow.log("dag", "run", "gate", 1) == [{"event": "Airflow kept no log of try 1"}]
    status = 403
    with pytest.raises(AirflowError, match="answered with 403"):
        airflow.log("dag", "run", "gate", 1)
