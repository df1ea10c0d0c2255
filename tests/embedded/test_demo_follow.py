"""What the demo says about tasks and their failures."""

import io
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from rich.console import Console

from embedded.demo import trials
from embedded.demo.follow import Follower, log_lines
from embedded.demo.view import TaskView, View, timing_table

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


def test_timing_table_adds_shares_and_the_total():
    output = io.StringIO()
    Console(file=output, width=100).print(timing_table([("training", 30.0), ("release", 10.0)], 40.0))
    assert "75%" in output.getvalue()
    assert "40.0" in output.getvalue()


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
