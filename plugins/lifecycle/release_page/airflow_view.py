"""What the page shows of Airflow, by its public REST API and with the rights of the one who looks."""

from typing import Any
from urllib.parse import quote

import msgspec
import requests
from airflow.sdk import BaseHook

from lifecycle.hooks import airflow_api
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


class AirflowView(msgspec.Struct, frozen=True):
    """Everything that the page takes from Airflow for one use case."""

    runs: list[Run]
    waiting: frozenset[str]
    """Ids of the release runs whose gate waits for an answer."""


class _Runs(msgspec.Struct):
    dag_runs: list[Run]


class _Instance(msgspec.Struct):
    dag_run_id: str


class _Question(msgspec.Struct):
    task_instance: _Instance


class _Questions(msgspec.Struct):
    hitl_details: list[_Question]


def read(token: str, use_case: UseCase) -> AirflowView:
    """Runs of its release, rollback, stop and resume, and the questions that wait.

    Raises ``requests.RequestException`` where the API does not answer or refuses, and
    ``AirflowNotFoundException`` where connection ``airflow_api``, which holds its address, is missing.
    """
    base = airflow_api.address(BaseHook.get_connection(airflow_api.CONNECTION_ID))
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {token}"

        def get(dag_id: str, rest: str, **params: Any) -> bytes | None:
            url = f"{base}/api/v2/dags/{quote(dag_id)}/dagRuns{rest}"
            answer = session.get(url, params=params, timeout=_TIMEOUT)
            if answer.status_code == 404:  # the DAG has not been parsed yet
                return None
            answer.raise_for_status()
            return answer.content

        runs = [
            run
            for dag_id in (use_case.release_dag, use_case.rollback_dag, use_case.stop_dag, use_case.resume_dag)
            if (found := get(dag_id, "", limit=RUNS, order_by="-run_after"))
            for run in msgspec.json.decode(found, type=_Runs).dag_runs
        ]
        open_questions = {"response_received": "false", "state": "awaiting_input", "limit": RUNS}
        questions = get(use_case.release_dag, "/~/hitlDetails", **open_questions)
    asked = msgspec.json.decode(questions, type=_Questions).hitl_details if questions else []
    return AirflowView(runs, frozenset(question.task_instance.dag_run_id for question in asked))
