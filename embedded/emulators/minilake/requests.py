"""Rewrite requests on their way into MiniLake, so that it understands what Databricks clients send."""

import hmac
import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from minilake.services import jobs
from minilake.services import workspace as minilake_workspace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedded.emulators.minilake import execution, page, runs, workspace

_HEALTH = "/_minilake/health"
_JOBS = "/api/2.2/jobs"
_IMPORT = "/api/2.0/workspace/import"
_WHEEL_RUNNER = "/Shared/.local/wheel_runner.py"
_TASK_FIELDS = ("spark_python_task", "notebook_task", "python_wheel_task", "sql_task")
_LEGACY_FIELDS = (*_TASK_FIELDS, "new_cluster", "existing_cluster_id", "job_cluster_key", "libraries",
                  "environment_key")  # fmt: skip


class Corrections:
    """ASGI middleware in front of MiniLake; ``token`` is asked of every request but that for its health.

    MiniLake itself asks for none, and any web page may send a form to its reset. An empty token lets all in.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})  # only notebooks, switched off, have any
        if (shown := page.of_request(scope)) is not None:
            await send({"type": "http.response.start", "status": 200, "headers": page.HEADERS})
            return await send({"type": "http.response.body", "body": shown})
        if not self._permitted(scope):
            message = {"error_code": "PERMISSION_DENIED", "message": "invalid access token: this workspace "
                       "takes the one of Airflow's connection databricks_default"}  # fmt: skip
            return await _answer(send, 403, message)
        path = _current(scope["path"])
        if not path.startswith(f"{_JOBS}/") and path != _IMPORT:
            return await self._app(scope, receive, send)
        body = await _read(receive)
        try:
            content = json.loads(body) if body else {}
        except ValueError:
            content = None
        scope = {**scope, "path": path, "raw_path": path.encode()}
        if isinstance(content, dict):
            scope, content = _moved_to_query(scope, content)
            task_run = _asked_task_run(scope)
            if task_run is not None:
                return await _answer(send, 200, task_run)
            body = json.dumps(_corrected(scope, content)).encode() if content else b""
        await self._pass_on(scope, body, receive, send)
        if scope["method"] == "POST" and isinstance(content, dict):
            _afterwards(scope["path"], content)
        return None

    def _permitted(self, scope: Scope) -> bool:
        if scope["method"] in ("GET", "HEAD") and scope["path"] == _HEALTH:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"").decode(errors="replace")
        return not self._token or hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode())

    async def _pass_on(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
        scope["headers"] = [*headers, (b"content-length", str(len(body)).encode())]
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)


def _current(path: str) -> str:
    """Earlier versions of the Jobs API are answered as the current one."""
    for version in ("/api/2.0/jobs", "/api/2.1/jobs"):
        if path.startswith(f"{version}/"):
            return _JOBS + path.removeprefix(version)
    return path


async def _read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _answer(send: Send, status: int, content: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(content, default=str).encode()})


def _moved_to_query(scope: Scope, content: dict[str, Any]) -> tuple[Scope, dict[str, Any]]:
    """The provider's deferrable hook sends a JSON body with GET; MiniLake reads the query alone."""
    if scope["method"] != "GET" or not content:
        return scope, content
    query = "&".join(part for part in (scope["query_string"].decode(), urlencode(content)) if part)
    return {**scope, "query_string": query.encode()}, {}


def _asked_task_run(scope: Scope) -> dict[str, Any] | None:
    """The answer to ``runs/get`` for the run id of a task, which MiniLake knows nothing of."""
    if scope["path"] != f"{_JOBS}/runs/get":
        return None
    asked = dict(parse_qsl(scope["query_string"].decode())).get("run_id", "")
    if not asked.isdigit() or int(asked) in jobs._state["runs"]:
        return None
    if (found := runs.find_task_run(int(asked))) is None:
        return None
    run, task = found
    host = dict(scope["headers"]).get(b"host", b"localhost").decode()
    return {
        **{key: task.get(key) for key in ("run_id", "task_key", "state", "start_time", "end_time")},
        "job_id": run["job_id"],
        "tasks": [task],
        "run_page_url": page.address(host, run["run_id"]),
    }


def _corrected(scope: Scope, content: dict[str, Any]) -> dict[str, Any]:
    """The body as MiniLake wants it."""
    path = scope["path"]
    if path == _IMPORT:
        content.update(prepared := workspace.prepare_import(content))
        return {key: value for key, value in prepared.items() if key != "_file"}
    if path.endswith(("/submit", "/create")):
        _normalise(content)
    elif path.endswith(("/reset", "/update")):
        _normalise(content.get("new_settings") or {})
    elif path.endswith("/run-now"):
        given = content.pop("job_parameters", None) or {}
        runs.JOB_PARAMETERS.set({str(key): str(value) for key, value in given.items()})
    return content


def _afterwards(path: str, content: dict[str, Any]) -> None:
    """What follows a request that changed something."""
    if path == _IMPORT:
        if content.get("_file"):
            workspace.mark_as_file(str(content.get("path", "")))
        return
    if path.endswith("/runs/cancel"):
        execution.cancel(int(content.get("run_id") or 0))
    runs.save()


def _normalise(body: dict[str, Any]) -> None:
    """Bring tasks to the one form that MiniLake runs."""
    if not body.get("tasks"):
        task = {key: body.pop(key) for key in _LEGACY_FIELDS if key in body}
        if any(key in task for key in _TASK_FIELDS):
            # Databricks names the single task of such a run after the run.
            body["tasks"] = [{"task_key": body.get("run_name") or "main", **task}]
    clusters = {item["job_cluster_key"]: item.get("new_cluster", {}) for item in body.get("job_clusters") or []}
    environments = {item["environment_key"]: item.get("spec", {}) for item in body.get("environments") or []}
    for task in body.get("tasks") or []:
        if task.get("job_cluster_key") in clusters:
            task["new_cluster"] = clusters[task["job_cluster_key"]]
        if task.get("environment_key") in environments:
            asked = environments[task["environment_key"]].get("dependencies") or []
            task["libraries"] = [*(task.get("libraries") or []), *(_library(item) for item in asked)]
        if wheel := task.pop("python_wheel_task", None):
            task["spark_python_task"] = _wheel_task(wheel)


def _library(dependency: str) -> dict[str, Any]:
    """An environment's dependency, written as a cluster's library."""
    if dependency.startswith("-r "):
        return {"requirements": dependency.removeprefix("-r ").strip()}
    if dependency.endswith(".whl"):
        return {"whl": dependency}
    return {"pypi": {"package": dependency}}


def _wheel_task(wheel: dict[str, Any]) -> dict[str, Any]:
    """A Python task that calls the wheel's entry point."""
    runner: Path = minilake_workspace._resolve(_WHEEL_RUNNER)
    runner.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(__file__).with_name("wheel_runner.py"), runner)
    named = [f"--{key}={value}" for key, value in (wheel.get("named_parameters") or {}).items()]
    parameters = [wheel["package_name"], wheel["entry_point"], *(wheel.get("parameters") or []), *named]
    return {"python_file": _WHEEL_RUNNER, "parameters": parameters}
