"""The Databricks provider's own hook, operators and trigger against the embedded workspace."""

import asyncio
from types import SimpleNamespace

import pytest
from airflow.models.connection import Connection
from airflow.providers.databricks.hooks.databricks import DatabricksHook
from airflow.providers.databricks.operators.databricks import (
    DatabricksCreateJobsOperator,
    DatabricksNotebookOperator,
    DatabricksRunNowOperator,
    DatabricksSubmitRunOperator,
    DatabricksTaskOperator,
)
from airflow.providers.databricks.triggers.databricks import DatabricksExecutionTrigger
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import TaskDeferred

from tests.support.machine import eventually, runs
from tests.support.workspace import TOKEN, WAIT, python_task

pytestmark = pytest.mark.stack

CLUSTER = {"new_cluster": {"spark_version": "16.4.x", "num_workers": 1}}
FAST = {"polling_period_seconds": 1}


@pytest.fixture(autouse=True)
def connection(shared_workspace, monkeypatch):
    known = Connection(
        conn_id="databricks_default",
        conn_type="databricks",
        host="127.0.0.1",
        schema="http",
        port=shared_workspace.port,
        password=TOKEN,
    )

    async def get_later(conn_id):
        return known

    monkeypatch.setattr(BaseHook, "get_connection", staticmethod(lambda conn_id: known))
    monkeypatch.setattr(BaseHook, "aget_connection", staticmethod(get_later), raising=False)


@pytest.fixture
def context():
    """What an operator needs of a task's context: a place for its XComs."""
    pushed = {}
    return {"ti": SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value})), "pushed": pushed}


@pytest.fixture
def hello(shared_workspace):
    return shared_workspace.put("/Shared/hello.py", "import sys\nprint('hello', *sys.argv[1:])\n")


@pytest.fixture
def broken(shared_workspace):
    return shared_workspace.put("/Shared/broken.py", "raise ValueError('column Attrition is missing')\n")


def test_submit_run_polls_to_success_and_pushes_the_page_link(hello, context):
    DatabricksSubmitRunOperator(task_id="run", tasks=[python_task("main", hello)], durable=False, **FAST).execute(
        context
    )
    assert "/run/" in context["pushed"]["run_page_url"]


def test_submit_run_shorthand_succeeds(hello, context):
    task = {"python_file": hello, "parameters": ["x"]}
    DatabricksSubmitRunOperator(task_id="run", spark_python_task=task, durable=False, **CLUSTER, **FAST).execute(
        context
    )


def test_failed_run_shows_the_jobs_own_traceback(broken, context):
    operator = DatabricksSubmitRunOperator(
        task_id="operator", tasks=[python_task("main", broken)], durable=False, **FAST
    )
    with pytest.raises(Exception, match="ValueError: column Attrition is missing"):
        operator.execute(context)


def test_deferrable_run_is_followed_by_the_trigger_to_its_end(shared_workspace, context, tmp_path):
    slow, end = shared_workspace.put("/Shared/slow.py", WAIT), tmp_path / "end"
    operator = DatabricksSubmitRunOperator(
        task_id="operator", tasks=[python_task("main", slow, str(end))], deferrable=True, durable=False, **FAST
    )
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    end.touch()
    trigger = deferred.value.trigger
    assert isinstance(trigger, DatabricksExecutionTrigger)

    async def first_event():
        async for event in trigger.run():
            return event.payload
        return None

    payload = asyncio.run(asyncio.wait_for(first_event(), 60))
    assert '"result_state": "SUCCESS"' in payload["run_state"]
    operator.execute_complete(context, payload)


def test_on_kill_ends_the_script(shared_workspace, context, tmp_path):
    note = tmp_path / "pid"
    path = shared_workspace.put(
        "/Shared/sleeper.py", "import os, sys, time\nopen(sys.argv[1], 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    )
    operator = DatabricksSubmitRunOperator(
        task_id="operator",
        tasks=[python_task("main", path, str(note))],
        wait_for_termination=False,
        durable=False,
        **FAST,
    )
    operator.execute(context)
    pid = int(shared_workspace.wait_for(note))
    operator.wait_for_termination = True
    operator.on_kill()
    assert eventually(lambda: not runs(pid))
    assert shared_workspace.wait(operator.run_id)["state"]["result_state"] == "CANCELED"


def test_job_is_created_and_run_by_its_name_with_parameters(shared_workspace, hello, context):
    task = python_task("main", hello, "{{job.parameters.day}}")
    job = {"name": "a named job", "tasks": [task], "parameters": [{"name": "day", "default": "-"}]}
    # The provider renders its JSON with Jinja; here it is used as it is.
    DatabricksCreateJobsOperator(task_id="create", json=job).execute(context)
    run_now = DatabricksRunNowOperator(
        task_id="run_now", job_name="a named job", json={"job_parameters": {"day": "monday"}}, durable=False, **FAST
    )
    run_now.execute(context)
    run = shared_workspace.run(run_now.run_id)
    assert shared_workspace.output(run["tasks"][0]["run_id"])["logs"] == "hello monday\n"


def test_task_operator_launches_and_follows_a_single_task(hello, context):
    config = {"spark_python_task": {"python_file": hello}}
    DatabricksTaskOperator(task_id="single", task_config=config, **CLUSTER, **FAST).execute(context)


def test_task_operator_reports_failure_with_the_cause(broken, context):
    config = {"spark_python_task": {"python_file": broken}}
    operator = DatabricksTaskOperator(task_id="operator", task_config=config, **CLUSTER, **FAST)
    with pytest.raises(Exception, match="column Attrition is missing"):
        operator.execute(context)


def test_notebook_operator_runs_a_notebook(shared_workspace, context):
    shared_workspace.put("/Shared/book.py", "# Databricks notebook source\nprint('from a notebook')\n")
    DatabricksNotebookOperator(
        task_id="book", notebook_path="/Shared/book", source="WORKSPACE", **CLUSTER, **FAST
    ).execute(context)


def test_hook_returns_the_output_of_a_task_run(shared_workspace, hello):
    hook = DatabricksHook()
    run_id = hook.submit_run({"run_name": "r", "tasks": [python_task("main", hello, "there")]})
    shared_workspace.wait(run_id)
    task = hook.get_run(run_id)["tasks"][0]
    assert hook.get_run_output(task["run_id"])["logs"] == "hello there\n"
