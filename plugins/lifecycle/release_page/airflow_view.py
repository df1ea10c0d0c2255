"""What the page shows of Airflow, by its public REST API and with the rights of the one who looks."""

from typing import Any
from urllib.parse import quote

import msgspec
import requests
from airflow.sdk import BaseHook

from lifecycle.hooks import airflow_api, connections
from training.use_case import UseCase

RUNS = 50
"""Newest runs of each DAG that are read."""
_TIMEOUT = 5


class Run(msgspec.Struct, frozen=True):
    """A DAG run, as the API answers it."""

    dag_id: str
    dag_run_id: str
    state: str
    run_after: str
    end_date: str | None = None
    triggering_user_name: str | None = None
    conf: dict[str, Any] | None = None
    note: str | None = None


class Produced(msgspec.Struct, frozen=True):
    """The version and digest that a run brought into production."""

    version: str = ""
    digest: str = ""


class AirflowView(msgspec.Struct, frozen=True):
    """Everything that the page takes from Airflow for one use case."""

    runs: list[Run]
    waiting: frozenset[str]
    """Ids of the release runs whose gate waits for an answer."""
    produced: dict[str, Produced] = {}
    """By run: what it brought into production."""


class _Runs(msgspec.Struct):
    dag_runs: list[Run]


class _Event(msgspec.Struct):
    source_run_id: str | None = None
    extra: Produced = Produced()


class _Events(msgspec.Struct):
    asset_events: list[_Event]


class _Instance(msgspec.Struct):
    dag_run_id: str


class _Question(msgspec.Struct):
    task_instance: _Instance


class _Questions(msgspec.Struct):
    hitl_details: list[_Question]


def read(token: str, use_case: UseCase) -> AirflowView:
    """Runs of its release and rollback, and the questions that wait.

    Raises ``requests.RequestException`` where the API does not answer or refuses, and
    ``AirflowNotFoundException`` or ``AddressError`` where connection ``airflow_api`` is missing or names no address.
    """
    base = connections.address(BaseHook.get_connection(airflow_api.CONNECTION_ID))
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {token}"

        def get(dag_id: str, rest: str, **params: Any) -> bytes | None:
            return ask(f"dags/{quote(dag_id)}/dagRuns{rest}", {404}, **params)  # 404: the DAG has not been parsed yet

        def ask(path: str, nothing: set[int], **params: Any) -> bytes | None:
            answer = session.get(f"{base}/api/v2/{path}", params=params, timeout=_TIMEOUT)
            if answer.status_code in nothing:
                return None
            answer.raise_for_status()
            return answer.content

        runs = [
            run
            for dag_id in (use_case.release_dag, use_case.rollback_dag)
            if (found := get(dag_id, "", limit=RUNS, order_by="-run_after"))
            for run in msgspec.json.decode(found, type=_Runs).dag_runs
        ]
        open_questions = {"response_received": "false", "state": "awaiting_input", "limit": RUNS}
        questions = get(use_case.release_dag, "/~/hitlDetails", **open_questions)
        # Who may not read assets sees the page without what a rollback found out for itself.
        of_rollbacks = {"source_dag_id": use_case.rollback_dag, "limit": RUNS, "order_by": "-timestamp"}
        events = ask("assets/events", {403, 404}, **of_rollbacks)
    brought = msgspec.json.decode(events, type=_Events).asset_events if events else []
    asked = msgspec.json.decode(questions, type=_Questions).hitl_details if questions else []
    waiting = frozenset(question.task_instance.dag_run_id for question in asked)
    return AirflowView(runs, waiting, {event.source_run_id: event.extra for event in brought if event.source_run_id})
