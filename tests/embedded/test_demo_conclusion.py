"""When the demo says that all went well: what was decided, and what production answers with after it."""

import io
import json
from datetime import timedelta
from types import SimpleNamespace

import pytest
from rich.console import Console

from embedded.demo.view import TaskView
from embedded.demo.walk import Demo, DemoError
from embedded.environment import Stack
from training.use_case import load

ADMIN = {"id": "admin", "name": "admin"}


def make_demo(tmp_path, *, approve=None, chosen=None, now=None):
    """A demo at its end: the gate was answered with ``chosen``, and production has version ``now``."""
    stack = Stack.read({"LIFECYCLE_HOME": str(tmp_path)})
    demo = Demo(stack, load("attrition"), data=None, synthetic=False, approve=approve, keep=True)
    answer = {"chosen_options": chosen, "responded_by_user": ADMIN if chosen else None}
    demo._airflow = SimpleNamespace(
        question=lambda *_: answer, result=lambda *_: {"version": "2"}, link=lambda *_: "http://airflow/run"
    )
    demo._server = lambda target: SimpleNamespace(version=lambda: now)
    demo._runs.version = lambda train_run: "2"
    demo._post_sample = lambda target: None
    return demo


@pytest.mark.parametrize(
    ("approve", "chosen", "before", "now"),
    [
        ("yes", ["Approve"], None, "2"),
        ("yes", ["Approve"], "1", "2"),
        (None, ["Approve"], "1", "2"),
        ("no", ["Reject"], "1", "1"),
        ("no", ["Reject"], None, None),
        (None, None, "1", "1"),
    ],
    ids=["first version", "next version", "approved in Airflow", "rejected", "rejected the first", "silence"],
)
def test_demo_ends_with_0_when_production_is_what_was_decided(tmp_path, approve, chosen, before, now):
    assert make_demo(tmp_path, approve=approve, chosen=chosen, now=now)._conclude("train", "run", before) == 0


@pytest.mark.parametrize(
    ("approve", "chosen", "before", "now", "message"),
    [
        ("yes", ["Approve"], "1", "1", "production has version 1, expected was 2"),
        ("yes", ["Approve"], "1", None, "production has version None, expected was 2"),
        ("no", ["Reject"], "1", "2", "production has version 2, expected was 1"),
        ("no", ["Reject"], None, "2", "production has version 2, expected was None"),
        ("no", ["Approve"], "1", "2", "the answer given here was another, but admin decided in Airflow"),
    ],
    ids=["not released", "gone", "released although rejected", "first although rejected", "overruled"],
)
def test_demo_fails_when_production_is_not_what_was_decided(tmp_path, approve, chosen, before, now, message):
    with pytest.raises(DemoError, match=message):
        make_demo(tmp_path, approve=approve, chosen=chosen, now=now)._conclude("train", "run", before)


def test_sample_answer_shows_what_is_said_of_the_record(tmp_path):
    demo, output = make_demo(tmp_path), io.StringIO()
    demo._console = Console(file=output, width=100)
    said = {"request_id": "r", "records": [{"key": 7, "probability": 0.25, "outlier": False, "band": "rest"}]}
    answer = said | {"drift__p_value": {"Age": 0.5}, "drift__note": "means little"}
    sample = [{"Age": 41}]
    demo._server = lambda target: SimpleNamespace(url="http://x", sample=lambda: sample, predict=lambda records: answer)
    Demo._post_sample(demo, "production")
    assert json.JSONDecoder().raw_decode(output.getvalue()[output.getvalue().index("{") :])[0] == said
    assert json.loads((demo._stack.home / "record.json").read_text()) == sample


def test_lines_break_between_words_and_never_within_an_address(tmp_path):
    demo, output = make_demo(tmp_path), io.StringIO()
    demo._console = Console(file=output, width=80)
    link = (
        "http://127.0.0.1:8080/dags/attrition_train/runs/asset_triggered__2026-11-26T16%3A25%3A34.691203%2B00%3A00_lB"
    )
    said = "a training run that this demo did not start is under way, and stays as it is; look at it here:"
    demo._say(f"{said} {link}")
    *text, last = output.getvalue().splitlines()
    assert last == link
    assert " ".join(" ".join(text).split()) == said
    assert len(text) == 2
    assert max(map(len, text)) <= 80


def test_time_that_an_earlier_demo_spent_is_not_told_again(tmp_path):
    demo, output = make_demo(tmp_path), io.StringIO()
    demo._console = Console(file=output, width=100)
    for task_id, seconds in (("build_image", -60), ("promote", 1)):
        started = demo._began + timedelta(seconds=seconds)
        ended = started + timedelta(seconds=3)
        demo._follower.tasks["r", task_id] = TaskView("r", task_id, "success", 3.0, started, ended, 1)
    demo._print_times(10.0)
    assert "promote" in output.getvalue()
    assert "build_image" not in output.getvalue()


def test_of_a_task_that_an_earlier_demo_began_the_part_in_this_one_is_told(tmp_path):
    demo, output = make_demo(tmp_path), io.StringIO()
    demo._console = Console(file=output, width=100)
    started, ended = demo._began - timedelta(seconds=60), demo._began + timedelta(seconds=8)
    demo._follower.tasks["t", "train"] = TaskView("t", "train", "success", 68.0, started, ended, 1)
    demo._print_times(10.0)
    told = {line[:26].strip(): line[26:].split() for line in output.getvalue().splitlines()}
    assert told["t.train"] == ["8.0", "80%"]
    assert told["Airflow, between the tasks"] == ["2.0", "20%"]
