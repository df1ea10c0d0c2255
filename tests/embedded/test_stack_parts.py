"""When a part of the stack counts as up."""

from types import SimpleNamespace

import pytest

from embedded import parts
from embedded.environment import Stack

PEOPLE, TASKS = "/api/v2/monitor/health", "/execution/health"


@pytest.mark.parametrize(
    ("answered", "up"), [((PEOPLE, TASKS), True), ((PEOPLE,), False), ((TASKS,), False), ((), False)]
)
def test_airflow_serves_once_it_answers_people_and_tasks(tmp_path, monkeypatch, answered, up):
    stack = Stack.read({"LIFECYCLE_HOME": str(tmp_path)})
    answers = {f"{stack.airflow_url}{path}": SimpleNamespace(json=dict) for path in answered}
    monkeypatch.setattr(parts, "_get", answers.get)
    checks = {check.name: check for part in parts.parts(stack) for check in part.checks}
    assert checks["airflow api-server"].ready(0.0) is up
