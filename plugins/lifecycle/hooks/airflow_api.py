"""Airflow's public REST API, for what a task cannot do from inside: the note of its run, what it asked, other runs.

Connection ``airflow_api`` (type http): host, port and either login with password, which is exchanged for
a token, or a password alone, which is used as the bearer token.
"""

import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import requests
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException

from lifecycle.hooks import connections

log = logging.getLogger(__name__)

Json = dict[str, Any]
CONNECTION_ID = "airflow_api"
NOTE_LIMIT = 1000
"""Characters that Airflow keeps of a run's note."""
_TIMEOUT = 20
_PAGE = 100


def _session(connection: Any) -> tuple[requests.Session, str]:
    base = connections.address(connection)
    session = requests.Session()
    token = connection.password
    if connection.login:
        answer = session.post(
            f"{base}/auth/token",
            json={"username": connection.login, "password": connection.password},
            timeout=_TIMEOUT,
        )
        answer.raise_for_status()
        token = answer.json()["access_token"]
    session.headers["Authorization"] = f"Bearer {token}"
    return session, base


def tell(context: Any, text: str) -> None:
    """Say it in the note of a task's run, which the list of runs shows, and in the task's log."""
    log.info(text)
    set_run_note(context["dag_run"].dag_id, context["dag_run"].run_id, text)


def set_run_note(dag_id: str, run_id: str, note: str) -> None:
    """Show ``note`` on the DAG run's page.

    A note is a courtesy: a failure to set it is logged, not raised.
    """
    try:
        session, base = _session(BaseHook.get_connection(CONNECTION_ID))
        answer = session.patch(
            f"{base}/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}",
            json={"note": note[:NOTE_LIMIT]},
            timeout=_TIMEOUT,
        )
        answer.raise_for_status()
    except (AirflowException, OSError, KeyError, TypeError, ValueError) as error:
        # The last three of an answer that is not the API's, such as the page of a proxy.
        log.warning("the note of run %s could not be set (connection %s): %s", run_id, CONNECTION_ID, error)


def dag_run(dag_id: str, run_id: str) -> Json | None:
    """A run of any DAG (``run_type``, ``triggering_user_name``, ``conf``...); ``None`` where there is no such run."""
    session, base = _session(BaseHook.get_connection(CONNECTION_ID))
    answer = session.get(f"{base}/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}", timeout=_TIMEOUT)
    if answer.status_code == requests.codes.not_found:
        return None
    answer.raise_for_status()
    found: Json = answer.json()
    return found


def asset_events(source_dag_id: str) -> Iterator[Json]:
    """The asset events that a DAG's tasks made, newest first."""
    session, base = _session(BaseHook.get_connection(CONNECTION_ID))
    query = f"source_dag_id={quote(source_dag_id)}&order_by=-timestamp"
    return _listed(session, f"{base}/api/v2/assets/events?{query}", "asset_events")


def tries(dag_id: str, run_id: str) -> list[Json]:
    """Every try of every task of a run (``task_id``, ``operator``, ``duration`` in seconds...), also cleared ones.

    From inside, a worker learns of the last try alone. Raises ``requests.RequestException`` where the API does not
    answer, or refuses.
    """
    session, base = _session(BaseHook.get_connection(CONNECTION_ID))
    path = f"{base}/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}/taskInstances"
    found: list[Json] = []
    for last in _listed(session, f"{path}?limit={_PAGE}", "task_instances"):
        tried = f"{path}/{last['task_id']}/{last['map_index']}/tries"
        found += _read(session, tried)["task_instances"] if last["try_number"] > 1 else [last]
    return found


def _listed(session: requests.Session, url: str, key: str) -> Iterator[Json]:
    """The entries of a list, which Airflow answers in pages, below ``key``; read as far as they are asked for."""
    read = 0
    while True:
        page = _read(session, f"{url}&offset={read}")
        yield from page[key]
        read += len(page[key])
        if not page[key] or read >= page["total_entries"]:
            return


def _read(session: requests.Session, url: str) -> Json:
    answer = session.get(url, timeout=_TIMEOUT)
    answer.raise_for_status()
    found: Json = answer.json()
    return found


def question(dag_id: str, run_id: str, task_id: str, map_index: int) -> tuple[Json, list[Json]] | None:
    """Airflow's record of what a task asked a person, with the answer where there is one, and the task's tries.

    ``None`` where nothing was asked. Only a triggerer may read the record from inside; a worker may not.
    Raises ``requests.RequestException`` where the API does not answer, or refuses.
    """
    session, base = _session(BaseHook.get_connection(CONNECTION_ID))
    path = f"{base}/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}/{map_index}"
    record = session.get(f"{path}/hitlDetails", timeout=_TIMEOUT)
    if record.status_code == requests.codes.not_found:
        return None
    record.raise_for_status()
    return record.json(), _read(session, f"{path}/tries")["task_instances"]
