"""How the embedded workspace runs scripts: environment, errors, cancellation, time limits."""

import json

import pytest

from tests.support.machine import eventually, runs
from tests.support.workspace import ROOT, python_task, result

pytestmark = pytest.mark.stack

SHOW_ENVIRONMENT = """
import json, os, sys
print(json.dumps({"env": dict(os.environ), "path": sys.path, "cwd": os.getcwd(), "argv": sys.argv}))
"""


def show(workspace, **task):
    run = workspace.run_script(SHOW_ENVIRONMENT, "--x", "1", **task)
    assert result(run) == "SUCCESS", workspace.output(run["run_id"])
    return json.loads(workspace.output(run["tasks"][0]["run_id"])["logs"].splitlines()[-1])


def test_job_gets_parameters_tracking_address_and_cluster_variables(shared_workspace):
    seen = show(shared_workspace, new_cluster={"spark_env_vars": {"GREETING": "hello"}})
    assert seen["argv"][1:] == ["--x", "1"]
    assert seen["env"]["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:1"
    assert seen["env"]["GREETING"] == "hello"


def test_job_sees_neither_the_clone_nor_the_workspaces_token(shared_workspace):
    seen = show(shared_workspace)
    assert "PYTHONPATH" not in seen["env"]
    assert not [
        name for name in seen["env"] if name.startswith(("MINILAKE_", "AIRFLOW_")) and name != "MINILAKE_JOB_OF"
    ]
    assert str(ROOT) not in seen["path"]
    assert not seen["cwd"].startswith(str(ROOT))


def test_job_imports_its_published_package_and_not_the_clones(shared_workspace):
    """A module of this name exists in the clone too; the published one has to win, from a nested folder."""
    shared_workspace.put("/Shared/code/abc/training/marker_of_a_test.py", "WHERE = __file__\n")
    path = shared_workspace.put(
        "/Shared/code/abc/training/training_job.py",
        "import pathlib, sys\n"
        "sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))\n"
        "import training, training.marker_of_a_test as marker\n"
        "print(training.__file__ or list(training.__path__), marker.WHERE)\n",
    )
    shared_workspace.put("/Shared/code/abc/training/__init__.py", '"""Published."""\n')
    run = shared_workspace.wait(shared_workspace.submit(python_task("main", path)))
    logs = shared_workspace.output(run["tasks"][0]["run_id"])["logs"]
    assert result(run) == "SUCCESS", logs
    assert logs.count(str(shared_workspace.folder)) == 2


def test_failing_script_reports_its_traceback_as_error(shared_workspace):
    run = shared_workspace.run_script("print('before')\nraise ValueError('the label column is missing')\n")
    output = shared_workspace.output(run["tasks"][0]["run_id"])
    assert result(run) == "FAILED"
    assert output["error"].startswith("Traceback")
    assert output["error"].rstrip().endswith("ValueError: the label column is missing")
    assert "before" in output["logs"]


def test_script_that_exits_without_traceback_reports_its_last_lines(shared_workspace):
    run = shared_workspace.run_script("import sys\nsys.exit('no such file: x.csv')\n")
    assert "no such file: x.csv" in shared_workspace.output(run["tasks"][0]["run_id"])["error"]


STUBBORN = """
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""


def test_cancel_ends_the_script_and_its_children_and_the_run_is_canceled(shared_workspace, tmp_path):
    note = tmp_path / "pids"
    path = shared_workspace.put("/Shared/stubborn.py", STUBBORN)
    run_id = shared_workspace.submit(python_task("main", path, str(note)))
    pids = [int(pid) for pid in shared_workspace.wait_for(note).split()]
    shared_workspace.call("POST", "2.2/jobs/runs/cancel", json={"run_id": run_id})
    run = shared_workspace.wait(run_id)
    assert result(run) == "CANCELED"
    assert run["tasks"][0]["state"]["result_state"] == "CANCELED"
    assert not [pid for pid in pids if runs(pid)]


def test_task_that_passes_its_time_limit_is_ended_with_its_children(shared_workspace, tmp_path):
    note = tmp_path / "pids"
    path = shared_workspace.put("/Shared/stubborn.py", STUBBORN)
    limited = python_task("main", path, str(note), timeout_seconds=6)  # and time enough to start
    run = shared_workspace.wait(shared_workspace.submit(limited))
    assert run["tasks"][0]["state"]["result_state"] == "TIMEDOUT"
    assert not [pid for pid in note.read_text().split() if runs(int(pid))]


def test_child_left_running_by_a_finished_script_is_ended(shared_workspace, tmp_path):
    note = tmp_path / "pid"
    text = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open(sys.argv[1], 'w').write(str(child.pid))\n"
    )
    run = shared_workspace.run_script(text, str(note))
    assert result(run) == "SUCCESS"
    assert eventually(lambda: not runs(int(note.read_text())))


def test_more_tasks_than_cores_run_at_once(shared_workspace, tmp_path):
    """Each of ten tasks waits until all ten have started."""
    path = shared_workspace.put(
        "/Shared/meet.py",
        "import pathlib, sys, time\n"
        "folder = pathlib.Path(sys.argv[1]); (folder / sys.argv[2]).touch()\n"
        "end = time.monotonic() + 60\n"
        "while len(list(folder.iterdir())) < 10:\n"
        "    assert time.monotonic() < end, 'the others did not start'\n"
        "    time.sleep(0.05)\n",
    )
    folder = tmp_path / "met"
    folder.mkdir()
    tasks = [python_task(f"t{number}", path, str(folder), str(number)) for number in range(10)]
    assert result(shared_workspace.wait(shared_workspace.submit(*tasks), 90)) == "SUCCESS"


@pytest.mark.parametrize("path", ["/Volumes/main/default/code/job.py", "dbfs:/Volumes/main/default/code/job.py"])
def test_script_in_a_volume_runs(shared_workspace, path):
    file = shared_workspace.folder / "dbfs/Volumes/main/default/code/job.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("print('from a volume')\n")
    run = shared_workspace.wait(shared_workspace.submit(python_task("main", path)))
    assert result(run) == "SUCCESS"
