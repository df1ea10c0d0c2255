"""Job definitions and results of the embedded workspace, as Databricks has them."""

import base64
import zipfile

import pytest
import requests

from tests.support.workspace import WAIT, python_task, result

pytestmark = pytest.mark.stack

PRINT_ARGUMENTS = "import sys\nprint('|'.join(sys.argv[1:]))\n"


def logs(workspace, run):
    return workspace.output(run["tasks"][0]["run_id"])["logs"].strip()


@pytest.mark.parametrize("version", ["2.0", "2.1", "2.2"])
def test_every_version_of_the_jobs_api_is_answered(shared_workspace, version):
    assert shared_workspace.call("GET", f"{version}/jobs/runs/list")["has_more"] is False


def test_single_task_body_becomes_a_task_named_after_the_run(shared_workspace):
    path = shared_workspace.put("/Shared/args.py", PRINT_ARGUMENTS)
    body = {"run_name": "score", "spark_python_task": {"python_file": path, "parameters": ["a"]}}
    run_id = shared_workspace.call("POST", "2.1/jobs/runs/submit", json=body)["run_id"]
    run = shared_workspace.wait(run_id)
    assert [task["task_key"] for task in run["tasks"]] == ["score"]
    assert logs(shared_workspace, run) == "a"


def test_tasks_have_ids_and_start_times_from_the_first_moment_and_keep_them(shared_workspace, tmp_path):
    path, end = shared_workspace.put("/Shared/short.py", WAIT), tmp_path / "end"
    second = python_task("second", path, str(end), depends_on=[{"task_key": "first"}])
    run_id = shared_workspace.submit(python_task("first", path, str(end)), second)
    early = shared_workspace.run(run_id)["tasks"]
    assert [task["task_key"] for task in early] == ["first", "second"]
    assert all(task["start_time"] and task["run_id"] for task in early)
    single = shared_workspace.run(early[1]["run_id"])
    assert single["state"]["life_cycle_state"] == "PENDING"
    assert f"/run/{run_id}?key=" in single["run_page_url"]
    end.touch()
    run = shared_workspace.wait(run_id)
    assert [task["run_id"] for task in run["tasks"]] == [task["run_id"] for task in early]
    assert run["tasks"][0]["end_time"] <= run["tasks"][1]["start_time"]
    assert shared_workspace.run(early[0]["run_id"])["state"]["result_state"] == "SUCCESS"


def test_page_of_a_run_shows_tasks_and_output_to_a_browser_and_no_other_run(shared_workspace):
    """The link *See Databricks Job Run* opened an editor of queries that said 'invalid access token'."""
    path = shared_workspace.put("/Shared/loud.py", "print('trial 1 of 3 <b>best</b>')\n")
    first, second = (shared_workspace.wait(shared_workspace.submit(python_task("main", path))) for _ in range(2))
    page = first["run_page_url"]
    answer = requests.get(page, timeout=10)
    assert answer.status_code == 200
    assert "<td>main</td><td>success" in answer.text
    assert "trial 1 of 3 &lt;b&gt;best&lt;/b&gt;" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "refresh" not in answer.text, "it has ended"
    address, _, key = page.partition("?key=")
    others = (address, f"{address}?key=", f"{page}0", f"{second['run_page_url'].partition('?')[0]}?key={key}")
    assert {requests.get(url, timeout=10).status_code for url in others} == {403}


def test_task_after_a_failed_one_is_skipped_and_has_its_id(shared_workspace):
    bad = shared_workspace.put("/Shared/bad.py", "raise SystemExit(3)\n")
    second = python_task("second", bad, depends_on=[{"task_key": "first"}])
    run = shared_workspace.wait(shared_workspace.submit(python_task("first", bad), second))
    assert result(run) == "FAILED"
    assert run["tasks"][1]["state"]["life_cycle_state"] == "SKIPPED"
    assert run["tasks"][1]["run_id"]


def test_task_of_an_unknown_type_fails_the_run_and_names_it(shared_workspace):
    run_id = shared_workspace.submit({"task_key": "transform", "dbt_task": {"commands": ["dbt run"]}})
    run = shared_workspace.wait(run_id)
    assert result(run) == "FAILED"
    assert run["state"]["state_message"] == "task type not supported by the embedded workspace: transform"


def test_job_cluster_variables_reach_the_tasks_that_name_the_cluster(shared_workspace):
    path = shared_workspace.put("/Shared/env.py", "import os\nprint(os.environ['REGION'])\n")
    clusters = [{"job_cluster_key": "small", "new_cluster": {"spark_env_vars": {"REGION": "north"}}}]
    run_id = shared_workspace.submit(python_task("main", path, job_cluster_key="small"), job_clusters=clusters)
    assert logs(shared_workspace, shared_workspace.wait(run_id)) == "north"


def test_job_parameters_replace_their_references_and_defaults_fill_the_rest(shared_workspace):
    path = shared_workspace.put("/Shared/args.py", PRINT_ARGUMENTS)
    task = python_task("main", path, "{{job.parameters.day}}", "x={{job.parameters.size}}", "{{task.name}}")
    parameters = [{"name": "day", "default": "never"}, {"name": "size", "default": "10"}]
    body = {"name": "nightly", "tasks": [task], "parameters": parameters}
    job_id = shared_workspace.call("POST", "2.2/jobs/create", json=body)["job_id"]
    given = {"job_id": job_id, "job_parameters": {"day": "2026-11-20"}}
    run_id = shared_workspace.call("POST", "2.2/jobs/run-now", json=given)["run_id"]
    assert logs(shared_workspace, shared_workspace.wait(run_id)) == "2026-11-20|x=10|main"
    plain = shared_workspace.call("POST", "2.2/jobs/run-now", json={"job_id": job_id})["run_id"]
    assert logs(shared_workspace, shared_workspace.wait(plain)) == "never|x=10|main"


def test_notebook_task_gets_job_parameters_by_name(shared_workspace):
    header = "# Databricks notebook source\n"
    shared_workspace.put("/Shared/notebook.py", header + PRINT_ARGUMENTS)
    task = {"task_key": "main", "notebook_task": {"notebook_path": "/Shared/notebook", "base_parameters": {"b": "2"}}}
    body = {"name": "book", "tasks": [task], "parameters": [{"name": "a", "default": "1"}]}
    job_id = shared_workspace.call("POST", "2.2/jobs/create", json=body)["job_id"]
    run_id = shared_workspace.call("POST", "2.2/jobs/run-now", json={"job_id": job_id})["run_id"]
    assert logs(shared_workspace, shared_workspace.wait(run_id)) == "a=1|b=2"


def make_wheel(folder, body):
    """A wheel with one module and one entry point, written by hand."""
    path = folder / "greeter_of_a_test-1.0-py3-none-any.whl"
    info = "greeter_of_a_test-1.0.dist-info"
    files = {
        "greeter_of_a_test.py": body,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: greeter_of_a_test\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ngreet = greeter_of_a_test:main\n",
    }
    record = "".join(f"{name},,\n" for name in files) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return path


GREETER = "import sys\ndef main():\n    print('hello', *sys.argv[1:])\n"


@pytest.fixture
def wheel(shared_workspace, tmp_path):
    content = make_wheel(tmp_path, GREETER).read_bytes()
    path = "/Shared/wheels/greeter_of_a_test-1.0-py3-none-any.whl"
    body = {"path": path, "content": base64.b64encode(content).decode(), "format": "RAW", "overwrite": True}
    shared_workspace.call("POST", "2.0/workspace/import", json=body)
    return path


def test_wheel_task_runs_the_entry_point_of_a_wheel_from_its_libraries(shared_workspace, wheel):
    call = {"package_name": "greeter_of_a_test", "entry_point": "greet", "named_parameters": {"to": "world"}}
    run_id = shared_workspace.submit({"task_key": "main", "python_wheel_task": call, "libraries": [{"whl": wheel}]})
    run = shared_workspace.wait(run_id)
    assert result(run) == "SUCCESS", shared_workspace.output(run["tasks"][0]["run_id"])
    assert logs(shared_workspace, run) == "hello --to=world"


def test_wheel_task_without_its_wheel_fails_and_says_what_is_missing(shared_workspace):
    call = {"package_name": "greeter_of_a_test", "entry_point": "greet"}
    run = shared_workspace.wait(shared_workspace.submit({"task_key": "main", "python_wheel_task": call}))
    assert result(run) == "FAILED"
    error = shared_workspace.output(run["tasks"][0]["run_id"])["error"]
    assert "package 'greeter_of_a_test' is not installed: list its wheel in libraries" in error


def test_environment_dependencies_are_installed_for_the_task(shared_workspace, wheel):
    path = shared_workspace.put("/Shared/use.py", "import greeter_of_a_test as g, numpy\ng.main()\n")
    environments = [{"environment_key": "default", "spec": {"dependencies": [wheel, "numpy>=1"]}}]
    run_id = shared_workspace.submit(python_task("main", path, environment_key="default"), environments=environments)
    assert logs(shared_workspace, shared_workspace.wait(run_id)) == "hello"


def test_requirements_file_that_the_environment_meets_needs_no_installation(shared_workspace):
    file = "# pins\nnumpy>=1 \\\n    --hash=sha256:00\nwin-only==1 ; sys_platform == 'win32'\n"
    requirements = shared_workspace.put("/Shared/requirements.txt", file)
    path = shared_workspace.put("/Shared/args.py", PRINT_ARGUMENTS)
    library = {"requirements": f"/Workspace{requirements}"}
    run = shared_workspace.wait(shared_workspace.submit(python_task("main", path, "ok", libraries=[library])))
    assert logs(shared_workspace, run) == "ok"


def test_library_that_does_not_exist_fails_the_task_and_names_it(shared_workspace):
    path = shared_workspace.put("/Shared/args.py", PRINT_ARGUMENTS)
    libraries = [{"whl": "/Volumes/main/default/missing-1.0-py3-none-any.whl"}]
    run = shared_workspace.wait(shared_workspace.submit(python_task("main", path, libraries=libraries)))
    assert result(run) == "FAILED"
    assert "missing-1.0-py3-none-any.whl does not exist" in shared_workspace.output(run["tasks"][0]["run_id"])["error"]


def test_same_idempotency_token_returns_the_first_run(shared_workspace):
    path = shared_workspace.put("/Shared/args.py", PRINT_ARGUMENTS)
    task = python_task("main", path)
    first = shared_workspace.submit(task, idempotency_token="token-1")
    assert shared_workspace.submit(task, idempotency_token="token-1") == first
    assert shared_workspace.submit(task, idempotency_token="token-2") != first
