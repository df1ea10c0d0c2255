"""What the demo shows: tasks and their states while they change, and where the time went."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

_COLOURS = {
    "success": "green", "running": "cyan", "failed": "bold red", "upstream_failed": "red", "skipped": "magenta",
    "up_for_retry": "yellow", "awaiting_input": "bold yellow", "queued": "blue", "scheduled": "blue",
    "deferred": "cyan", "restarting": "yellow",
}  # fmt: skip
FINISHED = ("success", "failed", "skipped", "upstream_failed", "removed")


@dataclass(frozen=True)
class TaskView:
    """One task as it stands."""

    dag_id: str
    task_id: str
    state: str
    seconds: float | None
    """How long it has run; ``None`` before it starts."""
    started: datetime | None
    ended: datetime | None
    try_number: int

    @classmethod
    def of(cls, task: dict[str, Any]) -> "TaskView":
        """From the REST API's task instance."""
        started, ended = _time(task["start_date"]), _time(task["end_date"])
        until = ended or datetime.now(UTC)
        return cls(
            dag_id=task["dag_id"],
            task_id=task["task_id"],
            state=task["state"] or "waiting",
            seconds=(until - started).total_seconds() if started else None,
            started=started,
            ended=ended,
            try_number=task["try_number"],
        )


class View:
    """A table that follows the tasks on a terminal; elsewhere one line for each change of state."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._seen: dict[tuple[str, str], str] = {}
        self._progress = ""

    @contextmanager
    def following(self) -> Iterator[None]:
        """Show updates while this lasts; nothing else may write to the terminal meanwhile."""
        if not self._console.is_terminal:
            yield
            return
        try:
            with Live(console=self._console, refresh_per_second=4) as self._live:
                yield
        finally:
            self._live = None

    def update(self, tasks: Iterable[TaskView], progress: str = "") -> None:
        """Show the tasks, and below them how far the work is."""
        tasks = list(tasks)
        if self._live:
            self._live.update(Group(_table(tasks), progress) if progress else _table(tasks))
            return
        if progress not in ("", self._progress):
            self._progress = progress
            self._console.print(progress, markup=False)
        for task in tasks:
            key = (task.dag_id, task.task_id)
            if task.state not in ("waiting", "scheduled", "queued", self._seen.get(key)):
                seconds = f" after {task.seconds:.1f} s" if task.seconds and task.state in FINISHED else ""
                self._console.print(f"{task.dag_id}.{task.task_id}: {_coloured(task.state)}{seconds}")
            self._seen[key] = task.state


def _table(tasks: list[TaskView]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("DAG", "task", "state"):
        table.add_column(column)
    table.add_column("seconds", justify="right")
    shown = ""
    for task in tasks:
        seconds = f"{task.seconds:.1f}" if task.seconds is not None else ""
        table.add_row(task.dag_id if task.dag_id != shown else "", task.task_id, _coloured(task.state), seconds)
        shown = task.dag_id
    return table


def timing_table(stages: list[tuple[str, float]], total: float) -> Table:
    """Where the time went."""
    table = Table(title="Where the time went", title_justify="left", box=None, pad_edge=False)
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("share", justify="right")
    for name, seconds in stages:
        table.add_row(escape(name), f"{seconds:.1f}", f"{seconds / total:.0%}")
    table.add_row("[bold]total", f"[bold]{total:.1f}", "")
    return table


def _coloured(state: str) -> str:
    return f"[{_COLOURS.get(state, 'dim')}]{state}[/]"


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
