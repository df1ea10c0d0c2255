"""Airflow's public API as far as a smoke run needs it, over HTTP: runs end at once, a release waits at its gate."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

BODY = """**A sentence.**

| Metric | Challenger | Plain |
| --- | --- | --- |
| ROC AUC | 0.850 (0.8 to 0.9) | 0.8 |

More."""
REPORT = {"passed": True, "checks": [{"name": "golden answers", "passed": True}]}
TASKS = {
    "train": {"train_and_register": None, "announce_model_version": {"version": "1"}},
    "release": {
        "gather_evidence": {"body": BODY, "sentence": "A sentence."},
        "await_approval": None,
        "verify_staging": REPORT,
        "verify_production": REPORT,
        "promote": None,
    },
    "score": {"announce_scores": {"rows": 10, "rejected": 1}},
    "rollback": {"verify_production": REPORT},
    "retrain_nightly": {"land_logs": {"lines": 4, "bytes": 900}, "decide": None},
}
"""What the tasks of each DAG return."""


class AirflowDouble:
    """One Airflow; ``failing`` names DAGs whose runs fail, ``other`` by a part of their ids what runs' tasks return."""

    def __init__(self, failing: tuple[str, ...] = ()) -> None:
        self.failing = failing
        self.runs: dict[tuple[str, str], dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.answers: list[str] = []
        self.other: dict[str, dict[str, Any]] = {}
        self.url = ""

    def trigger(self, dag_id: str, run_id: str) -> None:
        name = dag_id.removeprefix("attrition_")
        state = "failed" if name in self.failing else "running" if name == "release" else "success"
        self.runs[dag_id, run_id] = {"dag_id": dag_id, "dag_run_id": run_id, "state": state, "note": ""}
        if name == "train" and state == "success":
            release = {"dag_id": "attrition_release", "run_id": f"asset__{run_id}"}
            self.events.append({"source_dag_id": dag_id, "source_run_id": run_id, "created_dagruns": [release]})
            self.trigger(**release)

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        run = self.runs[dag_id, run_id]
        shared = {"dag_id": dag_id, "dag_run_id": run_id, "state": run["state"], "try_number": 1, "map_index": -1}
        found = TASKS[dag_id.removeprefix("attrition_")]
        return [{**shared, "task_id": task, "duration": 1.5, "end_date": "2026"} for task in found]

    def ask(self, path: str, query: dict[str, list[str]]) -> Any:
        """The answer to a GET; ``None`` for what is not there."""
        if path == "/monitor/health":
            return {"scheduler": {"status": "healthy"}}
        if path == "/assets/events":
            return _listed("asset_events", [one for one in self.events if _fits(one, query)])
        if found := re.fullmatch(r"/dags/(\w+)/dagRuns", path):
            return _listed(
                "dag_runs", [run for (dag_id, _), run in self.runs.items() if dag_id == found[1] and _fits(run, query)]
            )
        found = re.fullmatch(r"/dags/(\w+)/dagRuns/([^/]+)(/.*)?", path)
        if not found or (found[1], unquote(found[2])) not in self.runs:
            return None
        return self.about(found[1], unquote(found[2]), found[3] or "")

    def about(self, dag_id: str, run_id: str, rest: str) -> Any:
        run = self.runs[dag_id, run_id]
        if not rest:
            return run
        if rest == "/hitlDetails":
            waits = dag_id.endswith("_release") and run["state"] == "running"
            asked = [{"task_instance": {"task_id": "await_approval"}}] if waits else []
            return _listed("hitl_details", asked)
        if rest == "/taskInstances":
            return _listed("task_instances", self.tasks(dag_id, run_id))
        task_id = rest.split("/")[2]
        if rest.endswith("/return_value"):
            planted = (values[task_id] for text, values in self.other.items() if text in run_id and task_id in values)
            return {"value": next(planted, TASKS[dag_id.removeprefix("attrition_")][task_id])}
        if "/logs/" in rest:
            return {"content": [{"event": "DataError: the table has no rows"}]}
        return next(task for task in self.tasks(dag_id, run_id) if task["task_id"] == task_id)

    def tell(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """The answer to a POST or PATCH."""
        if path.endswith("/dagRuns"):
            key = (path.split("/")[2], body["dag_run_id"])
            if key in self.runs:
                return 409, {"detail": "there is such a run"}
            self.trigger(*key)
            return 200, self.runs[key]
        if path.endswith("/hitlDetails"):
            _, _, dag_id, _, run_id, *_ = path.split("/")
            self.answers.append(body["chosen_options"][0])
            self.runs[dag_id, unquote(run_id)]["state"] = "success"
        return 200, {}


def _listed(key: str, found: list[Any]) -> dict[str, Any]:
    return {key: found, "total_entries": len(found)}


def _fits(entry: dict[str, Any], query: dict[str, list[str]]) -> bool:
    return all(entry[name] == values[0] for name, values in query.items() if name in entry)


@contextmanager
def serving(double: AirflowDouble) -> Iterator[AirflowDouble]:
    """The double at an address of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: int, content: Any) -> None:
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            found = double.ask(parts.path.removeprefix("/api/v2"), parse_qs(parts.query))
            self._answer(404 if found is None else 200, found)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/auth/token":
                return self._answer(201, {"access_token": body["username"]})
            return self._answer(*double.tell(self.path.removeprefix("/api/v2"), body))

        do_PATCH = do_POST

        def log_message(self, *_: Any) -> None:
            """Nothing: the test's output is its own."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    double.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()
