"""Spark and DuckDB make the same tables of the same messy export: ``make test-spark``."""

from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.nights import FIRST, curate, inference, open_duckdb, process, rows, unpaired
from tests.support.simulate import CONTAINER, Export
from tests.support.spark import local_session
from tests.support.tenants import KEYLESS, TENANTS
from training.data.dataset import Dataset
from training.data.synthetic import make_rows
from training.drift.window import read_window
from training.impact.records import read_records
from training.inference_log import outcomes
from use_cases.attrition import USE_CASE as ATTRITION

pytestmark = [pytest.mark.spark, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def session():
    yield from local_session()


def by_place(found):
    return sorted(str(sorted((key, str(value)) for key, value in row.items())) for row in found)


@pytest.mark.parametrize("use_case", [ATTRITION, TENANTS, KEYLESS], ids=lambda one: one.name)
def test_both_engines_make_the_same_tables_and_counts(session, tmp_path, use_case):
    from training.inference_log.spark_engine import SparkEngine

    export = Export(tmp_path / "export", seed=1, use_case=use_case)
    export.messy_day(FIRST, requests=20)
    duck, spark = open_duckdb(tmp_path / "spill", use_case=use_case), SparkEngine(session, use_case)
    for number in range(3):
        night = FIRST + timedelta(days=number)
        expected = curate(duck, export, tmp_path / "duck", night)
        assert process(spark, export.root / CONTAINER, tmp_path / "spark", night, use_case) == expected
    assert len(export.rows) > 200
    for tables in (tmp_path / "duck", tmp_path / "spark"):
        assert inference(tables, export.rows) == export.rows
        assert unpaired(tables) == export.unpaired
    for table in ("inference", "unpaired", "quarantine"):
        assert by_place(rows(tmp_path / "spark", table)) == by_place(rows(tmp_path / "duck", table))

    seen = [
        read_records(engine, tmp_path / name, use_case, FIRST + timedelta(days=9))
        for engine, name in ((duck, "duck"), (spark, "spark"))
    ]
    assert seen[0].rows == seen[1].rows > 0
    for name, column in seen[0].columns.items():
        assert sorted(map(str, seen[1].columns[name])) == sorted(map(str, column)), name
    original = outcomes.Original(Dataset(use_case, make_rows(use_case, 300, 1), "d"), "the first table")
    write_feed(tmp_path / "feed", use_case, export)
    found = [
        outcomes.label(
            engine, tmp_path / name, FIRST + timedelta(days=9), use_case, feed=tmp_path / "feed", original=original
        )
        for engine, name in ((duck, "duck"), (spark, "spark"))
    ]
    assert found[0] == found[1]
    assert found[0].labelled > 20 if use_case.key else found[0].labelled == 0
    for table in ("labelled", "training"):
        assert by_place(rows(tmp_path / "spark", table)) == by_place(rows(tmp_path / "duck", table))
    fields = [field.name for field in use_case.fields]
    windows = [
        read_window(engine, tmp_path / name, FIRST, use_case, fields, "1")
        for engine, name in ((duck, "duck"), (spark, "spark"))
    ]
    assert windows[0].used == windows[1].used > 100
    assert windows[0].counts == windows[1].counts


def write_feed(feed, use_case, export):
    """An outcome for every key of the export, and one of a later date."""
    feed.mkdir()
    key = use_case.columns[use_case.key or TENANTS.key]
    known = sorted({row[key] for row in export.rows.values()} - {None})
    label, days = use_case.label, (FIRST + timedelta(days=9), FIRST + timedelta(days=90))
    lines = [
        f"{one},{label.positive if number % 3 else label.negative},{day}"
        for day, keys in zip(days, (known, known[:1]), strict=True)
        for number, one in enumerate(keys)
    ]
    (feed / "november.csv").write_text("\n".join([f"{key},{label.field},effective_date", *lines]))


def test_both_engines_read_files_of_an_earlier_definition_as_todays(session, tmp_path):
    """Of four files one lacks a field, and two hold a field as another kind."""
    from training.inference_log.spark_engine import SparkEngine

    held = [
        {"n": [1, 2], "level": [3, None], "team": ["7", "a"]},
        {"n": [3], "level": ["4"], "team": [8]},
        {"n": [4], "team": [None]},
        {"level": ["5"], "n": [5], "team": [9], "gone": [1]},
    ]
    files = [tmp_path / f"{number}.parquet" for number in range(len(held))]
    for file, columns in zip(files, held, strict=True):
        table = pa.table(columns)
        pq.write_table(table.cast(pa.schema([_named(field) for field in table.schema])), file)
    declared = {"n": "BIGINT", "level": "STRING", "team": "BIGINT"}
    expected = [(1, "3", 7), (2, None, None), (3, "4", 8), (4, None, None), (5, "5", 9)]
    for engine in (open_duckdb(tmp_path / "spill", use_case=ATTRITION), SparkEngine(session, ATTRITION)):
        for chosen, values in ((files, expected), (files[:1], expected[:2])):
            engine.view("changed", chosen, declared)
            found = engine.query("SELECT * FROM changed ORDER BY n")
            assert [tuple(row.values()) for row in found] == values
            assert list(found[0]) == list(declared)


def _named(field):
    """Spark reads no column of the type null."""
    return pa.field(field.name, pa.string()) if pa.types.is_null(field.type) else field


def test_delta_table_that_holds_a_field_as_another_kind_is_named():
    from training.inference_log.spark_engine import KindError, refuse_other_kinds

    held = {"n": "bigint", "rate": "double", "team": "string"}
    refuse_other_kinds("inference", held, {"n": "double", "team": "string", "new": "string"})
    with pytest.raises(KindError, match="inference has column team as string, and the definition has made it bigint"):
        refuse_other_kinds("inference", held, {"n": "bigint", "team": "bigint"})
