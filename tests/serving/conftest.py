"""Bundles and applications of the serving tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.scoring.bundle import Bundle
from tests.support.serving_bundles import Attrition, write_flats
from tests.support.serving_processes import Server


@pytest.fixture(scope="session")
def attrition(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Attrition:
    """The attrition bundle, trained on the real data."""
    return Attrition(tmp_path_factory.mktemp("attrition") / "bundle", real_data)


@pytest.fixture(scope="session")
def bundle(attrition: Attrition) -> Bundle:
    """The attrition bundle, loaded."""
    return Bundle.load(attrition.folder)


@pytest.fixture(scope="session")
def flats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a bundle that has no field in common with attrition."""
    folder = tmp_path_factory.mktemp("flats") / "bundle"
    write_flats(folder)
    return folder


@pytest.fixture(scope="session")
def server(attrition: Attrition, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server of the attrition bundle, for tests that do not change it."""
    with Server(tmp_path_factory.mktemp("server"), attrition.folder) as running:
        yield running
