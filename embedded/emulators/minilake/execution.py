"""Run a task's script as a process group of its own: killable, with its traceback, and away from the clone."""

import contextvars
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

import psutil
from minilake import docker_executor
from minilake.config import settings

from embedded.processes import alive, signal_group

RUN_ID: contextvars.ContextVar[int] = contextvars.ContextVar("run_id")
"""The job run in whose context a task executes."""
EXTRA_PATH: contextvars.ContextVar[str] = contextvars.ContextVar("extra_path", default="")
"""Folder with the libraries that the task asked for."""

MARKER = "MINILAKE_JOB_OF"
"""Set for every job process, to the workspace's data folder."""
_NO_TIMEOUT = 7 * 24 * 3600
"""Databricks runs a task without ``timeout_seconds`` for as long as it takes; MiniLake ends it after 600 s."""
_LOG_LIMIT = 5_000_000
"""Databricks keeps the last 5 MB of a task's output."""
_ERROR_LIMIT = 4000
_GRACE = 3.0
_TRACEBACK = "Traceback (most recent call last)"
# Of this server and not of its jobs: a job that runs only because it finds the clone on its path, or that
# holds the workspace's token, would not run on Databricks.
_PRIVATE = ("PYTHONPATH", "MINILAKE_", "AIRFLOW_")

_processes: dict[int, list[subprocess.Popen[bytes]]] = defaultdict(list)
_guard = threading.Lock()


def install() -> None:
    """Replace MiniLake's way to run scripts."""
    docker_executor._run_subprocess_sync = run_script
    docker_executor.DEFAULT_TIMEOUT_SECONDS = _NO_TIMEOUT


def run_script(
    script: str, arguments: list[str], timeout: int, env: dict[str, str] | None = None
) -> docker_executor.ExecutionResult:
    """Run to the end, to the time limit (seconds) or to the run's cancellation; blocks.

    The working directory is the run's own scratch folder. What the script leaves running is ended.
    """
    run_id = RUN_ID.get()
    folder = settings.data_dir / "runs" / str(run_id)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{Path(script).stem}-{time.time_ns()}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", script, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=_environment(env or {}),
            start_new_session=True,
        )
    with _guard:
        _processes[run_id].append(process)
    if _cancelled(run_id):  # asked for between the start of the task and this line
        cancel(run_id)
    timed_out = False
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        timed_out = True
    _end(process)
    logs = _tail(log)
    failed = bool(process.returncode) and not timed_out
    return docker_executor.ExecutionResult(
        exit_code=-1 if timed_out else process.returncode,
        logs=logs,
        timed_out=timed_out,
        error=_error(logs) if failed else None,
    )


def cancel(run_id: int) -> None:
    """End what a run has running. Returns at once; stubborn processes get SIGKILL after a grace period."""
    with _guard:
        running = [process for process in _processes[run_id] if process.poll() is None]
    for process in running:
        threading.Thread(target=_end, args=(process,), daemon=True).start()


def end_all() -> None:
    """End everything that runs, because the workspace stops."""
    for run_id in list(_processes):
        cancel(run_id)
    deadline = time.monotonic() + _GRACE + 1
    while time.monotonic() < deadline and any(
        process.poll() is None for running in _processes.values() for process in running
    ):
        time.sleep(0.05)


def end_leftovers() -> int:
    """Kill job processes of an earlier server of this workspace that was killed itself; returns how many."""
    mine = str(settings.data_dir.resolve())
    count = 0
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARKER) == mine:
                process.kill()
                count += 1
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return count


def _environment(asked: dict[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_PRIVATE)}
    path = {"PYTHONPATH": EXTRA_PATH.get()} if EXTRA_PATH.get() else {}
    return {**kept, MARKER: str(settings.data_dir.resolve()), **path, **asked}


def _cancelled(run_id: int) -> bool:
    from minilake.services import jobs

    return bool(jobs._state["runs"].get(run_id, {}).get("_cancel_requested"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process group: SIGTERM, then SIGKILL; also what a leader that has ended left in it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not alive(process.pid):
            break
        signal_group(process.pid, number)
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_LIMIT))
        return file.read().decode(errors="replace")


def _error(logs: str) -> str:
    """The last traceback, or the last lines where there is none."""
    start = logs.rfind(_TRACEBACK)
    return logs[start:][-_ERROR_LIMIT:] if start >= 0 else logs[-_ERROR_LIMIT // 2 :]
