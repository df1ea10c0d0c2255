"""What ``make status`` and ``make logs`` say: what answers now, and not what was written down once."""

import json
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from embedded import stack as stacks
from embedded import status
from embedded.__main__ import _logs, _stamped
from embedded.addresses import Addresses
from embedded.demo.scoring import ScoringError
from embedded.environment import MARKER, Stack
from embedded.parts import Check

RUN = "asset_triggered__2026-11-26T16:25:34.691203+00:00_lBitiQTx"
"""An id as Airflow makes it, which no line of a terminal has room for."""


@pytest.fixture
def stack(tmp_path, monkeypatch):
    """A stack whose supervisor lives, and whose parts answer as ``answers`` says."""
    made = Stack.read({"LIFECYCLE_HOME": str(tmp_path)})
    monkeypatch.setattr(stacks, "is_held", lambda stack: True)
    monkeypatch.setattr(Addresses, "assigned", lambda self: [])
    answered = {
        "questions": lambda self: [{"task_id": "await_approval", "dag_id": "attrition_release", "dag_run_id": RUN}],
        "listed": lambda self, path, key, **query: [
            {
                "dag_id": "attrition_retrain_nightly",
                "timetable_summary": "30 2 * * *",
                "timetable_description": "At 02:30",
            },
            {"dag_id": "attrition_rollback", "timetable_summary": None},
        ],
    }
    for name, answer in answered.items():
        monkeypatch.setattr(status.Airflow, name, answer)
    return made


def told(stack):
    lines = []
    return status.tell(stack, lines.append), lines


def answering(monkeypatch, **parts):
    checks = [Check(name, lambda since, answers=answers: answers, f"http://{name}") for name, answers in parts.items()]
    monkeypatch.setattr(status, "parts", lambda stack: [SimpleNamespace(checks=checks)])


def test_stack_that_answers_names_each_part_and_the_gate_that_waits(stack, monkeypatch):
    answering(monkeypatch, airflow=True, mlflow=True)
    code, lines = told(stack)
    assert code == 0
    assert lines[:2] == [f"{'airflow':<22} answers  http://airflow", f"{'mlflow':<22} answers  http://mlflow"]
    assert any(line.startswith("a release waits for your answer:\nhttp") for line in lines)
    assert any("nothing is deployed yet" in line for line in lines)
    assert lines[-3].startswith("paused in Airflow: these start nothing by themselves until")
    assert lines[-2] == "  attrition_retrain_nightly: At 02:30", "and a DAG that nothing starts is not paused"


def test_lines_fit_a_terminal_and_what_does_not_is_an_address_alone(stack, monkeypatch):
    answering(monkeypatch, airflow=True, mlflow=True)
    monkeypatch.setattr(Addresses, "assigned", lambda self: ["attrition"])
    monkeypatch.setattr(Addresses, "url", lambda self, use_case, target: f"http://127.0.0.1:18090/{target}")
    monkeypatch.setattr("embedded.demo.scoring.Scoring.version", lambda self: None)
    lines = told(stack)[1]
    answering(monkeypatch, **{f"airflow component {number}": False for number in range(9)})
    lines += told(stack)[1]
    for line in "\n".join(lines).splitlines():
        assert len(line) <= 80 or line.split() == [line], line


def test_part_that_was_killed_a_second_ago_is_not_said_to_be_up(stack, monkeypatch):
    """It looked at process ids, and said ``up`` while MLflow refused for five seconds."""
    answering(monkeypatch, airflow=True, mlflow=False)
    code, lines = told(stack)
    assert code == 4
    assert f"{'mlflow':<22} DOES NOT ANSWER  http://mlflow" in lines
    assert any(line.startswith("no answer from mlflow:\n") for line in lines)
    assert not any("waits" in line for line in lines)


def test_version_and_digest_in_production_are_named(stack, monkeypatch):
    answering(monkeypatch, airflow=True)
    monkeypatch.setattr(Addresses, "assigned", lambda self: ["attrition"])
    monkeypatch.setattr(Addresses, "url", lambda self, use_case, target: f"http://{target}")
    monkeypatch.setattr("embedded.demo.scoring.Scoring.version", lambda self: "7" if "production" in self.url else None)
    folder = stack.slot("attrition", "production")
    folder.mkdir(parents=True)
    image = "/images/v7@sha256:" + "0123456789abcdef" * 4
    running = {"image": image, "version": "7", "since": "now", "url": "http://u", "pid": 1}
    (folder / "status.json").write_text(json.dumps({"stable": running}))
    lines = told(stack)[1]
    assert f"{'attrition, staging':<22} runs nothing  http://staging" in lines
    said = "version 7, sha256:0123456789ab"
    assert f"{'attrition, production':<22} {said}  http://production" in lines


@pytest.mark.parametrize("use_case", ["attrition", "a" * 30])
def test_each_part_has_one_line_that_fits_a_terminal(stack, monkeypatch, use_case):
    """The address of production stood on a second line, where no ``grep`` found whose it was."""
    answering(monkeypatch, airflow=True)
    monkeypatch.setattr(Addresses, "assigned", lambda self: [use_case])
    monkeypatch.setattr(Addresses, "url", lambda self, use_case, target: f"http://127.0.0.1:18090/{target[0]}")
    monkeypatch.setattr("embedded.demo.scoring.Scoring.version", lambda self: "123")
    for target in ("staging", "production"):
        folder = stack.slot(use_case, target)
        folder.mkdir(parents=True)
        running = {"image": "/i@sha256:" + "0" * 64, "version": "123", "since": "now", "url": "http://u", "pid": 1}
        (folder / "status.json").write_text(json.dumps({"stable": running}))
    lines = [line for line in told(stack)[1] if line.startswith(use_case)]
    assert len(lines) == 2
    for line in lines:
        assert re.fullmatch(r"a\w+, \w+ +version 123(, sha256:0{12})?  http://127\.0\.0\.1:18090/\w", line)
        assert len(line) <= 80


def test_server_that_answers_otherwise_is_told_with_the_reason(stack, monkeypatch):
    def failing(self):
        raise ScoringError("the scoring server answers 500: it has no model")

    answering(monkeypatch, airflow=True)
    monkeypatch.setattr(Addresses, "assigned", lambda self: ["attrition"])
    monkeypatch.setattr(Addresses, "url", lambda self, use_case, target: f"http://{target}")
    monkeypatch.setattr("embedded.demo.scoring.Scoring.version", failing)
    lines = told(stack)[1]
    place = lines.index(f"{'attrition, production':<22} DOES NOT ANSWER  http://production")
    assert lines[place + 1] == "  the scoring server answers 500: it has no model"


def test_processes_that_go_on_without_their_supervisor_are_not_called_down(tmp_path):
    """After ``kill -9`` of the supervisor: 'the stack is down', while production went on answering."""
    stack = Stack.read({"LIFECYCLE_HOME": str(tmp_path)})
    assert told(stack) == (3, [f"the stack in {stack.home} is down: `make up` starts it"])
    left = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], env={MARKER: str(stack.home)}, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert left.stdout.readline() == b"\n", "a process has no environment yet while it is being started"
        code, (line,) = told(stack)
        assert code == 3
        assert "has lost its supervisor,\nand 1 of its processes go on without it:\n`make up` ends them" in line
    finally:
        left.communicate(b"\n")


def test_logs_are_shown_by_the_name_of_a_part_and_a_wrong_name_lists_them(tmp_path, capsys):
    stack = Stack.read({"LIFECYCLE_HOME": str(tmp_path)})
    stack.logs.mkdir(parents=True)
    for name in ("mlflow", "supervisor"):
        (stack.logs / f"{name}.log").write_text("".join(f"{name} {number}\n" for number in range(100)))
    assert _logs(stack, "mlflow") == 0
    shown = capsys.readouterr().out.splitlines()
    assert (shown[0], shown[-2], len(shown)) == ("mlflow 40", "mlflow 99", 61)
    for number in range(9):
        (stack.logs / f"airflow-{number}-processor.log").touch()
    assert _logs(stack, "?") == 2
    told = capsys.readouterr().err
    assert " ".join(told.split()).endswith("airflow-8-processor, mlflow, supervisor")
    assert max(map(len, told.splitlines())) <= 80


def test_line_of_the_supervisors_log_fits_a_terminal_with_its_time(tmp_path, capsys):
    supervisor = stacks.Supervisor(Stack.read({"LIFECYCLE_HOME": str(tmp_path)}), _stamped)
    checks = [Check(name, lambda since: True, "http://127.0.0.1:18000") for name in ("minilake (databricks)", "mlflow")]
    part = SimpleNamespace(checks=checks)
    supervisor._running = {"all": SimpleNamespace(part=part, process=SimpleNamespace(poll=lambda: None), started=0.0)}
    supervisor._await_ready(time.monotonic() - 99)
    lines = capsys.readouterr().out.splitlines()
    assert [len(line) <= 80 and line.endswith("up after 99 s  http://127.0.0.1:18000") for line in lines] == [True] * 2
