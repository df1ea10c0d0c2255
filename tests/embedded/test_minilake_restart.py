"""What the embedded workspace remembers when its server ends, cleanly or not."""

import signal

import pytest

from tests.support.machine import eventually, runs
from tests.support.workspace import python_task, result

pytestmark = pytest.mark.stack

SLEEPER = "import os, sys, time\nopen(sys.argv[1], 'w').write(str(os.getpid()))\ntime.sleep(600)\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_running_run_has_failed_after_a_restart_and_its_process_is_gone(workspace, tmp_path, number):
    note = tmp_path / "pid"
    path = workspace.put("/Shared/sleeper.py", SLEEPER)
    task = python_task("main", path, str(note))
    run_id = workspace.submit(task, idempotency_token="only-once")
    pid = int(workspace.wait_for(note))
    workspace.stop(number)
    workspace.start()
    run = workspace.run(run_id)
    assert result(run) != "SUCCESS"
    assert run["state"]["life_cycle_state"] in ("INTERNAL_ERROR", "TERMINATED")
    assert workspace.run(run["tasks"][0]["run_id"])["state"]["life_cycle_state"] in ("INTERNAL_ERROR", "TERMINATED")
    if number == signal.SIGKILL:
        output = workspace.output(run["tasks"][0]["run_id"])
        assert output["error"] == "the workspace was restarted while this ran"
    assert eventually(lambda: not runs(pid))
    assert workspace.submit(task, idempotency_token="only-once") == run_id


def test_killed_server_still_knows_jobs_finished_runs_and_their_output(workspace):
    path = workspace.put("/Shared/hello.py", "print('hello')\n")
    job_id = workspace.call("POST", "2.2/jobs/create", json={"name": "j", "tasks": [python_task("main", path)]})[
        "job_id"
    ]
    run_id = workspace.call("POST", "2.2/jobs/run-now", json={"job_id": job_id})["run_id"]
    run = workspace.wait(run_id)
    workspace.stop(signal.SIGKILL)
    workspace.start()
    assert workspace.call("GET", "2.2/jobs/get", params={"job_id": job_id})["settings"]["name"] == "j"
    assert result(workspace.run(run_id)) == "SUCCESS"
    assert workspace.output(run["tasks"][0]["run_id"])["logs"] == "hello\n"
    again = workspace.call("POST", "2.2/jobs/run-now", json={"job_id": job_id})["run_id"]
    assert again > run["tasks"][0]["run_id"]  # ids are not given twice
    assert result(workspace.wait(again)) == "SUCCESS"


def test_run_whose_beginning_could_not_be_written_down_has_failed_and_the_next_one_runs(workspace):
    """A full disk left it pending for ever, and its task in Airflow waited with it."""
    path = workspace.put("/Shared/hello.py", "print('hello')\n")
    in_the_way = workspace.folder / "snapshot.part"
    in_the_way.mkdir()
    run = workspace.wait(workspace.submit(python_task("main", path)))
    assert run["state"]["life_cycle_state"] == "INTERNAL_ERROR"
    assert "snapshot.part" in run["state"]["state_message"]
    in_the_way.rmdir()
    assert result(workspace.wait(workspace.submit(python_task("main", path)))) == "SUCCESS"
