"""Published code: a content hash over exactly what a job needs, published once."""

import base64
import subprocess
import sys
from pathlib import PurePosixPath

import pytest

from lifecycle.hooks.databricks import WorkspaceHook
from lifecycle.tasks import publish
from training.use_case import load


class Workspace:
    """A workspace in memory with the three calls of the hook."""

    def __init__(self):
        self.files = {}
        self.folders = set()
        self.writes = 0
        self.fail_after = None

    def exists(self, path):
        return path in self.files

    def make_folder(self, path):
        self.folders |= {path, *(str(parent) for parent in PurePosixPath(path).parents)}

    def write_file(self, path, content):
        if self.fail_after is not None and self.writes >= self.fail_after:
            raise ConnectionError("killed")
        assert path.rpartition("/")[0] in self.folders, "Databricks refuses a file in a folder that is not there"
        self.writes += 1
        self.files[path] = content


@pytest.fixture
def tree(tmp_path):
    for name, text in {
        "training/training_job.py": "print(1)",
        "training/sql/x.sql": "select 1",
        "training/__pycache__/run.pyc": "",
        "serving/__init__.py": "",
        "serving/app.py": "flask",
        "serving/scoring/encode.py": "x = 1",
        "use_cases/__init__.py": "",
        "use_cases/other/__init__.py": "USE_CASE = 2",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


class Elsewhere:
    """A use case whose folder lies outside the repository."""

    name = "mine"

    def __init__(self, folder):
        self.folder = folder


@pytest.fixture
def use_case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("definitions") / "mine"
    for name in ("__init__.py", "search.py", "data/rows.csv", "data/notes.json", "README.md", "texts/words.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return Elsewhere(folder)


def test_code_is_the_training_package_the_scoring_library_and_the_use_case_without_its_data(tree, use_case):
    assert list(publish.code_files(use_case, tree)) == [
        "serving/__init__.py",
        "serving/scoring/encode.py",
        "training/sql/x.sql",
        "training/training_job.py",
        "use_cases/__init__.py",
        "use_cases/mine/__init__.py",
        "use_cases/mine/search.py",
        "use_cases/mine/texts/words.json",
    ]


def test_change_to_another_use_case_leaves_the_hash_alone_and_one_to_its_own_does_not(tree, use_case):
    before = publish.content_hash(publish.code_files(use_case, tree))
    (tree / "use_cases/other/__init__.py").write_text("USE_CASE = 3")
    assert publish.content_hash(publish.code_files(use_case, tree)) == before
    (use_case.folder / "__init__.py").write_text("y")
    assert publish.content_hash(publish.code_files(use_case, tree)) != before


def test_published_code_of_a_real_use_case_can_be_imported_on_its_own(tmp_path):
    for name, content in publish.code_files(load("attrition")).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    program = "from training.use_case import load_all; print(*(found.name for found in load_all()[0]), load_all()[1])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.stdout == "attrition ()\n", done.stderr


def test_hash_follows_content_and_name(tree, use_case):
    before = publish.content_hash(publish.code_files(use_case, tree))
    assert before == publish.content_hash(publish.code_files(use_case, tree))
    (tree / "training/training_job.py").write_text("print(2)")
    assert publish.content_hash(publish.code_files(use_case, tree)) != before


def test_publishing_twice_writes_once(tree, use_case):
    workspace = Workspace()
    first = publish.publish(workspace, use_case, "/Shared/code", tree)
    writes = workspace.writes
    assert publish.publish(workspace, use_case, "/Shared/code", tree) == first
    assert workspace.writes == writes
    assert workspace.files[f"{first['path']}/training/training_job.py"] == b"print(1)"


def test_publishing_that_was_killed_is_completed_by_the_next_try(tree, use_case):
    workspace = Workspace()
    workspace.fail_after = 2
    with pytest.raises(ConnectionError):
        publish.publish(workspace, use_case, "/Shared/code", tree)
    workspace.fail_after = None
    done = publish.publish(workspace, use_case, "/Shared/code", tree)
    published = {path.removeprefix(done["path"] + "/") for path in workspace.files}
    assert published == {*publish.code_files(use_case, tree), publish.MARKER}


def test_git_revision_can_be_said_where_there_is_no_checkout(tree, monkeypatch):
    monkeypatch.setenv("LIFECYCLE_GIT_REVISION", "cafe")
    assert publish.git_revision(tree) == "cafe"
    monkeypatch.delenv("LIFECYCLE_GIT_REVISION")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tree.parent))
    assert publish.git_revision(tree) == "unknown"


def test_hook_writes_files_as_databricks_wants_them(monkeypatch):
    calls = []
    hook = WorkspaceHook()
    monkeypatch.setattr(hook, "_do_api_call", lambda endpoint, body: calls.append((endpoint, body)))
    hook.write_file("/Shared/a.py", b"x = 1")
    assert calls == [
        (
            ("POST", "2.0/workspace/import"),
            {
                "path": "/Shared/a.py",
                "content": base64.b64encode(b"x = 1").decode(),
                "format": "AUTO",
                "overwrite": True,
            },
        )
    ]
