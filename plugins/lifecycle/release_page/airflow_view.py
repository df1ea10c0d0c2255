"""What the page shows of Airflow, by its public REST API and with the rights of the one who looks.

The page is part of the API server and asks the very application that it is part of, in this process. So the
reader's token goes nowhere: no connection, which others may edit, says where to.
"""

import asyncio
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from fastapi import FastAPI

from lifecycle.task_ids import UNFINISHED
from serving.scoring.described import described
from training.use_case import UseCase

RUNS = 50
_TIMEOUT = 10


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
    """The version and image that a run brought into production."""

    version: str = ""
    image: str = ""

    @property
    def digest(self) -> str:
        return self.image.rpartition("@")[2]


class AirflowView(msgspec.Struct, frozen=True):
    """Everything that the page takes from Airflow for one use case."""

    runs: list[Run]
    waiting: frozenset[str]
    """Ids of the release runs whose gate waits for an answer."""
    produced: dict[str, Produced] = {}
    """By run: what it brought into production."""
    paused: tuple[str, ...] = ()
    """Ids of its DAGs that would start by themselves, but are paused."""


@described
class _Runs(msgspec.Struct):
    entries: list[Run] = msgspec.field(name="dag_runs")
    total_entries: int


class _Event(msgspec.Struct):
    source_run_id: str | None = None
    extra: Produced = Produced()


@described
class _Events(msgspec.Struct):
    entries: list[_Event] = msgspec.field(name="asset_events")
    total_entries: int


class _Instance(msgspec.Struct):
    dag_run_id: str


class _Question(msgspec.Struct):
    task_instance: _Instance


@described
class _Questions(msgspec.Struct):
    entries: list[_Question] = msgspec.field(name="hitl_details")
    total_entries: int


class _Dag(msgspec.Struct):
    dag_id: str
    timetable_summary: str | None = None


@described
class _Dags(msgspec.Struct):
    entries: list[_Dag] = msgspec.field(name="dags")
    total_entries: int


_Page = TypeVar("_Page", _Runs, _Events, _Questions, _Dags)


async def read(airflow: FastAPI, token: str, use_case: UseCase) -> AirflowView:
    """Runs of its release, rollback, stop and resume, and the questions that wait.

    ``airflow`` is the API server's application. Raises ``httpx.HTTPError`` where the API refuses,
    ``TimeoutError`` where it does not answer.
    """
    transport = httpx.ASGITransport(airflow, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {token}"}
    base = f"http://airflow{airflow.root_path}/api/v2"
    async with httpx.AsyncClient(transport=transport, headers=headers) as client, asyncio.timeout(_TIMEOUT):

        async def pages(kind: type[_Page], path: str, nothing: set[int], most: int | None, **params: Any) -> list[Any]:
            """The first ``most`` entries, or all: Airflow answers in pages, and may give fewer than it is asked for."""
            found: list[Any] = []
            while most is None or len(found) < most:
                answer = await client.get(f"{base}/{path}", params={**params, "limit": RUNS, "offset": len(found)})
                if answer.status_code in nothing:
                    return found
                answer.raise_for_status()
                page = msgspec.json.decode(answer.content, type=kind)
                found += page.entries
                if not page.entries or len(found) >= page.total_entries:
                    break
            return found[:most]

        # 404: the DAG has not been parsed yet.
        runs = [
            run
            for dag_id in (use_case.release_dag, use_case.rollback_dag, use_case.stop_dag, use_case.resume_dag)
            for run in await pages(_Runs, f"dags/{quote(dag_id)}/dagRuns", {404}, RUNS, order_by="-run_after")
        ]
        unanswered = {"response_received": "false", "state": UNFINISHED}
        questions = f"dags/{quote(use_case.release_dag)}/dagRuns/~/hitlDetails"
        asked: list[_Question] = await pages(_Questions, questions, {404}, None, **unanswered)
        # Who may not read assets sees the page without what a rollback found out for itself.
        of_rollbacks = {"source_dag_id": use_case.rollback_dag, "order_by": "-timestamp"}
        events: list[_Event] = await pages(_Events, "assets/events", {403, 404}, RUNS, **of_rollbacks)
        dags: list[_Dag] = await pages(_Dags, "dags", {403, 404}, None, paused="true", tags=use_case.name)
    waiting = frozenset(question.task_instance.dag_run_id for question in asked)
    produced = {event.source_run_id: event.extra for event in events if event.source_run_id}
    return AirflowView(runs, waiting, produced, tuple(dag.dag_id for dag in dags if dag.timetable_summary))
