"""A run's page: its tasks and what they have written, for a browser that knows no access token.

Its address carries a key of its own, which only the workspace can make: whoever was shown it may read this run.
"""

import hashlib
import hmac
import os
from datetime import UTC, datetime
from html import escape
from typing import Any
from urllib.parse import parse_qs

from minilake.config import settings
from minilake.services import jobs
from starlette.requests import Request
from starlette.types import Scope

_PATH = "/run/"
_TAIL = 200_000
"""Bytes of a task's output that the page shows, the last ones."""
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color-scheme:light dark}"
    "td,th{text-align:left;padding:.2rem 1.5rem .2rem 0}pre{overflow:auto;padding:1rem;border:1px solid #8886}"
)
HEADERS = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
    (b"referrer-policy", b"no-referrer"),
]


def run_page_url(request: Request, job_id: int | None, run_id: int) -> str:
    """Where the page of a run is; takes the place of MiniLake's own address, which opens an editor of queries."""
    return address(request.headers.get("host", "localhost"), run_id)


def address(host: str, run_id: int) -> str:
    """The page of a run. ``host``: name and port by which the workspace was asked; a browser may know it by others
    (``MINILAKE_PAGES``)."""
    return f"http://{os.environ.get('MINILAKE_PAGES') or host}{_PATH}{run_id}?key={_key(run_id)}"


def _key(run_id: int) -> str:
    token = os.environ.get("MINILAKE_TOKEN", "").encode()
    return hmac.new(token, f"page of run {run_id}".encode(), hashlib.sha256).hexdigest()[:32]


def of_request(scope: Scope) -> bytes | None:
    """The page that is asked for; ``None`` where no page is, or with a key that is not this run's."""
    number = str(scope["path"]).removeprefix(_PATH)
    if scope["method"] != "GET" or not str(scope["path"]).startswith(_PATH) or not number.isdecimal():
        return None
    given = parse_qs(scope["query_string"].decode()).get("key", [""])[0]
    run = jobs._state["runs"].get(int(number))
    if run is None or not hmac.compare_digest(given.encode(), _key(int(number)).encode()):
        return None
    return _render(int(number), run).encode()


def _render(run_id: int, run: dict[str, Any]) -> str:
    running = str(run["state"]["life_cycle_state"]).rpartition(".")[2] in ("PENDING", "RUNNING", "TERMINATING")
    tasks = "".join(
        f"<tr><td>{escape(task['task_key'])}</td><td>{escape(_state(task))}</td><td>{_seconds(task)}</td></tr>"
        for task in run.get("tasks") or []
    )
    logs = sorted((settings.data_dir / "runs" / str(run_id)).glob("*.log"), key=lambda file: file.stat().st_ctime)
    written = "".join(f"<h2>Output of task {number}</h2><pre>{_tail(log)}</pre>" for number, log in enumerate(logs, 1))
    again = '<meta http-equiv="refresh" content="5">' if running else ""
    name = escape(str(run.get("run_name") or f"run {run_id}"))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{again}<title>{name}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{name}</h1><p>Run {run_id} of the embedded workspace: "
        f"{escape(_state(run))}</p><table><tr><th>Task</th><th>State</th><th>Seconds</th></tr>{tasks}</table>"
        f"{written}</body></html>"
    )


def _state(item: dict[str, Any]) -> str:
    state = item["state"]
    # MiniLake keeps members of an enumeration there, or their names.
    said = str(state.get("result_state") or state["life_cycle_state"]).rpartition(".")[2].lower()
    return f"{said}: {state['state_message']}" if state.get("state_message") else said


def _seconds(task: dict[str, Any]) -> str:
    if not task.get("start_time") or task["state"]["life_cycle_state"] == "PENDING":
        return ""
    end = task.get("end_time") or datetime.now(UTC).timestamp() * 1000
    return f"{(end - task['start_time']) / 1000:.1f}"


def _tail(log: Any) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        return escape(file.read().decode(errors="replace"))
