"""What the page shows of Airflow, by its public REST API and with the rights of the one who looks.

The page is part of the API server and asks the very application that it is part of, in this process. So the
reader's token goes nowhere: no connection, which others may edit, says where to.
"""

import asyncio
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
from fastapi import FastAPI

from training.use_case import UseCase

RUNS = 50
"""Newest runs of each DAG that are read."""
_TIMEOUT = 10
"""Seconds for all that is asked of one use case."""


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


async def read(airflow: FastAPI, token: str, use_case: UseCase) -> AirflowView:
    """Runs of its release and rollback, and the questions that wait; ``airflow`` is the API server's application.

    Raises ``httpx.HTTPError`` where the API refuses, ``TimeoutError`` where it does not answer.
    """
    transport = httpx.ASGITransport(airflow, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {token}"}
    base = f"http://airflow{airflow.root_path}/api/v2/dags"
    async with httpx.AsyncClient(transport=transport, headers=headers) as client, asyncio.timeout(_TIMEOUT):

        async def get(dag_id: str, rest: str, **params: Any) -> bytes | None:
            answer = await client.get(f"{base}/{quote(dag_id)}/dagRuns{rest}", params=params)
            if answer.status_code == httpx.codes.NOT_FOUND:  # the DAG has not been parsed yet
                return None
            answer.raise_for_status()
            return answer.content

        runs = [
            run
            for dag_id in (use_case.release_dag, use_case.rollback_dag)
            if (found := await get(dag_id, "", limit=RUNS, order_by="-run_after"))
            for run in msgspec.json.decode(found, type=_Runs).dag_runs
        ]
        open_questions = {"response_received": "false", "state": "awaiting_input", "limit": RUNS}
        questions = await get(use_case.release_dag, "/~/hitlDetails", **open_questions)
    asked = msgspec.json.decode(questions, type=_Questions).hitl_details if questions else []
    return AirflowView(runs, frozenset(question.task_instance.dag_run_id for question in asked))
