"""Spark and DuckDB make the same tables of the same messy export: ``make test-spark``."""

import os
import sys
from datetime import timedelta
from types import SimpleNamespace

import pytest

from tests.support.nights import curate, inference, open_duckdb, process, rows, unpaired
from tests.support.simulate import CONTAINER, Export
from tests.training.inference_log.conftest import FIRST
from training.inference_log import outcomes
from use_cases.attrition import USE_CASE as ATTRITION
from use_cases.attrition.sample import make_sample

pytestmark = [pytest.mark.spark, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def session():
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": "2", "spark.log.level": "ERROR",
    }  # fmt: skip
    opened = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
    yield opened
    opened.stop()


def by_place(found):
    return sorted(str(sorted((key, str(value)) for key, value in row.items())) for row in found)


def test_both_engines_make_the_same_tables_and_counts(session, tmp_path, monkeypatch):
    from training.inference_log.spark_engine import SparkEngine

    export = Export(tmp_path / "export", seed=1)
    export.messy_day(FIRST, requests=20)
    duck, spark = open_duckdb(tmp_path / "spill"), SparkEngine(session, ATTRITION)
    for number in range(2):
        night = FIRST + timedelta(days=number)
        expected = curate(duck, export, tmp_path / "duck", night)
        assert process(spark, export.root / CONTAINER, tmp_path / "spark", night) == expected
    assert len(export.rows) > 200
    for tables in (tmp_path / "duck", tmp_path / "spark"):
        assert inference(tables, export.rows) == export.rows
        assert unpaired(tables) == export.unpaired
    for table in ("inference", "unpaired", "quarantine"):
        assert by_place(rows(tmp_path / "spark", table)) == by_place(rows(tmp_path / "duck", table))

    # Reading a data file needs pandera, which this environment does not have.
    monkeypatch.setattr(outcomes, "read_table", lambda *_: SimpleNamespace(frame=make_sample(300, 1)))
    known = sorted({row["EmployeeNumber"] for row in export.rows.values()})
    drops = [f"{number},{'Yes' if number % 3 else 'No'},{FIRST + timedelta(days=9)}" for number in known]
    (tmp_path / "feed").mkdir()
    (tmp_path / "feed" / "november.csv").write_text("\n".join(["EmployeeNumber,Attrition,effective_date", *drops]))
    found = [
        outcomes.label(engine, tmp_path / name, FIRST, ATTRITION, feed=tmp_path / "feed", original="")
        for engine, name in ((duck, "duck"), (spark, "spark"))
    ]
    assert found[0] == found[1]
    assert found[0].labelled > 20
    for table in ("labelled", "training"):
        assert by_place(rows(tmp_path / "spark", table)) == by_place(rows(tmp_path / "duck", table))
