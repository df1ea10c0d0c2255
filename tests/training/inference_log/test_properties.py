"""However lines are delivered, the table is the same."""

import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.nights import FIRST, inference, open_duckdb, process, rows
from tests.support.simulate import CONTAINER, WORKSPACE, Export

BLOBS = [f"{WORKSPACE}/y=2026/m=11/d=02/h=09/m={minute:02d}/PT05M.json" for minute in (0, 5)]


def requests():
    """The lines of a few requests and the rows that they stand for."""
    export = Export(None, seed=5)
    for records in (1, 3, 40):
        export.request(export._moment(FIRST).replace(hour=9), records=records)
    return [text for _, text, _, _ in export._pending[FIRST]], export.rows


LINES, ROWS = requests()


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """One for all examples: it keeps views alone, and each night defines its own."""
    opened = open_duckdb(tmp_path_factory.mktemp("spill"))
    yield opened
    opened.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_repeated_reordered_and_split_deliveries_give_the_same_rows(tmp_path_factory, engine, data):
    home = tmp_path_factory.mktemp("property")
    copies = data.draw(st.lists(st.sampled_from(LINES), max_size=6), label="copies")
    order = data.draw(st.permutations([*LINES, *copies]), label="order")
    blob_of = data.draw(st.lists(st.sampled_from(BLOBS), min_size=len(order), max_size=len(order)), label="blobs")
    content = {blob: b"".join(t + b"\n" for t, b in zip(order, blob_of, strict=True) if b == blob) for blob in BLOBS}
    # The first night ends anywhere within a blob: in the middle of a line, or of a character.
    cut = {blob: data.draw(st.integers(0, len(text)), label="cut") for blob, text in content.items()}
    counts = []
    for night, ends in ((FIRST, cut), (FIRST.replace(day=3), {blob: len(text) for blob, text in content.items()})):
        for blob, text in content.items():
            path = home / "export" / CONTAINER / blob
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text[: ends[blob]])
        counts.append(process(engine, home / "export" / CONTAINER, home / "tables", night))
    assert inference(home / "tables", ROWS) == ROWS
    assert rows(home / "tables", "unpaired") == []
    assert sum(one.read for one in counts) == len(order)
    assert sum(one.kept for one in counts) == len(LINES)
    assert sum(one.duplicate for one in counts) == len(copies)
    shutil.rmtree(home)
