"""Look-ups before something is made are complete, however small the registry's pages are."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    NOT_FOUND,
    PERMISSION_DENIED,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)
from mlflow.store.entities import PagedList

from training.registry import tags
from training.registry.register import register
from training.registry.versions import (
    RegistryError,
    fetch_bundle,
    version_of_alias,
    version_of_number,
    version_of_run,
    versions_of,
)


class Registry:
    """Answers two versions a page, as Unity Catalog was seen to."""

    def __init__(self, count: int) -> None:
        self.versions = [self.version(n) for n in range(1, count + 1)]
        self.asked: list[str] = []

    @staticmethod
    def version(number: int, **own: str) -> SimpleNamespace:
        return SimpleNamespace(version=str(number), run_id=f"run{number}", tags=own)

    def get_model_version(self, model: str, version: str) -> SimpleNamespace:
        """With its tags, which the list of a registry may leave out."""
        return self.version(int(version), **{tags.RUN_KEY: f"key{version}"})

    def search_model_versions(self, query: str, page_token: str | None = None) -> PagedList:
        self.asked.append(query)
        start = int(page_token or 0)
        more = str(start + 2) if start + 2 < len(self.versions) else None
        return PagedList(self.versions[start : start + 2], more)


@pytest.mark.parametrize(
    ("challenger", "becomes"), [(None, "9"), ("8", "9"), ("9", "9"), ("10", "10")], ids=["none", "8", "9", "10"]
)
def test_try_that_died_before_the_alias_leaves_a_newer_challenger(challenger, becomes):
    """Cleared days later, its next try offered the older version for release."""
    client, moved = Registry(12), [challenger]

    def by_alias(model, alias):
        if challenger is None:
            raise MlflowException("no alias", error_code=RESOURCE_DOES_NOT_EXIST)
        return client.version(int(challenger))

    client.get_model_version_by_alias = by_alias
    client.set_registered_model_alias = lambda model, alias, version: moved.append(version)
    client.set_tag = lambda *_: None
    tracker = SimpleNamespace(client=client, model_name="m", run_key="key9")
    run = SimpleNamespace(info=SimpleNamespace(run_id="run9"), data=SimpleNamespace(tags={}))
    assert register(tracker, run, Path("bundle"), {}, dict).version == "9"
    assert moved[-1] == becomes


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_every_page_is_read(count):
    registry = Registry(count)
    assert [found.version for found in versions_of(registry, "m")] == [str(n) for n in range(1, count + 1)]
    assert set(registry.asked) == {"name = 'm'"}


def test_version_of_a_run_is_found_on_the_last_page_and_not_made_up():
    assert version_of_run(Registry(7), "m", "run7", "key7").version == "7"
    assert version_of_run(Registry(7), "m", "run8", "key8") is None
    assert version_of_run(Registry(7), "m", "run7", "of another job") is None


class Refusing:
    """Answers every question with one error."""

    def __init__(self, code: int) -> None:
        self.code = code

    def get_model_version(self, model: str, version: str) -> None:
        raise MlflowException("refused", error_code=self.code)

    get_model_version_by_alias = get_model_version


@pytest.mark.parametrize("look_up", [version_of_alias, version_of_number])
@pytest.mark.parametrize("code", [RESOURCE_DOES_NOT_EXIST, INVALID_PARAMETER_VALUE, NOT_FOUND])
def test_what_a_registry_does_not_hold_is_nothing(look_up, code):
    assert look_up(Refusing(code), "m", "1") is None


@pytest.mark.parametrize("look_up", [version_of_alias, version_of_number])
@pytest.mark.parametrize("code", [PERMISSION_DENIED, TEMPORARILY_UNAVAILABLE])
def test_any_other_answer_is_a_fault(look_up, code):
    with pytest.raises(MlflowException, match="refused"):
        look_up(Refusing(code), "m", "1")


@pytest.fixture
def registered(store, tmp_path):
    """Registers a folder as version of model ``m``; gives its number."""

    def register(*parts: str) -> str:
        folder = tmp_path / "model"
        for part in parts:
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            (folder / part).write_text(part)
        if not store.search_registered_models("name = 'm'"):
            store.create_registered_model("m")
        return str(store.create_model_version("m", str(folder)).version)

    return register


def test_bundle_takes_the_place_of_an_older_one(registered, tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "old").write_text("of another version")
    version = registered("MLmodel", "artifacts/bundle/contract.json")
    assert fetch_bundle("m", version, tmp_path / "bundle") == tmp_path / "bundle"
    assert [file.name for file in (tmp_path / "bundle").iterdir()] == ["contract.json"]


def test_version_without_a_bundle_is_refused_and_leaves_the_older_one(registered, tmp_path):
    (tmp_path / "bundle").mkdir()
    version = registered("MLmodel")
    with pytest.raises(RegistryError, match=f"model m version {version} holds no artifacts/bundle"):
        fetch_bundle("m", version, tmp_path / "bundle")
    assert (tmp_path / "bundle").is_dir()
