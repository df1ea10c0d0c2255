"""Requests of a release's own verification are kept in the tables, and count for nothing."""

import duckdb
import pytest

from serving.verify.client import REQUEST_ID_PREFIX
from training.inference_log.statements import statement


@pytest.fixture
def engine():
    with duckdb.connect() as connection:
        yield connection


def test_window_leaves_verification_requests_out(engine):
    engine.execute(
        "CREATE TABLE day_rows AS SELECT * FROM (VALUES "
        "(1, 'hr-1', 0, TIMESTAMP '2026-11-01 08:00:00', '2', 0.1, FALSE),"
        f"(1, '{REQUEST_ID_PREFIX}ab', 0, TIMESTAMP '2026-11-01 09:00:00', '2', 0.9, TRUE),"
        f"(7, '{REQUEST_ID_PREFIX}ab', 1, TIMESTAMP '2026-11-01 09:00:00', '2', 0.9, TRUE)"
        ") AS t(EmployeeNumber, request_id, record, event_time, model_version, prediction, is_outlier)"
    )
    rows = engine.execute(
        statement("window.sql", columns="EmployeeNumber, prediction", entity="EmployeeNumber", version="2")
    ).fetchall()
    assert [(number, float(prediction)) for number, prediction in rows] == [(1, 0.1)]


def test_outcome_is_joined_with_the_employees_record_and_not_with_a_golden_answer(engine):
    engine.execute(
        "CREATE TABLE outcomes AS SELECT 1 AS EmployeeNumber, 'Yes' AS Attrition, DATE '2026-11-05' AS effective_date,"
        " 'f' AS file, 1 AS row_no"
    )
    engine.execute(
        "CREATE TABLE inference AS SELECT 1 AS EmployeeNumber, id AS request_id, 0 AS record, t AS event_time,"
        " 'n' AS source_night, 's' AS source_file, o AS source_offset, '2026-11-02' AS curated_night,"
        " 'm' AS model_name, '2' AS model_version, p AS prediction FROM (VALUES "
        "('hr-1', TIMESTAMP '2026-11-01 08:00:00', 1, 0.1),"
        f"('{REQUEST_ID_PREFIX}ab', TIMESTAMP '2026-11-01 09:00:00', 2, 0.9)) AS t(id, t, o, p)"
    )
    labelled = statement(
        "labelled.sql", night="2026-11-06", key="EmployeeNumber", label="Attrition", features="i.EmployeeNumber",
        horizon_days="365",
    )  # fmt: skip
    rows = engine.execute(f"SELECT request_id FROM ({labelled})").fetchall()
    assert rows == [("hr-1",)]
