"""What a release asks for its own verification labels nobody, and a request id hides nothing."""

import duckdb
import pytest

from serving.scoring.contract import RELEASE_CLIENT
from training.inference_log.statements import statement


@pytest.mark.parametrize(
    ("request_id", "client", "joined"),
    [
        ("hr-2", RELEASE_CLIENT, "hr-1"),
        ("verify-ab", RELEASE_CLIENT, "hr-1"),
        ("verify-ab", "hr", "verify-ab"),
        ("hr-2", None, "hr-2"),
    ],
)
def test_outcome_is_joined_with_the_newest_record_that_no_release_asked_for(request_id, client, joined):
    with duckdb.connect() as engine:
        engine.execute(
            "CREATE TABLE outcomes AS SELECT 1 AS EmployeeNumber, 'Yes' AS Attrition,"
            " DATE '2026-11-05' AS effective_date, 'f' AS file, 1 AS row_no"
        )
        engine.execute(
            "CREATE TABLE inference AS SELECT 1 AS EmployeeNumber, id AS request_id, 0 AS record, t AS event_time,"
            " 'n' AS source_night, 's' AS source_file, o AS source_offset, '2026-11-02' AS curated_night,"
            " 'm' AS model_name, '2' AS model_version, p AS prediction, c AS client FROM (VALUES "
            "('hr-1', TIMESTAMP '2026-11-01 08:00:00', 1, 0.1, 'hr'),"
            "(?, TIMESTAMP '2026-11-01 09:00:00', 2, 0.9, ?)) AS t(id, t, o, p, c)",
            [request_id, client],
        )
        labelled = statement(
            "labelled.sql", night="2026-11-06", key="EmployeeNumber", label="Attrition", features="i.EmployeeNumber",
            horizon_days="365", release_client=RELEASE_CLIENT,
        )  # fmt: skip
        assert engine.execute(f"SELECT request_id FROM ({labelled})").fetchall() == [(joined,)]
