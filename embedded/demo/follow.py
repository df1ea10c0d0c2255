"""Follow DAG runs to their end, and say why one failed."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape

from embedded.airflow_client import Airflow
from embedded.demo.view import TaskView, View
from lifecycle.task_ids import UNFINISHED

_POLL = 0.5
"""Seconds between two looks; each costs the API server one request, and its machine runs the tasks too."""
_LINES = 25
_ENDED = ("success", "failed")


@dataclass(frozen=True)
class Failure:
    """A task that failed: the cause from its log, and where to look."""

    dag_id: str
    run_id: str
    task_id: str
    log_lines: list[str]
    link: str


class Follower:
    """Watches one run after the other; the tasks of all of them stay on the screen."""

    def __init__(self, airflow: Airflow, console: Console) -> None:
        self._airflow = airflow
        self._console = console
        self._view = View(console)
        self._told: set[tuple[str, str, int]] = set()
        self.tasks: dict[tuple[str, str], TaskView] = {}
        """DAG and task id to the last that was seen of it."""

    def wait(
        self, dag_id: str, run_id: str, *, question: str | None = None, progress: Callable[[], str] = lambda: ""
    ) -> str:
        """Follow a run until it ends (returns ``success`` or ``failed``) or until ``question`` is asked.

        :param question: the task that asks; ``awaiting_input`` is returned while it waits for an answer.
        :param progress: how far the work is, in half a line that is asked for again and again.
        """
        with self._view.following():
            while True:
                self._refresh(dag_id, run_id, progress())
                asking = self.tasks.get((dag_id, question or ""))
                if asking and asking.state == "awaiting_input" and self.asks(dag_id, run_id, asking.task_id):
                    return "awaiting_input"
                if not self._at_work(dag_id) and (state := self._state(dag_id, run_id)) in _ENDED:
                    return state
                time.sleep(_POLL)

    def _at_work(self, dag_id: str) -> bool:
        """Whether a task was seen under way, so that its run cannot have ended.

        One that waits for others is not: a run may end without it.
        """
        return any(task.state in UNFINISHED for task in self.tasks.values() if task.dag_id == dag_id)

    def _state(self, dag_id: str, run_id: str) -> str:
        return str(self._airflow.run(dag_id, run_id)["state"])

    def failures(self, dag_id: str, run_id: str) -> list[Failure]:
        """The tasks of a run that failed themselves, first first."""
        failed = [task for task in self._airflow.tasks(dag_id, run_id) if task["state"] == "failed"]
        failed.sort(key=lambda task: task["end_date"] or "")
        return [self._failure(task) for task in failed]

    def _failure(self, task: dict[str, Any]) -> Failure:
        dag_id, run_id, task_id = task["dag_id"], task["dag_run_id"], task["task_id"]
        log = self._airflow.log(dag_id, run_id, task_id, task["try_number"])
        return Failure(dag_id, run_id, task_id, log_lines(log), self._airflow.link(dag_id, run_id, task_id))

    def asks(self, dag_id: str, run_id: str, task_id: str) -> bool:
        """Whether a task has asked and still wants an answer."""
        return any(task["task_id"] == task_id for task in self._airflow.questions(dag_id, run_id))

    def _refresh(self, dag_id: str, run_id: str, progress: str) -> None:
        """Ask for the tasks of the run that is followed; those of earlier ones stay as they ended."""
        tasks = self._airflow.tasks(dag_id, run_id)
        for task in sorted(tasks, key=lambda task: task["start_date"] or "9"):
            self.tasks[dag_id, task["task_id"]] = TaskView.of(task)
            self._tell_retry(task)
        self._view.update(self.tasks.values(), progress)

    def _tell_retry(self, task: dict[str, Any]) -> None:
        """Say once why a try failed that Airflow is going to repeat."""
        key = (task["dag_id"], task["task_id"], task["try_number"])
        if task["state"] == "up_for_retry" and key not in self._told:
            self._told.add(key)
            cause = self._failure(task).log_lines[-3:]
            self._console.print(
                f"[yellow]{task['task_id']}: try {task['try_number']} failed and will be repeated[/]\n"
                + "\n".join(f"  {escape(line)}" for line in cause),
                soft_wrap=True,
            )


def log_lines(log: list[dict[str, Any]], limit: int = _LINES) -> list[str]:
    """The last lines of a task's log for people: messages, and exceptions with what caused them."""
    lines: list[str] = []
    for entry in log:
        event = str(entry.get("event", ""))
        if not event.startswith("::"):
            lines += event.splitlines()
        for error in entry.get("error_detail") or []:
            lines += list(_exception(error))
    return lines[-limit:]


def _exception(error: dict[str, Any]) -> Iterator[str]:
    for frame in (error.get("frames") or [])[-3:]:
        yield f"  {frame.get('filename')}:{frame.get('lineno')} in {frame.get('name')}"
    yield from f"{error.get('exc_type')}: {error.get('exc_value')}".splitlines()
