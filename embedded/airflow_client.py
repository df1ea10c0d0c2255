"""Airflow's public REST API, as far as the demo needs it."""

import time
from typing import Any
from urllib.parse import quote

import requests

from lifecycle.task_ids import UNFINISHED

Json = dict[str, Any]
_TIMEOUT = 120.0
"""Seconds for one answer: the first ones of a busy machine were seen to take 42."""
_RETRY_SECONDS = 120.0
"""For how long a request is repeated while the API server is away or busy."""
_PAGE = 100
"""Entries of a list to ask for at once; the server may give fewer."""
_BUSY = (500, 502, 503, 504)


class AirflowError(RuntimeError):
    """Raised when Airflow refuses a request or stays away; the message has its answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status of a refusal; ``None`` when Airflow stayed away."""


class Airflow:
    """A session with one API server."""

    def __init__(self, url: str, user: str, password: str, *, patience: float = _RETRY_SECONDS) -> None:
        """``patience``: seconds for which a request is repeated while the server is away or busy."""
        self.url = url
        self._user = user
        self._password = password
        self._session = requests.Session()
        self._patience = patience

    def get(self, path: str, **query: Any) -> Json:
        """``path`` follows ``/api/v2``. Repeated while the server is away."""
        return self._call("GET", path, params=query)

    def listed(self, path: str, key: str, **query: Any) -> list[Json]:
        """All entries of a list, which Airflow answers in pages, below ``key``."""
        found: list[Json] = []
        while True:
            page = self.get(path, limit=_PAGE, offset=len(found), **query)
            found += page[key]
            if not page[key] or len(found) >= page["total_entries"]:
                return found

    def post(self, path: str, body: Json) -> Json:
        return self._call("POST", path, json=body)

    def patch(self, path: str, body: Json) -> Json:
        return self._call("PATCH", path, json=body)

    def runs(self, dag_id: str, **query: Any) -> list[Json]:
        """The DAG's runs, newest first; ``query`` picks among them, for example ``state``."""
        return self.listed(f"/dags/{dag_id}/dagRuns", "dag_runs", order_by="-run_after", **query)

    def run(self, dag_id: str, run_id: str) -> Json:
        return self.get(f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}")

    def find_run(self, dag_id: str, run_id: str) -> Json | None:
        """A run, or ``None`` where there is none of this id."""
        try:
            return self.run(dag_id, run_id)
        except AirflowError as error:
            if error.status == requests.codes.not_found:
                return None
            raise

    def trigger(self, dag_id: str, run_id: str, conf: Json) -> None:
        """Start a run, unless there is one of this id already."""
        try:
            self.post(f"/dags/{dag_id}/dagRuns", {"dag_run_id": run_id, "logical_date": None, "conf": conf})
        except AirflowError:
            # A repeated request meets the run that the first one made before its answer was lost.
            if self.find_run(dag_id, run_id) is None:
                raise

    def tasks(self, dag_id: str, run_id: str) -> list[Json]:
        return self.listed(f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances", "task_instances")

    def task(self, dag_id: str, run_id: str, task_id: str) -> Json:
        return self.get(f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances/{task_id}")

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What a task returned."""
        path = f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances/{task_id}/xcomEntries/return_value"
        return self.get(path, stringify="false")["value"]

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> list[Json]:
        """A try's log, one mapping for each line, with at least ``event``.

        Airflow forgets a try that it failed before it had read of its beginning (apache/airflow#66374): as soon as
        the next one begins, the log of such a try is one line that says so.
        """
        path = f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances/{task_id}/logs/{try_number}"
        try:
            content = self.get(path, full_content="true", map_index=-1)["content"]
        except AirflowError as error:
            if error.status != requests.codes.not_found:
                raise
            return [{"event": f"Airflow kept no log of try {try_number}"}]
        return [line if isinstance(line, dict) else {"event": str(line)} for line in content]

    def question(self, dag_id: str, run_id: str, task_id: str) -> Json:
        """What a waiting task asks, and the answer where there is one."""
        return self.get(_question_path(dag_id, run_id, task_id))

    def questions(self, dag_id: str = "~", run_id: str = "~") -> list[Json]:
        """The tasks, of all DAGs and runs unless said, whose question stands and has not been answered."""
        path = f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/hitlDetails"
        found = self.listed(path, "hitl_details", response_received="false", state=UNFINISHED)
        return [question["task_instance"] for question in found]

    def asset_events(self, **made: str) -> list[Json]:
        """Updates of assets, oldest first; ``made`` says by what, for example ``source_dag_id``."""
        return self.listed("/assets/events", "asset_events", order_by="timestamp", **made)

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str, comment: str) -> None:
        """Answer a waiting task; an answer that is there already stands."""
        body = {"chosen_options": [option], "params_input": {"comment": comment}}
        try:
            self.patch(_question_path(dag_id, run_id, task_id), body)
        except AirflowError:
            if not self.question(dag_id, run_id, task_id)["response_received"]:
                raise

    def link(self, dag_id: str, run_id: str, task_id: str | None = None) -> str:
        """A page of the web interface."""
        page = f"{self.url}/dags/{dag_id}/runs/{_quoted(run_id)}"
        return f"{page}/tasks/{task_id}" if task_id else page

    def _call(self, method: str, path: str, **arguments: Any) -> Json:
        deadline = time.monotonic() + self._patience
        while True:
            fault = ""
            try:
                answer = self._request(method, f"{self.url}/api/v2{path}", **arguments)
            except requests.RequestException as error:
                fault = str(error)
            else:
                if answer.ok:
                    return dict(answer.json()) if answer.content else {}
                fault = f"{answer.status_code}: {answer.text[:500]}"
                if answer.status_code not in _BUSY:
                    raise AirflowError(f"{method} {path} was answered with {fault}", answer.status_code)
            if time.monotonic() > deadline:
                raise AirflowError(f"{method} {path} failed for {self._patience:g} s: {fault}")
            time.sleep(0.5)

    def _request(self, method: str, url: str, **arguments: Any) -> requests.Response:
        if "Authorization" not in self._session.headers:
            self._sign_in()
        answer = self._session.request(method, url, timeout=_TIMEOUT, **arguments)
        if answer.status_code == requests.codes.unauthorized:  # the token has run out
            self._sign_in()
            answer = self._session.request(method, url, timeout=_TIMEOUT, **arguments)
        return answer

    def _sign_in(self) -> None:
        body = {"username": self._user, "password": self._password}
        answer = requests.post(f"{self.url}/auth/token", json=body, timeout=_TIMEOUT)
        answer.raise_for_status()
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _question_path(dag_id: str, run_id: str, task_id: str) -> str:
    return f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances/{task_id}/-1/hitlDetails"
