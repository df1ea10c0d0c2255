"""Fields may have any name: the tables spell them so that SQL takes them, and nothing is lost on the way."""

import json
import math
import random
from datetime import timedelta

import duckdb
import pytest

from serving.scoring.contract import OutlierRule
from serving.scoring.encode import encode_fields
from serving.scoring.records import RecordReader
from tests.support.nights import FIRST, curate, inference, open_duckdb, rows, unpaired
from tests.support.simulate import Export
from tests.support.tenants import TENANTS
from training.export.contract import request_contract
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


def awkward(rng, kind):
    """A value of a field as some client writes it into its JSON."""
    if kind == "category":
        texts = ['"top"', '"\\u0074op"', '"l\'\\u00e9tage"', '"\\ud83d\\ude00"', '"a\\/b"', '"\\t"', '""', '" top "',
                 '"null"', '"}{"', '"00042"', '"4.20"', '"true"', "null"]  # fmt: skip
        return rng.choice(texts)
    whole = str(rng.randint(0, 1))
    made = repr(rng.uniform(0, 1000)) if kind == "number" else str(rng.randint(0, 1))
    spelled = [whole, f"{whole}.0", f"{whole}e0", f"{whole}.00E0", "-0", "-0.0", "0e999", "1.0000000000000000000001",
               "0.99999999999999999999999", "null", made]  # fmt: skip
    numbers = ["5e-324", "1e-400", "0.1", "1e-5", "123.456789012345678901234567890", "2e2", made]
    return rng.choice([*spelled, *(numbers if kind == "number" else [])])


def test_table_holds_what_was_scored_however_the_request_spelled_it(tmp_path):
    rng = random.Random(4)
    columns, engine = record_columns(TENANTS), open_duckdb(tmp_path / "spill", use_case=TENANTS)
    reader = RecordReader(request_contract(TENANTS, OutlierRule(1, 1.0, -0.5), 10))
    selected = ", ".join(f"{column.from_text} AS {column.name}" for column in columns)
    for _ in range(300):
        members = (f"{json.dumps(column.field)}: {awkward(rng, column.kind)}" for column in columns)
        record = "{" + ", ".join(members) + "}"
        scored = reader.read(f"[{record}]".encode())[0]
        (row,) = engine.query(f"SELECT {selected} FROM (SELECT as_record({sql_text(record)}) AS r)")
        logged = encode_fields({column.field: [row[column.name]] for column in columns}, TENANTS)[0]
        assert scored.tolist() == pytest.approx(logged.tolist(), rel=0, abs=0, nan_ok=True), record
        texts = {column.field: row[column.name] for column in columns if column.kind == "category"}
        assert texts == {name: value for name, value in json.loads(record).items() if name in texts}, record
        numbers = [row[column.name] for column in columns if column.kind == "number"]
        assert not any(math.copysign(1, number) < 0 for number in numbers if number is not None), record
    engine.close()
