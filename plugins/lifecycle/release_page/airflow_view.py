"""What the page shows of Airflow, by its public REST API and with the rights of the one who looks."""

import itertools
from collections.abc import Iterator
from typing import Any, TypeVar
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
    total_entries: int

    @property
    def entries(self) -> list[Run]:
        return self.dag_runs


class _Instance(msgspec.Struct):
    dag_run_id: str


class _Question(msgspec.Struct):
    task_instance: _Instance


class _Questions(msgspec.Struct):
    hitl_details: list[_Question]
    total_entries: int

    @property
    def entries(self) -> list[_Question]:
        return self.hitl_details


_Page = TypeVar("_Page", _Runs, _Questions)


def read(token: str, use_case: UseCase) -> AirflowView:
    """Runs of its release and rollback, and the questions that wait.

    Raises ``requests.RequestException`` where the API does not answer or refuses, and
    ``AirflowNotFoundException`` where connection ``airflow_api``, which holds its address, is missing.
    """
    base = airflow_api.address(BaseHook.get_connection(airflow_api.CONNECTION_ID))
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {token}"

        def pages(kind: type[_Page], dag_id: str, rest: str, **params: Any) -> Iterator[_Page]:
            """Airflow answers in pages, and may give fewer entries than it was asked for."""
            url, read = f"{base}/api/v2/dags/{quote(dag_id)}/dagRuns{rest}", 0
            while True:
                answer = session.get(url, params={**params, "limit": RUNS, "offset": read}, timeout=_TIMEOUT)
                if answer.status_code == 404:  # the DAG has not been parsed yet
                    return
                answer.raise_for_status()
                page = msgspec.json.decode(answer.content, type=kind)
                yield page
                read += len(page.entries)
                if not page.entries or read >= page.total_entries:
                    return

        runs: list[Run] = []
        for dag_id in (use_case.release_dag, use_case.rollback_dag):
            found = (run for page in pages(_Runs, dag_id, "", order_by="-run_after") for run in page.entries)
            runs += itertools.islice(found, RUNS)
        unanswered = {"response_received": "false", "state": "awaiting_input"}
        waiting = frozenset(
            question.task_instance.dag_run_id
            for page in pages(_Questions, use_case.release_dag, "/~/hitlDetails", **unanswered)
            for question in page.entries
        )
    return AirflowView(runs, waiting)
