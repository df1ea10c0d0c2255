"""The trigger of a job: a line for every change, and none for every look."""

import asyncio
import json
import re

import pytest
from airflow.providers.databricks.triggers.databricks import DatabricksExecutionTrigger

from lifecycle.operators.job_trigger import JobTrigger

LOOKS = [("RUNNING", "PENDING"), ("RUNNING", "PENDING"), ("TERMINATED", "RUNNING"), ("TERMINATED", "RUNNING")]
"""States of the tasks prepare and tune at each look, until both have ended."""


class Workspace:
    """The provider's hook, of a run that ends after ``LOOKS``."""

    def __init__(self):
        self.looks = iter(LOOKS)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        return None

    def state(self):
        states = next(self.looks, None)
        life = states or ("TERMINATED", "TERMINATED")
        results = {"RUNNING": {}, "PENDING": {}, "TERMINATED": {"result_state": "SUCCESS"}}
        tasks = [
            {"task_key": name, "state": {"life_cycle_state": one, **results[one]}}
            for name, one in zip(("prepare", "tune"), life, strict=True)
        ]
        ended = {"life_cycle_state": "TERMINATED", "result_state": "SUCCESS", "state_message": ""}
        return {"state": {"life_cycle_state": "RUNNING"} if states else ended, "tasks": tasks}

    async def a_get_run(self, run_id):
        return self.state()

    async def a_get_run_state(self, run_id):
        from airflow.providers.databricks.hooks.databricks import RunState

        return RunState(**self.state()["state"])


@pytest.fixture
def trigger(connections):
    found = JobTrigger.like(DatabricksExecutionTrigger(6, "databricks_default", 0, run_page_url="http://run"))
    found.hook = Workspace()
    return found


def test_every_change_is_one_line(trigger, capsys):
    """The provider wrote the run's state at every look: fourteen times the same in a training of half a minute."""

    async def wait():
        return [event async for event in trigger.run()]

    (event,) = asyncio.run(wait())
    told = re.findall(r"\b(?:prepare|tune): \w+", capsys.readouterr().out)
    assert told == ["prepare: running", "prepare: success", "tune: running", "tune: success"]
    assert json.loads(event.payload["run_state"])["result_state"] == "SUCCESS"
    assert (event.payload["run_id"], event.payload["run_page_url"]) == (6, "http://run")


def test_triggerer_makes_the_same_trigger_again(trigger):
    path, arguments = trigger.serialize()
    assert path == "lifecycle.operators.job_trigger.JobTrigger"
    assert JobTrigger(**arguments).serialize() == (path, arguments)
