"""Fixtures for the embedded stack's tests: real processes with homes and ports of their own."""

import pytest

from tests.support.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    """A MiniLake of this test alone, started through our launcher."""
    with Workspace(tmp_path / "minilake") as running:
        yield running


@pytest.fixture(scope="module")
def shared_workspace(tmp_path_factory):
    """A MiniLake that the tests of a module share."""
    with Workspace(tmp_path_factory.mktemp("minilake")) as running:
        yield running
