"""Spark and the embedded engine make the same tables of the same batch: ``make test-spark``."""

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.spark import local_session
from training.use_case import load

pytestmark = [pytest.mark.spark, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def session():
    yield from local_session()


def rows(tables, table, *, numbered):
    """Sorted by what tells them apart. Spark numbers no rows of Parquet."""
    found = [row for folder in sorted((tables / table).glob("day=*")) for row in pq.read_table(folder).to_pylist()]
    compared = found if numbered else [{**row, "row": None} for row in found]
    return sorted(compared, key=lambda row: str(row.get("record", sorted(row.items()))))


@pytest.mark.parametrize(
    ("name", "read", "refused"), [("in.parquet", 500, 2), ("in.csv", 500, 2), ("broken.csv", 501, 7)]
)
def test_both_engines_score_the_same_rows_to_the_same_figures(session, tmp_path, monkeypatch, name, read, refused):
    from tests.support.batch_example import DAY, PINNED
    from training.batch import run, spark
    from training.inference_log.spark_engine import SparkEngine

    example = Path(os.environ["BATCH_EXAMPLE"])
    # Delta needs packages that only a cluster has: the same engine on Parquet.
    monkeypatch.setattr(spark, "open_spark", lambda use_case: SparkEngine(session, use_case))
    monkeypatch.setattr(run, "on_databricks", lambda: True)
    batch = run.score_table(load("attrition"), example / "bundle", PINNED, str(example / name), tmp_path, DAY)
    assert (batch.rows, batch.scored, batch.rejected) == (read, read - refused, refused)
    numbered = name.endswith(".csv")
    for table in ("scores", "rejected_rows"):
        found, expected = (rows(tables, table, numbered=numbered) for tables in (tmp_path, example / "tables" / name))
        assert found == expected
    assert not list(tmp_path.glob(".scoring-*"))
