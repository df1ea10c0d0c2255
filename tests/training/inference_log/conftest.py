"""Fixtures for the curation's tests: an engine, and a small run of several messy nights with its truth."""

from datetime import timedelta

import pytest

from tests.support.nights import FIRST, curate, open_duckdb
from tests.support.simulate import Export


@pytest.fixture
def engine(tmp_path):
    opened = open_duckdb(tmp_path / "spill")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    """Three days with every fault, curated night by night: (export, tables folder, counts by night)."""
    home = tmp_path_factory.mktemp("messy")
    export = Export(home / "export", seed=1)
    for number in range(3):
        export.messy_day(FIRST + timedelta(days=number), requests=50)
    # Others make the same bytes of it with one.
    engine = open_duckdb(home / "spill", threads=2)
    nights = [FIRST + timedelta(days=number) for number in range(4)]
    counts = {night: curate(engine, export, home / "tables", night) for night in nights}
    engine.close()
    return export, home / "tables", counts
