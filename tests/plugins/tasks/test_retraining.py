"""Which nights a run closes, and what it copies through connection ``logs``."""

from datetime import UTC, date, datetime
from types import SimpleNamespace

import pytest
from airflow.models.connection import Connection
from airflow.sdk.exceptions import AirflowFailException

from lifecycle import settings
from lifecycle.hooks.log_storage import SourceError, open_source
from lifecycle.tasks import retraining as nights
from tests.support.airflow import USE_CASE, make_settings, run_task
from tests.support.simulate import CONTAINER, Export
from training.inference_log import landing, layout

TODAY = date(2026, 11, 10)


def judged(tables, *days):
    for day in days:
        layout.write_json(layout.night_folder(tables, "nights", date(2026, 11, day)) / layout.VERDICT, {})


def closes(tables, **more):
    return [night.day for night in nights.nights_to_close(tables, today=TODAY, **more)]


def test_first_run_closes_yesterday(tmp_path):
    assert closes(tmp_path) == [9]


def test_run_closes_all_nights_since_the_last_judged_one(tmp_path):
    judged(tmp_path, 4, 5)
    assert closes(tmp_path) == [6, 7, 8, 9]


def test_run_on_the_same_day_closes_yesterday_again(tmp_path):
    judged(tmp_path, 8, 9)
    assert closes(tmp_path) == [9]


def test_night_that_was_curated_and_not_judged_is_still_open(tmp_path):
    judged(tmp_path, 6)
    layout.write_json(layout.night_folder(tmp_path, "nights", date(2026, 11, 7)) / layout.COUNTS, {})
    assert closes(tmp_path) == [7, 8, 9]


def test_typed_range_is_closed_whatever_was_judged(tmp_path):
    judged(tmp_path, 1, 2, 3)
    assert closes(tmp_path, first="2026-11-02", last="2026-11-04") == [2, 3, 4]
    assert closes(tmp_path, last="2026-11-04") == [4]


def test_nights_that_a_typed_one_lay_ahead_of_are_closed_by_the_next_run(tmp_path):
    judged(tmp_path, 3, 4)
    assert closes(tmp_path, last="2026-11-07") == [5, 6, 7]
    judged(tmp_path, 7)  # by a typed range of this night alone
    assert closes(tmp_path) == [5, 6, 8, 9]
    assert closes(tmp_path, last="2026-11-07") == [5, 6]


def test_gap_of_long_ago_does_not_keep_yesterday_waiting(tmp_path):
    for night in (date(2026, 2, 1), *(date(2026, 10, day) for day in range(9, 32))):
        layout.write_json(layout.night_folder(tmp_path, "nights", night) / layout.VERDICT, {})
    judged(tmp_path, *range(1, 9))
    assert closes(tmp_path) == [9]


def test_nights_of_a_year_that_are_open_are_closed_a_month_at_a_time(tmp_path):
    layout.write_json(layout.night_folder(tmp_path, "nights", date(2025, 12, 31)) / layout.VERDICT, {})
    found = nights.nights_to_close(tmp_path, today=TODAY)
    assert (found[0], len(found)) == (date(2026, 1, 1), nights.MAX_NIGHTS)


def test_typed_range_of_a_year_is_refused_for_the_next_run_would_not_go_on_with_it(tmp_path):
    with pytest.raises(AirflowFailException, match="has 313 nights, and a run closes at most 31: close it in parts"):
        nights.nights_to_close(tmp_path, today=TODAY, first="2026-01-01")


def test_night_of_the_future_is_refused_and_not_kept(tmp_path):
    typed = context()
    typed["params"] = {"night_from": "2999-01-01", "night_to": "2999-01-02"}
    with pytest.raises(AirflowFailException, match="the night 2999-01-01 is still to come"):
        nights.nights_of_run(tmp_path, typed)
    later = context()
    later["dag_run"].logical_date = datetime(2999, 1, 2, tzinfo=UTC)
    with pytest.raises(AirflowFailException, match="the night 2999-01-01 is still to come"):
        nights.nights_of_run(tmp_path, later)
    assert layout.entries(tmp_path / "runs") == []


def test_range_that_ends_before_it_begins_is_refused(tmp_path):
    with pytest.raises(AirflowFailException, match="swap night_from and night_to"):
        closes(tmp_path, first="2026-11-05", last="2026-11-04")


def test_repeated_run_closes_the_same_nights_and_the_next_run_the_ones_after(tmp_path):
    judged(tmp_path, 1)
    due = [date(2026, 11, 2), date(2026, 11, 3)]
    first, second = context(run_id="r1", day=4), context(run_id="r2", day=5)
    assert nights.nights_of_run(tmp_path, first) == due
    judged(tmp_path, 2, 3)
    assert nights.nights_of_run(tmp_path, first) == due
    assert nights.nights_of_run(tmp_path, second) == [date(2026, 11, 4)]


@pytest.fixture
def configured(tmp_path, monkeypatch):
    changed = make_settings({"tables": str(tmp_path / "tables")})
    monkeypatch.setattr(settings, "load", lambda: changed)
    return changed


def context(run_id="r", day=3):
    due = datetime(2026, 11, day, 2, tzinfo=UTC)
    return {"params": {}, "dag_run": SimpleNamespace(logical_date=due, run_after=None, dag_id="d", run_id=run_id)}


def test_land_logs_copies_the_night_from_a_folder(tmp_path, configured, connections):
    export = Export(tmp_path / "export", half_written=0)
    export.messy_day(date(2026, 11, 2), requests=5)
    export.close(date(2026, 11, 2))
    connections["logs"] = Connection(conn_id="logs", conn_type="fs", extra={"path": str(tmp_path / "export")})
    found = run_task(nights.land_logs, context(), USE_CASE)
    assert found["nights"] == ["2026-11-02"]
    assert found["lines"] == export.counts[date(2026, 11, 2)]["read"]
    assert landing.read_manifest(tmp_path / "tables", date(2026, 11, 2)).lines == found["lines"]
    assert run_task(nights.land_logs, context(), USE_CASE) == found


def test_land_logs_of_an_export_that_has_not_begun_copies_nothing(tmp_path, configured, connections):
    connections["logs"] = Connection(conn_id="logs", conn_type="fs", extra={"path": str(tmp_path / "no")})
    assert run_task(nights.land_logs, context(), USE_CASE) == {"nights": ["2026-11-02"], "lines": 0, "bytes": 0}


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        (Connection(conn_id="logs", conn_type="fs"), "has no path"),
        (Connection(conn_id="logs", conn_type="s3"), "has type 's3': use wasb"),
    ],
    ids=["no path", "wrong type"],
)
def test_wrong_connection_says_what_to_set(connection, message, connections):
    connections["logs"] = connection
    with pytest.raises(SourceError, match=message):
        open_source(CONTAINER)


def test_missing_tables_setting_names_the_setting(monkeypatch):
    monkeypatch.setattr(settings, "load", make_settings)
    with pytest.raises(AirflowFailException, match=r"set tables in \[every_use_case\] or \[use_cases.attrition\]"):
        nights.tables_path(USE_CASE)
