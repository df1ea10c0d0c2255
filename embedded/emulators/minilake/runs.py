"""Job runs as on Databricks: tasks visible from the start, honest results, and a memory that outlives us."""

import asyncio
import contextvars
import copy
import json
import re
import time
from pathlib import Path
from typing import Any

from minilake.config import settings
from minilake.models.jobs import RunTaskInfo, Task
from minilake.persistence import StateEnvelope
from minilake.services import get_state_functions, jobs

from embedded.emulators.minilake import execution, libraries, page

JOB_PARAMETERS: contextvars.ContextVar[dict[str, str]] = contextvars.ContextVar("job_parameters")
"""What a ``run-now`` request gave, in whose context the run starts."""

_task_run_id: contextvars.ContextVar[int | None] = contextvars.ContextVar("task_run_id", default=None)
_next_run_id = jobs._next_run_id
_execute_task = jobs._execute_task
_execute_run = jobs._execute_run
_restore_state = jobs.restore_state

_ACTIVE = ("PENDING", "RUNNING", "TERMINATING")
_REFERENCE = re.compile(r"\{\{\s*(job\.parameters\.([\w.-]+)|job\.id|job\.run_id|task\.name)\s*\}\}")


def install() -> None:
    """Replace MiniLake's way to run tasks, to restore its state, and to show a run."""
    jobs._next_run_id = next_run_id
    jobs._execute_task = execute_task
    jobs._execute_run = execute_run
    jobs.restore_state = restore_state
    jobs._run_page_url = page.run_page_url


def next_run_id() -> int:
    """The id that the task was promised when its run started, or a new one."""
    return _task_run_id.get() or int(_next_run_id())


async def execute_run(run_id: int, argv: list[str]) -> None:
    """Run all tasks of a run; every task has its id and can be asked for from the first moment."""
    execution.RUN_ID.set(run_id)
    run = jobs._state["runs"][run_id]
    run["_tasks"] = _tasks(run)
    promised = {
        task["task_key"]: {
            "task_key": task["task_key"],
            "run_id": _next_run_id(),
            "start_time": run["start_time"],
            "end_time": 0,
            "state": {"life_cycle_state": "PENDING"},
        }
        for task in run["_tasks"]
    }
    run["tasks"] = list(promised.values())
    try:
        save()
        await _execute_run(run_id, argv)
    except Exception as error:  # noqa: BLE001 - the run must end, whatever in the emulator broke
        message = f"{type(error).__name__}: {error}"
        run["state"] = {"life_cycle_state": "INTERNAL_ERROR", "result_state": "FAILED", "state_message": message}
        run["end_time"] = _now()
    run["tasks"] = [{**promised[task["task_key"]], **task} for task in run["tasks"]]
    _judge(run)
    _give_outputs(run, jobs._state)
    save()


async def execute_task(task: Task, argv: list[str]) -> RunTaskInfo:
    """Run one task with the id it was promised and the libraries it asked for."""
    run = jobs._state["runs"][execution.RUN_ID.get()]
    row = next(row for row in run["tasks"] if row["task_key"] == task.task_key)
    row.update(start_time=_now(), state={"life_cycle_state": "RUNNING"})
    _task_run_id.set(row["run_id"])
    asked = [library.model_dump() for library in task.libraries or []]
    try:
        execution.EXTRA_PATH.set(await asyncio.to_thread(libraries.install, asked))
    except libraries.LibraryError as error:
        info = _failed(task, row, str(error))
    else:
        info = await _execute_task(task, argv)
    row.update(info.model_dump(mode="json", exclude_none=True))
    return info


def _failed(task: Task, row: dict[str, Any], message: str) -> RunTaskInfo:
    jobs._state.setdefault("task_outputs", {})[row["run_id"]] = {"logs": None, "error": message}
    state = {"life_cycle_state": "INTERNAL_ERROR", "result_state": "FAILED", "state_message": message}
    return RunTaskInfo(
        task_key=task.task_key, run_id=row["run_id"], state=state, start_time=row["start_time"], end_time=_now()
    )


def _tasks(run: dict[str, Any]) -> list[dict[str, Any]]:
    """The run's own copy of its tasks, references to job parameters replaced by their values."""
    job = jobs._state["jobs"].get(run["job_id"]) or {}
    settings_of_job = job.get("settings", {})
    tasks = copy.deepcopy(run.get("_tasks") or settings_of_job.get("tasks") or [])
    defaults = {item["name"]: str(item.get("default", "")) for item in settings_of_job.get("parameters") or []}
    values = defaults | JOB_PARAMETERS.get({})
    for task in tasks:
        if values and (notebook := task.get("notebook_task")):
            # Databricks pushes job parameters down to tasks that take them by name.
            notebook["base_parameters"] = values | (notebook.get("base_parameters") or {})
    names = {"job.id": str(run["job_id"]), "job.run_id": str(run["run_id"])}
    return [_substitute(task, names | {"task.name": task["task_key"]}, values) for task in tasks]


def _substitute(value: Any, names: dict[str, str], parameters: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _substitute(item, names, parameters) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, names, parameters) for item in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        whole, parameter = match.group(1), match.group(2)
        return parameters.get(parameter, match.group(0)) if parameter else names[whole]

    return _REFERENCE.sub(replace, value)


def _judge(run: dict[str, Any]) -> None:
    """Correct results: a task that nothing ran has not succeeded, and a cancelled one has not failed."""
    unknown = [
        task["task_key"]
        for task, asked in zip(run["tasks"], run["_tasks"], strict=True)
        if task["state"]["life_cycle_state"] == "SKIPPED" and not _runnable(asked) and "end_time" in task
    ]
    if unknown and run["state"].get("result_state") == "SUCCESS":
        message = f"task type not supported by the embedded workspace: {', '.join(unknown)}"
        run["state"].update(result_state="FAILED", state_message=message)
    if run.get("_cancel_requested"):
        for task in run["tasks"]:
            if task["state"].get("result_state") == "FAILED":
                task["state"].update(result_state="CANCELED", state_message="Run canceled")


def _give_outputs(run: dict[str, Any], state: dict[str, Any]) -> None:
    """Let every task have an output: clients ask for the error of each that failed, also where nothing ran."""
    outputs = state.setdefault("task_outputs", {})
    for task in run.get("tasks", []):
        outputs.setdefault(task["run_id"], {"logs": None, "error": task["state"].get("state_message")})


def _runnable(task: dict[str, Any]) -> bool:
    return any(kind in task for kind in ("spark_python_task", "notebook_task", "sql_task"))


def find_task_run(task_run_id: int) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The run and the task row behind a task's run id."""
    for run in jobs._state["runs"].values():
        for task in run.get("tasks", []):
            if task.get("run_id") == task_run_id:
                return run, task
    return None


def save() -> None:
    """Write the workspace's state, so that a killed server forgets no run and no idempotency token."""
    path: Path = settings.resolved_snapshot_path
    state = {name: functions["get_state"]() for name, functions in get_state_functions().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(StateEnvelope(state).to_dict()))
    part.replace(path)


def restore_state(data: dict[str, Any]) -> None:
    """Take over the state of an earlier server: ids are numbers, and what ran then has failed."""
    data = copy.deepcopy(data)
    for name in ("jobs", "runs", "task_outputs"):
        data[name] = {int(key): value for key, value in data.get(name, {}).items()}
    for run in data["runs"].values():
        for item in [run, *run.get("tasks", [])]:
            if item["state"]["life_cycle_state"] in _ACTIVE:
                message = "the workspace was restarted while this ran"
                item["state"] = {
                    "life_cycle_state": "INTERNAL_ERROR",
                    "result_state": "FAILED",
                    "state_message": message,
                }
                item["end_time"] = _now()
        _give_outputs(run, data)
    _restore_state(data)


def _now() -> int:
    return int(time.time() * 1000)
