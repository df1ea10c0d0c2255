"""What new files start: each once, whoever told of them and however often, and the newest where one counts."""

import os
import time
from types import SimpleNamespace

import msgspec
import pytest
from airflow.sdk.exceptions import AirflowFailException
from hypothesis import given
from hypothesis import strategies as st

from lifecycle import settings
from lifecycle.events import feeds, files
from lifecycle.events.feeds import File
from lifecycle.four_eyes import STARTED_BY
from lifecycle.hooks import airflow_api
from lifecycle.tasks import arrivals
from tests.support.airflow import USE_CASE, make_settings, run_task
from training import use_case as definitions

ATTRITION = definitions.load(USE_CASE)


def file(name="rows.csv", version="1", *, feed="data", minute=0, sequencer="", event=""):
    return File(feed, name, version, f"2026-11-02T03:{minute:02}:00+00:00", 10, event, sequencer)


def from_queue(found):
    return SimpleNamespace(extra={"from_trigger": True, "payload": msgspec.to_builtins(found)})


def context(*events, run_id="r"):
    run = SimpleNamespace(dag_id=ATTRITION.arrivals_dag, run_id=run_id)
    return {"dag_run": run, "triggering_asset_events": {"asset": list(events)} if events else {}}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with ``bronze``, ``outcomes`` and ``tables``, and settings in which files there start everything."""
    of = {
        "bronze": f"{tmp_path}/bronze", "job_bronze": "/Volumes/bronze/", "outcomes": f"{tmp_path}/outcomes",
        "tables": f"{tmp_path}/tables", "start_on_data": ["train", "score"], "start_on_outcomes": True,
    }  # fmt: skip
    found = make_settings(of)
    monkeypatch.setattr(settings, "load", lambda: found)
    notes = []
    monkeypatch.setattr(airflow_api, "set_run_note", lambda dag_id, run_id, note: notes.append(note))
    for name in ("bronze", "outcomes"):
        (tmp_path / name).mkdir()
    return SimpleNamespace(path=tmp_path, notes=notes)


def drop(place, name, content="a\n", seconds_ago=60.0):
    path = place.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (time.time() - seconds_ago,) * 2)
    return path


def one_run(*events, run_id="r"):
    """A whole run of the DAG without what it starts; the starts."""
    now = context(*events, run_id=run_id)
    found = run_task(arrivals.look_at_arrivals, now, USE_CASE)
    starts = run_task(arrivals.plan_runs, now, USE_CASE, found)
    run_task(arrivals.remember_arrivals, now, USE_CASE, found, starts)
    return {(start["trigger_dag_id"], start["trigger_run_id"]): start["conf"] for start in starts}


def test_event_starts_training_and_scoring_of_its_file(place):
    told = file("2026-11-01.csv", event="e1")
    by = {STARTED_BY: {"dag_id": "attrition_arrivals", "run_id": "r"}}
    assert one_run(from_queue(told)) == {
        ("attrition_train", f"arrival__{told.key}"): {"data": "/Volumes/bronze/2026-11-01.csv", **by},
        ("attrition_score", f"arrival__{told.key}"): {
            "input": "/Volumes/bronze/2026-11-01.csv",
            "date": "2026-11-01",
            **by,
        },
    }
    assert place.notes == ["New files, by 1 event: 2026-11-01.csv"]


def test_all_events_of_one_run_are_looked_at(place):
    """Airflow joins events that come close together into one run."""
    told = [file("2026-11-01.csv", minute=1), file("2026-11-02.csv", minute=3), file("b/2026-11-02.csv", minute=2)]
    outcome = file("left.csv", feed="outcomes", minute=5)
    started = one_run(*map(from_queue, [*told, outcome]))
    assert {(dag, conf.get("data") or conf.get("input")) for (dag, _), conf in started.items()} == {
        ("attrition_train", "/Volumes/bronze/2026-11-02.csv"),
        ("attrition_score", "/Volumes/bronze/2026-11-01.csv"),
        ("attrition_score", "/Volumes/bronze/2026-11-02.csv"),
        ("attrition_retrain_nightly", None),
    }
    kept = sorted(path.stem for path in (place.path / "tables" / "arrivals").iterdir())
    assert kept == sorted(one.key for one in [*told, outcome]), "the superseded one was looked at too"


def test_same_event_again_and_the_sweep_after_it_start_nothing(place):
    path = drop(place, "bronze/rows.csv")
    told = file("rows.csv", files.local_version(path), event="e1")
    assert len(one_run(from_queue(told), from_queue(told))) == 2
    assert one_run(from_queue(told), run_id="redelivered") == {}
    assert one_run(run_id="swept") == {}
    drop(place, "bronze/rows.csv", "another content\n", seconds_ago=30)
    assert len(one_run(run_id="swept again")) == 2


def test_file_that_is_dated_ahead_counts_at_once(place):
    """It was passed over, in silence, until its date had come."""
    path = drop(place, "bronze/rows.csv", seconds_ago=-3600)
    assert len(one_run()) == 2
    assert one_run(run_id="an hour later") == {}, "by its date it is the same file then"
    drop(place, "bronze/rows.csv", "another content\n", seconds_ago=-1)
    assert one_run(run_id="being written, by a clock that is a little ahead") == {}
    os.utime(path, (time.time() - 60,) * 2)
    assert len(one_run(run_id="written")) == 2


def test_sweep_alone_finds_everything_once(place):
    drop(place, "bronze/a/2026-11-01.parquet", seconds_ago=90)
    drop(place, "bronze/2026-11-02.csv", seconds_ago=80)
    drop(place, "outcomes/left.csv.gz")
    drop(place, "bronze/being-written.csv", seconds_ago=0)
    drop(place, "bronze/_tmp/rows.csv")
    drop(place, "bronze/readme.txt")
    started = one_run()
    assert sorted(dag for dag, _ in started) == [
        "attrition_retrain_nightly", "attrition_score", "attrition_score", "attrition_train",
    ]  # fmt: skip
    assert one_run(run_id="next") == {}
    drop(place, "bronze/being-written.csv", "whole by now\n", seconds_ago=10)
    assert {conf.get("data") for conf in one_run(run_id="later").values()} == {
        None,
        "/Volumes/bronze/being-written.csv",
    }


def test_killed_between_starting_and_remembering_starts_the_same_runs(place):
    drop(place, "bronze/rows.csv")
    now = context()
    first = run_task(arrivals.plan_runs, now, USE_CASE, run_task(arrivals.look_at_arrivals, now, USE_CASE))
    again = one_run(run_id="again")
    assert {(start["trigger_dag_id"], start["trigger_run_id"]) for start in first} == set(again)


@pytest.mark.parametrize("extra", [{"from_rest_api": True, "from_trigger": True}, {"payload": {}}, None])
def test_posted_event_is_not_believed_and_makes_the_run_look_for_itself(place, extra):
    drop(place, "bronze/rows.csv")
    payload = msgspec.to_builtins(file("../../somebody/elses.csv"))
    posted = SimpleNamespace(extra=extra and {"payload": payload, **extra})
    assert {conf.get("data") for conf in one_run(posted).values()} == {None, "/Volumes/bronze/rows.csv"}


def test_event_of_a_row_that_tells_of_no_file_says_so(place):
    with pytest.raises(AirflowFailException, match="does not tell of a file"):
        one_run(SimpleNamespace(extra={"from_trigger": True, "payload": {"id": "e2"}}))


def test_more_files_than_one_run_takes_are_left_for_the_next(place, monkeypatch):
    monkeypatch.setattr(arrivals, "MOST_FILES", 2)
    for number in range(3):
        drop(place, f"bronze/{number}.csv", seconds_ago=90 - number)
    assert [one_run(run_id=str(number)) != {} for number in range(3)] == [True, True, False]


def test_date_in_a_name_is_a_date_or_none():
    assert arrivals._date("2026-01-01/rows-2026-11-02.csv") == "2026-11-02"
    assert arrivals._date("2026-13-45.csv") is None
    assert arrivals._date("12026-11-020.csv") is None


FILES = st.builds(
    file,
    st.sampled_from(["a.csv", "2026-11-01.csv", "2026-11-02.csv"]),
    st.sampled_from(["1", "2"]),
    feed=st.sampled_from(["data", "outcomes"]),
    minute=st.integers(0, 3),
    sequencer=st.sampled_from(["", "01", "02"]),
)


@given(st.lists(FILES, max_size=8), st.randoms())
def test_order_and_repetition_of_events_change_nothing(found, random):
    """At-least-once and out of order: what a run starts follows from the set of files alone."""
    shuffled = [*found, *found[:3]]
    random.shuffle(shuffled)
    by_key = {one.key: one for one in found}  # two events of one version may give two times
    assert {one.key for one in arrivals.new_files(shuffled, set())} == set(by_key)
    assert arrivals.new_files(found, set(by_key)) == []


@given(st.lists(FILES, max_size=8, unique_by=lambda one: one.key), st.randoms())
def test_plan_follows_from_the_files_alone(found, random):
    shuffled = [*found]
    random.shuffle(shuffled)
    of = {"bronze": "/b", "start_on_data": ["train", "score"], "start_on_outcomes": True}
    with pytest.MonkeyPatch.context() as patch:
        counts = make_settings(of)
        patch.setattr(settings, "load", lambda: counts)
        starts = arrivals.plan(ATTRITION, found)
        assert {start.trigger_run_id: start for start in starts} == {
            start.trigger_run_id: start for start in arrivals.plan(ATTRITION, shuffled)
        }
    trained = [start for start in starts if start.trigger_dag_id == ATTRITION.train_dag]
    data = [one for one in found if one.feed == "data"]
    assert len(trained) == bool(data)
    if data:
        assert trained[0].trigger_run_id == f"arrival__{max(data, key=lambda one: (one.age, one.key)).key}"


def test_rows_of_the_table_with_a_folder_are_those_that_the_sweep_looks_through():
    assert set(feeds.FOLDERS) <= {feed.name for feed in feeds.FEEDS}
