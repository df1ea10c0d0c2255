"""What the page reads of Airflow, from an API that answers in pages."""

import asyncio
from typing import Annotated

import pytest
from airflow.utils.state import State, TaskInstanceState
from fastapi import FastAPI, HTTPException, Query

from lifecycle.release_page import airflow_view
from lifecycle.release_page.airflow_view import Produced
from lifecycle.task_ids import UNFINISHED
from tests.support.airflow import USE_CASE
from training.use_case import load

FOUND = load(USE_CASE)
RUNS, QUESTIONS, EVENTS = "dag_runs", "hitl_details", "asset_events"


@pytest.fixture
def entries():
    """What Airflow has, by kind; runs and questions are those of the release DAG."""
    return {RUNS: [], QUESTIONS: [], EVENTS: []}


@pytest.fixture
def read(entries):
    """Read from an Airflow that gives three entries a page, whatever is asked for."""
    airflow = FastAPI()

    def page(kind, offset, dag_id=FOUND.release_dag):
        if dag_id != FOUND.release_dag:
            raise HTTPException(404)
        return {kind: entries[kind][offset : offset + 3], "total_entries": len(entries[kind])}

    @airflow.get("/api/v2/dags/{dag_id}/dagRuns")
    def runs(dag_id: str, offset: int):
        return page(RUNS, offset, dag_id)

    @airflow.get("/api/v2/dags/{dag_id}/dagRuns/~/hitlDetails")
    def questions(dag_id: str, offset: int, state: Annotated[list[str], Query()]):
        entries[QUESTIONS] = [one for one in entries[QUESTIONS] if one["task_instance"]["state"] in state]
        return page(QUESTIONS, offset, dag_id)

    @airflow.get("/api/v2/assets/events")
    def events(source_dag_id: str, offset: int):
        if entries[EVENTS] is None:
            raise HTTPException(403)
        assert source_dag_id == FOUND.rollback_dag
        return page(EVENTS, offset)

    return lambda: asyncio.run(airflow_view.read(airflow, "token", FOUND))


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


def question(run_id, state):
    return {"task_instance": {"dag_run_id": run_id, "state": state}}


@pytest.mark.parametrize(("count", "shown"), [(0, 0), (4, 4), (80, airflow_view.RUNS)])
def test_newest_runs_are_read_however_few_a_page_holds(entries, read, count, shown):
    entries[RUNS] = runs(count)
    assert [run.dag_run_id for run in read().runs] == [f"r{number}" for number in range(shown)]


def test_question_on_the_last_page_is_seen(entries, read):
    entries[QUESTIONS] = [question(f"r{number}", "awaiting_input") for number in range(7)]
    assert read().waiting == {f"r{number}" for number in range(7)}


def test_question_stands_until_its_task_has_ended(entries, read):
    """It leaves ``awaiting_input`` to look whether it was answered: the page said "on its way to the gate" then."""
    entries[QUESTIONS] = [question(str(state), str(state)) for state in TaskInstanceState]
    unfinished = {str(state) for state in State.unfinished if state}
    assert read().waiting == unfinished
    assert set(UNFINISHED) == unfinished | {"none"}


def test_what_rollbacks_brought_into_production_is_read_from_their_events(entries, read):
    entries[EVENTS] = [
        {"source_run_id": f"r{number}", "extra": {"version": str(number), "image": f"scoring@sha256:{number}"}}
        for number in range(4)
    ]
    found = read().produced["r3"]
    assert (found, found.digest) == (Produced("3", "scoring@sha256:3"), "sha256:3")


def test_reader_who_may_not_see_assets_sees_the_rest(entries, read):
    entries[RUNS], entries[EVENTS] = runs(1), None
    view = read()
    assert (len(view.runs), view.produced) == (1, {})
