"""Look-ups before something is made are complete, however small the registry's pages are."""

from types import SimpleNamespace

import pytest
from mlflow.store.entities import PagedList

from training.registry import tags
from training.registry.versions import version_of_run, versions_of


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


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_every_page_is_read(count):
    registry = Registry(count)
    assert [found.version for found in versions_of(registry, "m")] == [str(n) for n in range(1, count + 1)]
    assert set(registry.asked) == {"name = 'm'"}


def test_version_of_a_run_is_found_on_the_last_page_and_not_made_up():
    assert version_of_run(Registry(7), "m", "run7", "key7").version == "7"
    assert version_of_run(Registry(7), "m", "run8", "key8") is None
    assert version_of_run(Registry(7), "m", "run7", "of another job") is None
