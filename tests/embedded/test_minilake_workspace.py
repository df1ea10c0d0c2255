"""Workspace files, access, and the version check of the embedded workspace."""

import base64

import pytest
import requests

from embedded.emulators.minilake.__main__ import check_version
from tests.support.workspace import TOKEN, Workspace, python_task, result

pytestmark = pytest.mark.stack

SCRIPT = "print('ran')\n"
NOTEBOOK = "# Databricks notebook source\nprint('ran')\n"


def status(workspace, path):
    return workspace.call("GET", "2.0/workspace/get-status", params={"path": path})


@pytest.mark.parametrize(
    ("form", "text", "stored", "kind"),
    [
        ("AUTO", SCRIPT, "job.py", "FILE"),
        ("RAW", SCRIPT, "job.py", "FILE"),
        ("RAW", NOTEBOOK, "job.py", "FILE"),
        ("SOURCE", SCRIPT, "job.py", "NOTEBOOK"),
        ("AUTO", NOTEBOOK, "job", "NOTEBOOK"),
    ],
)
def test_imported_object_has_databricks_type_and_path_and_runs(shared_workspace, tmp_path, form, text, stored, kind):
    folder = f"/Shared/{tmp_path.name}/b"  # new for each: nothing is there to be replaced
    shared_workspace.put(f"{folder}/job.py", text, form)
    assert status(shared_workspace, f"{folder}/{stored}")["object_type"] == kind
    run_id = shared_workspace.submit(python_task("main", f"{folder}/{stored}"))
    assert result(shared_workspace.wait(run_id)) == "SUCCESS"


@pytest.mark.parametrize("form", ["AUTO", "RAW"])
def test_file_that_is_no_python_keeps_its_bytes(shared_workspace, form):
    content = bytes(range(256))
    body = {"path": "/Shared/data/table.bin", "content": base64.b64encode(content).decode(), "format": form}
    shared_workspace.call("POST", "2.0/workspace/import", json=body | {"overwrite": True})
    answer = shared_workspace.call("GET", "2.0/workspace/export", params={"path": "/Shared/data/table.bin"})
    assert base64.b64decode(answer["content"]) == content


def test_workspace_prefix_names_the_same_file(shared_workspace):
    shared_workspace.put("/Workspace/Shared/prefix/job.py", SCRIPT)
    assert status(shared_workspace, "/Shared/prefix/job.py") == status(
        shared_workspace, "/Workspace/Shared/prefix/job.py"
    )
    run_id = shared_workspace.submit(python_task("main", "/Workspace/Shared/prefix/job.py"))
    assert result(shared_workspace.wait(run_id)) == "SUCCESS"


def test_existing_file_is_not_replaced_without_overwrite(shared_workspace):
    path = shared_workspace.put("/Shared/kept.py", SCRIPT)
    body = {"path": path, "content": "", "format": "AUTO"}
    answer = shared_workspace.call("POST", "2.0/workspace/import", json=body, expect=400)
    assert answer["error_code"] == "RESOURCE_ALREADY_EXISTS"


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}], ids=["none", "wrong"])
def test_request_without_the_token_is_refused(shared_workspace, headers):
    answer = requests.get(f"{shared_workspace.url}/api/2.2/jobs/list", headers=headers, timeout=10)
    assert answer.status_code == 403
    assert "databricks_default" in answer.json()["message"]


OF_A_WEB_PAGE = {"Origin": "https://evil.example", "Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/_minilake/reset"),
        ("POST", "/_minilake/reset?full=true"),
        ("POST", "/_minilake/health"),
        ("GET", "/_minilake/ready"),
        ("GET", "/_minilake/config"),
        ("POST", "/_minilake/config"),
        ("GET", "/ui/"),
        ("GET", "/openapi.json"),
        ("GET", "/_minilake/health/"),
    ],
)
def test_nothing_but_health_is_answered_without_the_token(shared_workspace, method, path):
    kept = shared_workspace.put("/Shared/not-reset.py", SCRIPT)
    answer = requests.request(method, f"{shared_workspace.url}{path}", headers=OF_A_WEB_PAGE, timeout=10)
    assert answer.status_code == 403
    assert status(shared_workspace, kept)["object_type"] == "FILE"


def test_reset_with_the_token_empties_the_workspace(workspace):
    workspace.put("/Shared/job.py", SCRIPT)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert requests.post(f"{workspace.url}/_minilake/reset", headers=headers, timeout=30).status_code == 200
    workspace.call("GET", "2.0/workspace/get-status", params={"path": "/Shared/job.py"}, expect=404)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
@pytest.mark.parametrize("path", ["/_minilake/health", "/api/2.2/jobs/list"])
def test_request_for_another_host_is_refused_with_the_token_too(shared_workspace, host, path):
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": host}
    assert requests.get(f"{shared_workspace.url}{path}", headers=headers, timeout=10).status_code == 400


def test_host_that_the_settings_name_is_answered(tmp_path):
    with Workspace(tmp_path / "minilake", MINILAKE_HOSTS="minilake") as running:
        answer = requests.get(
            f"{running.url}/_minilake/health", headers={"Host": f"minilake:{running.port}"}, timeout=10
        )
        assert answer.status_code == 200


def test_another_version_of_minilake_is_refused_with_what_to_do():
    with pytest.raises(SystemExit, match=r"minilake 1\.10\.0 is installed, but .* are for 1\.9\.0: run `make setup`"):
        check_version("1.10.0")
