"""What the demo says about tasks and their failures."""

import io
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from embedded.demo import trials
from embedded.demo.follow import Follower, log_lines
from embedded.demo.view import Span, TaskView, View, covered, gate_spans, timing_table

LOG = [
    {"event": "::group::Log message source details"},
    {"event": "/logs/attempt=1.log"},
    {"event": "::endgroup::"},
    {"event": "submitting the run"},
    {
        "event": "Task failed with exception",
        "level": "error",
        "error_detail": [
            {
                "exc_type": "AirflowFailException",
                "exc_value": "the job failed:\nValueError: column Attrition is missing",
                "frames": [{"filename": "training_job.py", "lineno": 7, "name": "main"}],
            }
        ],
    },
]


def task(state, **fields):
    start = datetime.now(UTC) - timedelta(seconds=5)
    row = {"dag_id": "attrition_train", "task_id": "train", "state": state, "try_number": 1}
    row |= {"start_date": start.isoformat(), "end_date": (start + timedelta(seconds=3)).isoformat()}
    return TaskView.of(row | fields)


def test_log_ends_with_the_exception_and_its_cause():
    assert log_lines(LOG)[-5:] == [
        "submitting the run",
        "Task failed with exception",
        "  training_job.py:7 in main",
        "AirflowFailException: the job failed:",
        "ValueError: column Attrition is missing",
    ]


def test_log_keeps_its_last_lines_only():
    assert log_lines([{"event": f"line {number}"} for number in range(100)], limit=2) == ["line 98", "line 99"]


def test_finished_task_lasts_from_start_to_end_and_a_running_one_until_now():
    assert task("success").seconds == 3
    assert task("running", end_date=None).seconds > 4.9
    assert task("scheduled", start_date=None, end_date=None).seconds is None


def test_view_off_a_terminal_prints_one_line_for_each_change():
    output = io.StringIO()
    view = View(Console(file=output, width=120))
    with view.following():
        for state in ("queued", "running", "running", "success", "success"):
            view.update([task(state, end_date=None if state == "running" else task("success").ended.isoformat())])
    lines = output.getvalue().splitlines()
    assert [line.split(":")[1].split()[0] for line in lines] == ["running", "success"]


def test_progress_is_told_once_where_nobody_watches():
    output = io.StringIO()
    view = View(Console(file=output, width=120))
    with view.following():
        for progress in ("", "trial 1 of 3", "trial 1 of 3", "trial 2 of 3"):
            view.update([], progress)
    assert output.getvalue().splitlines() == ["trial 1 of 3", "trial 2 of 3"]


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ([], ""),
        ([{"roc_auc_cv": 0.8, "seconds": 1}, {"roc_auc_cv": 0.84}], "trial 2 of 30, best ROC AUC so far 0.8400"),
        ([{"score": 0.4}, {"score": 0.3}], "trial 2 of 30, lowest error so far 0.3000"),
        ([{"seconds": 1}], "trial 1 of 30"),
    ],
)
def test_trials_that_have_ended_are_counted_and_the_best_is_named(ended, said):
    assert trials.told(ended, "30") == said


BEGAN = datetime(2026, 11, 27, tzinfo=UTC)


def at(seconds):
    return BEGAN + timedelta(seconds=seconds)


def span(name, began, ended):
    return Span(name, at(began), at(ended))


def told_of(spans, total):
    """The lines of the timing table: name to seconds and share."""
    output = io.StringIO()
    Console(file=output, width=100).print(timing_table(spans, total))
    return {line[:27].strip(): line[27:].split() for line in output.getvalue().splitlines()[2:]}


def test_timing_table_tells_of_each_stage_and_of_what_lies_between():
    assert told_of([span("training", 0, 30), span("release", 32, 36), span("release", 36, 38)], 40.0) == {
        "training": ["30.0", "75%"],
        "release": ["6.0", "15%"],
        "Airflow, between the tasks": ["4.0", "10%"],
        "total": ["40.0"],
    }


def test_a_task_that_runs_beside_another_hides_nothing_of_what_lies_between():
    told = told_of([span("build", 1, 9), span("preview", 1, 5), span("deploy", 10, 20)], 20.0)
    assert told["Airflow, between the tasks"] == ["2.0", "10%"]
    assert told["less what ran side by side"] == ["-4.0"]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)).map(sorted)))
def test_covered_is_the_seconds_in_which_something_was_under_way(pairs):
    seconds = {second for began, ended in pairs for second in range(began, ended)}
    assert covered([span("any", *pair) for pair in pairs]) == len(seconds)


def gate(began, queued, ended):
    times = {"started": at(began), "queued": at(queued), "ended": at(ended)}
    return TaskView("release", "gate", "success", None, try_number=1, **times)


def question(asked, answered):
    return {"created_at": at(asked).isoformat(), "responded_at": answered and at(answered).isoformat()}


def test_a_gate_works_until_it_has_asked_and_again_once_a_worker_has_the_answer():
    assert gate_spans(gate(0, 31, 33), question(2, 30)) == [
        span("release.gate", 0, 2), span("until the gate was answered", 2, 30), span("release.gate", 31, 33)
    ]  # fmt: skip


def test_a_gate_whose_earlier_try_has_asked_works_in_its_last_one():
    assert gate_spans(gate(40, 39, 42), question(2, 30)) == [
        span("until the gate was answered", 2, 30), span("release.gate", 40, 42)
    ]  # fmt: skip


def test_a_gate_that_nobody_answered_was_waited_for_until_its_end():
    assert covered(gate_spans(gate(0, 31, 33), question(2, None))) == 33


@pytest.mark.parametrize(("waiting", "asks"), [([], False), (["another"], False), (["another", "task"], True)])
def test_task_asks_while_its_question_stands(waiting, asks):
    airflow = SimpleNamespace(questions=lambda dag_id, run_id: [{"task_id": task_id} for task_id in waiting])
    assert Follower(airflow, Console(file=io.StringIO())).asks("dag", "run", "task") is asks


class Scripted:
    """An API server that counts its requests; each look at a run's tasks shows the next of ``looks``."""

    def __init__(self, **looks):
        self.looks = looks
        self.asked = []

    def tasks(self, dag_id, run_id):
        self.asked.append(("tasks", dag_id))
        shown = self.looks[dag_id][0]
        row = {"dag_id": dag_id, "dag_run_id": run_id, "start_date": None, "end_date": None, "try_number": 1}
        return [row | {"task_id": f"task{number}", "state": state} for number, state in enumerate(shown)]

    def run(self, dag_id, run_id):
        self.asked.append(("run", dag_id))
        return {"state": "failed" if len(self.looks[dag_id]) == 1 else "running"}


def followed(monkeypatch, airflow, *dag_ids):
    """What ``wait`` returns for a run of each DAG; each of its pauses brings the next look."""
    follower = Follower(airflow, Console(file=io.StringIO()))
    ended = []
    for dag_id in dag_ids:
        monkeypatch.setattr("embedded.demo.follow.time.sleep", lambda _, dag_id=dag_id: airflow.looks[dag_id].pop(0))
        ended.append(follower.wait(dag_id, "run"))
    return ended


def test_a_look_at_a_run_whose_task_is_at_work_is_one_request_whatever_was_followed_before(monkeypatch):
    airflow = Scripted(train=[["running"], ["failed"]], release=[["running"], ["deferred"], ["failed"]])
    assert followed(monkeypatch, airflow, "train", "release") == ["failed", "failed"]
    assert airflow.asked == [("tasks", "train"), ("tasks", "train"), ("run", "train"),
                             *[("tasks", "release")] * 3, ("run", "release")]  # fmt: skip


def test_a_run_ends_although_a_task_never_came_to_start(monkeypatch):
    airflow = Scripted(train=[[None, None], ["running", None], ["success", None], ["success", None]])
    assert followed(monkeypatch, airflow, "train") == ["failed"]
    assert airflow.looks["train"] == [["success", None]]
