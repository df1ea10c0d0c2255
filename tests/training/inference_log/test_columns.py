"""Fields may have any name: the tables spell them so that SQL takes them, and nothing is lost on the way."""

from datetime import timedelta

import duckdb
import pytest

from tests.support.nights import FIRST, curate, inference, open_duckdb, rows, unpaired
from tests.support.simulate import Export
from tests.support.tenants import TENANTS
from training.inference_log.sql_engine import record_columns, sql_text
from training.use_case import column_name

KEYWORDS = [word for (word,) in duckdb.sql("SELECT keyword_name FROM duckdb_keywords()").fetchall()]


def test_messy_export_of_a_use_case_with_odd_names_equals_its_truth(tmp_path):
    export = Export(tmp_path / "export", seed=1, use_case=TENANTS)
    export.messy_day(FIRST, requests=60)
    engine = open_duckdb(tmp_path / "spill", use_case=TENANTS)
    for number in range(3):
        curate(engine, export, tmp_path / "tables", FIRST + timedelta(days=number))
    engine.close()
    assert len(export.rows) > 100
    assert inference(tmp_path / "tables", export.rows) == export.rows
    assert unpaired(tmp_path / "tables") == export.unpaired
    assert {"tenant_no", "Monthly_Income_EUR", "order_", "newest_"} < rows(tmp_path / "tables", "inference")[0].keys()


def test_whole_number_keeps_every_digit_and_may_be_written_with_a_decimal_point(engine):
    (column,) = [one for one in record_columns(TENANTS) if one.field == "order"]
    for text, value in (("9007199254740993", 2**53 + 1), ("253.0", 253), ("2.5e2", 250), ("no", None), (None, None)):
        given = "NULL" if text is None else f"'{text}'"
        (found,) = engine.query(f"SELECT {column.from_text} AS n FROM (SELECT {{'order_': {given}}} AS r)")
        assert found["n"] == value


@pytest.mark.parametrize("text", ["", "plain", "it's", "'", "a\\b'c", "\\'\\'", "Größe {x}"])
def test_text_is_the_same_in_sql(text):
    assert duckdb.sql(f"SELECT {sql_text(text)}").fetchone() == (text,)


@pytest.mark.parametrize("name", ["Monthly Income (EUR)", "order", "1st_job", "naïve", "日付", *KEYWORDS])
def test_column_of_any_field_can_be_selected_and_grouped_by(name):
    column = column_name(name)
    query = f"SELECT t.{column}, {column} AS value FROM (SELECT 1 AS {column}) AS t GROUP BY t.{column}, {column}"
    assert duckdb.sql(f"{query} ORDER BY {column}").fetchall() == [(1, 1)]
