"""One trace for one DAG run."""

import re
from types import SimpleNamespace

import pytest
from opentelemetry import propagate

from lifecycle.trace import trace_id, trace_parent


def instance(run_id="run-1", task_id="verify_staging"):
    return SimpleNamespace(dag_id="attrition_release", run_id=run_id, task_id=task_id)


def test_tasks_of_a_run_share_a_trace_that_other_runs_do_not_have():
    assert trace_id(instance()) == trace_id(instance(task_id="verify_production"))
    assert trace_parent(instance()) != trace_parent(instance(task_id="verify_production"))
    assert trace_parent(instance()) == trace_parent(instance()), "every try of a task"
    assert trace_id(instance()) != trace_id(instance("run-2"))


@pytest.mark.parametrize("run_id", ["run-1", "manual__2026-11-26T10:00:00+00:00", "\u00fc"])
def test_header_is_one_that_nobody_samples(run_id):
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", trace_parent(instance(run_id)))


def test_airflows_own_span_is_handed_on(monkeypatch):
    own = f"00-{'4b' * 16}-{'7a' * 8}-01"
    monkeypatch.setattr(propagate, "inject", lambda carrier: carrier.update(traceparent=own))
    assert trace_parent(instance()) == own
    assert trace_id(instance()) == "4b" * 16
