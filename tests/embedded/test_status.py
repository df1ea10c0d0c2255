"""What ``make status`` and ``make logs`` say: what answers now, and not what was written down once."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from embedded import stack as stacks
from embedded import status
from embedded.__main__ import _logs
from embedded.addresses import Addresses
from embedded.environment import MARKER, Stack
from embedded.parts import Check


@pytest.fixture
def stack(tmp_path, monkeypatch):
    """A stack whose supervisor lives, and whose parts answer as ``answers`` says."""
    made = Stack.read({"LIFECYCLE_HOME": str(tmp_path)})
    monkeypatch.setattr(stacks, "is_held", lambda stack: True)
    monkeypatch.setattr(Addresses, "assigned", lambda self: [])
    monkeypatch.setattr(status, "_in_airflow", lambda stack: iter(["waits for your answer  http://gate"]))
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
    assert "waits for your answer  http://gate" in lines
    assert any("nothing is deployed yet" in line for line in lines)


def test_part_that_was_killed_a_second_ago_is_not_said_to_be_up(stack, monkeypatch):
    """It looked at process ids, and said ``up`` while MLflow refused for five seconds."""
    answering(monkeypatch, airflow=True, mlflow=False)
    code, lines = told(stack)
    assert code == 4
    assert f"{'mlflow':<22} DOES NOT ANSWER  http://mlflow" in lines
    assert any(line.startswith("no answer from mlflow: ") for line in lines)
    assert not any("gate" in line for line in lines)


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
    said = "answers with version 7, sha256:0123456789ab"
    assert f"{'attrition, production':<22} {said}  http://production" in lines


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
        assert "has lost its supervisor, and 1 of its processes go on without it: `make up` ends them" in line
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
    assert _logs(stack, "?") == 2
    assert capsys.readouterr().err == "PART is one of mlflow, supervisor\n"
