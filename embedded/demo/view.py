"""What the demo shows: tasks and their states while they change, and where the time went."""

from collections.abc import Iterable, Iterator, Sequence
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
class Span:
    """Something that was done, from when to when."""

    name: str
    began: datetime
    ended: datetime

    @property
    def seconds(self) -> float:
        return (self.ended - self.began).total_seconds()


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
    queued: datetime | None = None
    """When it was last given to a worker: of one that waited outside of any, when that was over."""

    @property
    def name(self) -> str:
        return f"{self.dag_id}.{self.task_id}"

    @property
    def span(self) -> Span | None:
        """From its start to its end; ``None`` where it did not run, or has not ended."""
        if self.state == "skipped" or self.started is None or self.ended is None:
            return None
        return Span(self.name, self.started, self.ended)

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
            queued=_time(task.get("queued_when")),
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
                self._console.print(f"{task.name}: {_coloured(task.state)}{seconds}")
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


def timing_table(spans: Sequence[Span], total: float) -> Table:
    """Where the time went: a line for each name, and Airflow's own share, in which none of them was under way.

    :param spans: what was done, and when; some of it at the same time.
    :param total: seconds that it took, all in all.
    """
    table = Table(title="Where the time went", title_justify="left", box=None, pad_edge=False)
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("share", justify="right")
    seconds: dict[str, float] = {}
    for span in spans:
        seconds[span.name] = seconds.get(span.name, 0.0) + span.seconds
    busy = covered(spans)
    side_by_side = sum(seconds.values()) - busy
    between = max(0.0, total - busy)
    for name, took in [*seconds.items(), ("Airflow, between the tasks", between)]:
        table.add_row(escape(name), f"{took:.1f}", f"{took / total:.0%}")
    if round(side_by_side, 1) > 0:
        table.add_row("less what ran side by side", f"{-side_by_side:.1f}", "")
    table.add_row("[bold]total", f"[bold]{total:.1f}", "")
    return table


def covered(spans: Iterable[Span]) -> float:
    """Seconds in which at least one of the spans was under way."""
    seconds, until = 0.0, datetime.min.replace(tzinfo=UTC)
    for span in sorted(spans, key=lambda span: span.began):
        began = max(span.began, until)
        until = max(span.ended, until)
        seconds += max(0.0, (until - began).total_seconds())
    return seconds


def gate_spans(gate: TaskView, question: dict[str, Any]) -> list[Span]:
    """The work of a task that asks a person, and how long the answer took.

    It works until it has asked, and again from when it is given to a worker with the answer: what passes between the
    answer and that moment is Airflow's own.

    :param question: Airflow's record of it.
    """
    if (whole := gate.span) is None:
        return []
    asked = datetime.fromisoformat(question["created_at"])
    answered = _time(question["responded_at"]) or whole.ended
    waited = Span("until the gate was answered", asked, answered)
    if asked < whole.began:  # an earlier try has asked
        return [waited, whole]
    taken_up = max(gate.queued or answered, answered)
    return [Span(whole.name, whole.began, asked), waited, Span(whole.name, taken_up, whole.ended)]


def _coloured(state: str) -> str:
    return f"[{_COLOURS.get(state, 'dim')}]{state}[/]"


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
