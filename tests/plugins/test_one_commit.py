"""Two commits and one image: DAG files of the image's own commit count, the others are one error that says why."""

import subprocess
from pathlib import Path

import pytest
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag

from lifecycle.one_commit import REVISION_VARIABLE, OneCommitBundle, OtherCommit, fault

DAG = '''"""A DAG file."""
from airflow.sdk import DAG
from lifecycle.settings import {name}
dag = DAG("mine")
'''


class Repository:
    """A git repository whose second commit asks for what the first one's plugins do not have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "dags").mkdir(parents=True)
        self._git("init", "--quiet", "--initial-branch", "main")
        self.first = self.commit("Settings")
        self.second = self.commit("NotInThisImage")

    def commit(self, name: str) -> str:
        for file in ("one.py", "other.py"):
            text = DAG.format(name=name).replace("mine", file[:-3])
            (self.folder / "dags" / file).write_text(text)
        self._git("add", ".")
        self._git("-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "--quiet", "--message", name)
        return self._git("rev-parse", "HEAD")

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Repository:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "bundles"))
    found = Repository(tmp_path / "repository")
    monkeypatch.setenv(REVISION_VARIABLE, found.first)
    return found


def bundle(repository: Repository, ref: str, version: str | None = None) -> OneCommitBundle:
    url = f"file://{repository.folder}"
    return OneCommitBundle(name="lifecycle", version=version, tracking_ref=ref, subdir="dags", repo_url=url)


def parsed(found: OneCommitBundle) -> DagBag:
    """What Airflow makes of the bundle's files."""
    return DagBag(dag_folder=found.path, bundle_path=found.path, bundle_name=found.name, load_op_links=False)


def test_dag_files_of_the_images_commit_are_read(repository):
    found = bundle(repository, repository.first)
    found.initialize()
    bag = parsed(found)
    assert bag.import_errors == {}
    assert sorted(bag.dags) == ["one", "other"]
    assert found.get_current_version().version == repository.first


def test_dag_files_of_another_commit_are_one_import_error_that_names_both(repository):
    found = bundle(repository, repository.second)
    found.initialize()
    bag = parsed(found)
    assert bag.dags == {}
    (said,) = bag.import_errors.values()
    assert f"the DAG files are of commit {repository.second}, and the image of commit {repository.first}" in said
    assert "roll both out together" in said
    assert "cannot import name" not in said


def test_branch_that_moves_on_is_noticed_and_so_is_its_way_back(repository):
    found = bundle(repository, "main")
    found.initialize()
    assert parsed(found).dags == {}
    subprocess.run(["git", "reset", "--quiet", "--hard", repository.first], cwd=repository.folder, check=True)
    found.refresh()
    assert sorted(parsed(found).dags) == ["one", "other"]


def test_task_of_a_run_that_began_with_another_commit_fails_with_the_same_words(repository):
    with pytest.raises(OtherCommit, match="Run with latest bundle version"):
        bundle(repository, repository.first, version=repository.second).initialize()
    own = bundle(repository, repository.first, version=repository.first)
    own.initialize()
    assert sorted(parsed(own).dags) == ["one", "other"]


@pytest.mark.parametrize("said", ["", "unknown", "main", "f6ea781"])
def test_image_that_does_not_say_its_commit_takes_no_dag_files(repository, monkeypatch, said):
    monkeypatch.setenv(REVISION_VARIABLE, said)
    found = bundle(repository, repository.first)
    found.initialize()
    (message,) = parsed(found).import_errors.values()
    assert "build it with --build-arg REVISION=" in message
    assert repr(said) in message


def test_nothing_is_wrong_with_one_commit():
    assert fault("ab" * 20, "ab" * 20) == ""


def test_airflow_makes_the_bundle_from_the_charts_values(repository, monkeypatch):
    """As delivery/values.yaml names it, with what the roll-out adds."""
    import json

    import yaml

    values = yaml.safe_load((Path(__file__).resolve().parents[2] / "delivery" / "values.yaml").read_text())
    (entry,) = values["dagProcessor"]["dagBundleConfigList"]
    entry["kwargs"] |= {"tracking_ref": repository.first, "repo_url": f"file://{repository.folder}"}
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([entry]))
    found = DagBundlesManager().get_bundle("lifecycle")
    assert isinstance(found, OneCommitBundle)
    found.initialize()
    assert sorted(parsed(found).dags) == ["one", "other"]
