"""What a release would change: counted by hand, on a batch or on logged records, and once for each job."""

import json
from datetime import date, timedelta

import mlflow
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from serving.scoring.bundle import Bundle
from serving.scoring.contract import RELEASE_CLIENT
from tests.support.bundles import make_bundle
from tests.support.mlflow_store import store_in
from tests.support.nightly import export_answers
from tests.support.nights import open_duckdb, process
from tests.support.simulate import CONTAINER, Export
from tests.support.tenants import KEYLESS
from training import preview_job
from training.batch.run import score_table
from training.batch.score import Pinned
from training.data.synthetic import make_rows
from training.impact import compare as comparing
from training.impact import record, records
from training.impact.compare import SMALLEST, Scored, compare, counted, score
from training.impact.record import Preview
from training.impact.records import Records, read_records
from training.inference_log import layout
from training.registry.register import classifier_arguments, register
from training.registry.tracking import Tracker
from use_cases.attrition import USE_CASE as ATTRITION
from use_cases.attrition.sample import make_sample

DAY = date(2026, 11, 2)
TODAY = DAY + timedelta(days=1)
LABEL, KEY = ATTRITION.label.field, ATTRITION.key
EXPERIMENT = "/attrition"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Challenger and champion: two models of the same fields."""
    home = tmp_path_factory.mktemp("bundles")
    return make_bundle(home / "two" / "bundle", 2), make_bundle(home / "one" / "bundle", 1)


@pytest.fixture(scope="module")
def people():
    return make_rows(ATTRITION, 400, 5).drop(columns=[LABEL])


@pytest.fixture
def engine(tmp_path):
    opened = open_duckdb(tmp_path / "spill")
    yield opened
    opened.close()


def batch(bundle, frame, tables, day=DAY, version="1"):
    tables.parent.mkdir(parents=True, exist_ok=True)
    location = tables.parent / f"{day}.parquet"
    frame.to_parquet(location)
    return score_table(ATTRITION, bundle, Pinned(version, "sha256:" + "a" * 64), str(location), tables, day)


def clients_ask(engine, bundle, home, rows, *, day=DAY, client="hr", request_id="one"):
    export = Export(home / "export", half_written=0)
    export_answers(export, Bundle.load(bundle), day, rows, client=client, request_id=request_id)
    process(engine, export.root / CONTAINER, home / "tables", day)


def both(bundles, found):
    return [score(ATTRITION, Bundle.load(bundle), found) for bundle in bundles]


# --- the figures ---


def by_hand(rows, use_case):
    """Counts of entering and leaving records, all and by group, from ``(before, after, groups)`` a record."""
    size = max(1, round(use_case.top_share * len(rows)))
    tops = []
    for model in (0, 1):
        ranked = sorted(range(len(rows)), key=lambda place: -rows[place][model])  # sorted() keeps the order of equals
        tops.append(set(ranked[:size]))
    before, after = tops
    counts = {"all": (len(rows), size, len(after - before), len(before - after))}
    for name in sorted({name for row in rows for name in row[2]}):
        group = {place for place, row in enumerate(rows) if name in row[2]}
        counts[name] = (
            len(group), len(group & before), len(group & after - before), len(group & before - after),
        )  # fmt: skip
    return counts


def shown(impact):
    everybody = (impact.records, impact.top, impact.entering.value, impact.leaving.value)
    groups = {
        f"{one.field}: {one.group}": (one.records, one.top, one.entering.value, one.leaving.value)
        for one in impact.groups
    }
    return {"all": everybody, **groups}


def groups_by_hand(person):
    age = person["Age"]
    band = "under 30" if age < 30 else "30 to under 40" if age < 40 else "40 to under 50" if age < 50 else "50 and over"
    return [f"Gender: {person['Gender']}", f"MaritalStatus: {person['MaritalStatus']}", f"Age: {band}"]


def test_impact_equals_a_count_by_hand(bundles, people, engine, tmp_path):
    batch(bundles[1], people, tmp_path / "tables")
    found = read_records(engine, tmp_path / "tables", ATTRITION, TODAY)
    challenger, champion = both(bundles, found)
    impact = compare(ATTRITION, found, challenger, champion, "1")
    order = {key: place for place, key in enumerate(found.columns[KEY])}
    asked = people.to_dict("records")
    after, before = (Bundle.load(bundle).score(asked) for bundle in bundles)
    rows = [None] * len(asked)
    for number, person in enumerate(asked):
        figures = (before.classifier__predictions[number], after.classifier__predictions[number])
        rows[order[person[KEY]]] = (*figures, groups_by_hand(person))
    assert shown(impact) == by_hand(rows, ATTRITION)
    assert impact.entering.value > 0
    changes = [row[1] - row[0] for row in rows]
    assert impact.change.mean == pytest.approx(sum(changes) / len(changes), abs=1e-6)
    assert impact.change.largest == pytest.approx(max(map(abs, changes)), abs=1e-6)
    assert impact.outliers.value == sum(after.outliers__is_outlier)
    assert impact.outliers_before.value == sum(before.outliers__is_outlier)
    assert impact.answered_otherwise == 0


SCORES = st.sampled_from([0.0, 0.1, 0.1 + 1e-12, 0.5, 0.9])
"""So few that many are equal."""
PEOPLE = st.tuples(SCORES, SCORES, st.sampled_from(["Female", "Male", None]), st.sampled_from([20, 30, 35, 60, None]))


def as_records(rows):
    count = len(rows)
    columns = {field.name: np.full(count, None, object) for field in ATTRITION.fields}
    for name, place in (("Gender", 2), ("Age", 3)):
        columns[name][:] = [row[place] for row in rows]
    return Records("a list", count, columns, np.zeros(count), np.full(count, "1", object))


def scored(values):
    return Scored(np.array(values, np.float64), np.array(values) > 0.5, "")


@given(st.lists(PEOPLE, min_size=1, max_size=120))
def test_counts_of_any_list_are_those_by_hand_and_as_many_enter_as_leave(rows):
    impact = compare(ATTRITION, as_records(rows), scored([r[1] for r in rows]), scored([r[0] for r in rows]), "2")
    named = []
    for before, after, gender, age in rows:
        groups = [f"Gender: {gender}"] if gender else []
        if age:
            groups.append(f"Age: {'under 30' if age < 30 else '30 to under 40' if age < 40 else '50 and over'}")
        named.append((before, after, groups))
    large = {name: counts for name, counts in by_hand(named, ATTRITION).items() if counts[0] >= SMALLEST}
    assert {name: counts for name, counts in shown(impact).items() if name != "all"} == {
        name: counts for name, counts in large.items() if name != "all"
    }
    assert impact.entering == impact.leaving
    for count in (impact.entering, *(one.entering for one in impact.groups)):
        assert 0 <= count.low <= count.value <= count.high
    assert impact.change.low <= impact.change.mean <= impact.change.high


def test_the_same_model_twice_changes_nothing(bundles, people, engine, tmp_path):
    batch(bundles[1], people, tmp_path / "tables")
    found = read_records(engine, tmp_path / "tables", ATTRITION, TODAY)
    champion = score(ATTRITION, Bundle.load(bundles[1]), found)
    impact = compare(ATTRITION, found, champion, champion, "1")
    assert (impact.entering.value, impact.leaving.value, impact.change.largest) == (0, 0, 0)
    assert impact.entering.high > 0, "nobody of a few says little about many"


@given(st.integers(1, 20_000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_interval_is_wilsons(drawn):
    value, of = drawn
    expected = stats.binomtest(value, of).proportion_ci(0.95, method="wilson")
    count = counted(value, of)
    assert [count.low, count.high] == pytest.approx([of * expected.low, of * expected.high], abs=0.06)


def test_records_that_were_answered_otherwise_are_counted_and_told(bundles, people, engine, tmp_path):
    """A log that keeps no sensitive field, for example: the champion is not given what it was given then."""
    batch(bundles[1], people, tmp_path / "tables")
    found = read_records(engine, tmp_path / "tables", ATTRITION, TODAY)
    name = next(field.name for field in ATTRITION.features if field.kind != "category")
    lost = {**found.columns, name: np.full(len(found.answers), None, object)}
    altered = msgspec.structs.replace(found, columns=lost)
    impact = compare(ATTRITION, altered, *both(bundles, altered), "1")
    assert impact.answered_otherwise > 100
    assert "the champion's score is not the recorded one" in impact.doubts
    assert compare(ATTRITION, altered, *both(bundles, altered), "9").answered_otherwise == 0, (
        "another version's answers"
    )


def test_field_that_the_definition_has_no_more_is_missing_to_the_model_and_told(bundles, people, engine, tmp_path):
    batch(bundles[1], people, tmp_path / "tables")
    gone = next(field for field in ATTRITION.features if field.name not in {group.field for group in ATTRITION.groups})
    now = msgspec.structs.replace(ATTRITION, fields=tuple(field for field in ATTRITION.fields if field != gone))
    found = read_records(engine, tmp_path / "tables", now, TODAY)
    challenger, champion = (score(now, Bundle.load(bundle), found) for bundle in bundles)
    impact = compare(now, found, challenger, champion, "1")
    assert impact.lacking == f"{gone.name} (not a field any more)"
    assert impact.lacking in impact.doubts


# --- the list ---


def test_newest_batch_is_taken_and_logged_records_only_without_one(bundles, people, engine, tmp_path):
    assert read_records(engine, tmp_path / "tables", ATTRITION, TODAY) is None
    clients_ask(engine, bundles[1], tmp_path, make_sample(30, 50))
    found = read_records(engine, tmp_path / "tables", ATTRITION, TODAY)
    assert (found.source, found.rows) == (f"the requests of {DAY}", 30)
    batch(bundles[1], people, tmp_path / "tables", day=DAY - timedelta(days=7))
    batch(bundles[1], people.head(50), tmp_path / "tables", day=DAY)
    found = read_records(engine, tmp_path / "tables", ATTRITION, TODAY)
    assert (found.source, found.rows) == (f"the batch of {DAY}", 50)
    assert set(found.columns[KEY]) == set(people[KEY].head(50))
    assert set(found.versions) == {"1"}


def test_batch_whose_scores_are_away_is_not_taken_for_an_empty_one(bundles, people, engine, tmp_path):
    batch(bundles[1], people, tmp_path / "tables")
    layout.remove_folder(tmp_path / "tables" / "scores")
    with pytest.raises(RuntimeError, match="although 400 rows were scored"):
        read_records(engine, tmp_path / "tables", ATTRITION, TODAY)


def test_latest_request_about_somebody_counts_and_a_releases_own_does_not(bundles, engine, tmp_path):
    people = make_sample(20, 50)
    clients_ask(engine, bundles[1], tmp_path, people)
    again = people.head(5).assign(MonthlyIncome=5_000)
    clients_ask(engine, bundles[1], tmp_path, again, request_id="two")
    later = make_sample(7, 51)
    clients_ask(engine, bundles[1], tmp_path, later, client=RELEASE_CLIENT, request_id="verify", day=TODAY)
    found = read_records(engine, tmp_path / "tables", ATTRITION, TODAY)
    assert (found.source, found.rows) == (f"the requests of {DAY}", 20), (
        "a day with the release's own requests alone does not count"
    )
    incomes = dict(zip(found.columns[KEY], found.columns["MonthlyIncome"], strict=True))
    assert [incomes[key] for key in people[KEY].head(5)] == [5_000] * 5
    assert read_records(engine, tmp_path / "tables", ATTRITION, DAY - timedelta(days=1)) is None, "of later days none"


def test_long_list_is_sampled_by_the_hash_of_the_key_alone(bundles, people, engine, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "LIMIT", 100)
    batch(bundles[1], people, tmp_path / "one" / "tables")
    batch(bundles[1], people.iloc[::-1].assign(MonthlyIncome=5_000), tmp_path / "two" / "tables")
    first, second = (read_records(engine, tmp_path / name / "tables", ATTRITION, TODAY) for name in ("one", "two"))
    assert 60 < len(first.answers) < 140
    assert first.rows == 400
    assert list(first.columns[KEY]) == list(second.columns[KEY])
    impact = compare(ATTRITION, first, *both(bundles, first), "1")
    assert f"a sample of {len(first.answers)} scored" in impact.sentence
    assert impact.top == round(0.2 * len(first.answers))


def test_use_case_without_a_key_has_its_list_too(engine, tmp_path):
    name = KEYLESS.columns
    table = tmp_path / "tables" / "scores" / f"day={DAY}"
    table.mkdir(parents=True)
    rows = make_rows(KEYLESS, 40, 1).drop(columns=[KEYLESS.label.field]).rename(columns=name)
    made = pa.Table.from_pandas(rows.assign(prediction=0.5, model_version="1"), preserve_index=False)
    pq.write_table(made, table / "part.parquet")
    layout.write_json(
        tmp_path / "tables" / "batches" / f"{DAY}.json",
        {"day": str(DAY), "source": "s", "version": "1", "bundle_digest": "d", "rows": 40, "scored": 40, "rejected": 0,
         "outliers": 0},
    )  # fmt: skip
    duck = open_duckdb(tmp_path / "other", use_case=KEYLESS)
    try:
        found = read_records(duck, tmp_path / "tables", KEYLESS, TODAY)
    finally:
        duck.close()
    assert len(found.answers) == 40
    assert set(found.columns) == {field.name for field in KEYLESS.fields}


# --- the job ---


class Killed(BaseException):
    """The process has died."""


@pytest.fixture(scope="module")
def registry(tmp_path_factory, bundles):
    """A store with the champion as version 1 and the challenger as version 2; its client."""
    with store_in(tmp_path_factory.mktemp("mlflow")):
        for number, bundle in enumerate(reversed(bundles)):
            tracker = Tracker(experiment=EXPERIMENT, model_name=ATTRITION.model_name, run_key=f"training-{number}")
            register(tracker, tracker.start({}), bundle, {}, classifier_arguments)
        yield tracker.client


def job(tables, key, **other):
    config = {
        "use_case": "attrition", "challenger": "2", "champion": "1", "today": str(TODAY), "tables": str(tables),
        "model_name": ATTRITION.model_name, "experiment": EXPERIMENT, **other,
    }  # fmt: skip
    preview_job.main(["preview", "--run-key", key, "--config", json.dumps(config)])


def kept(client, key):
    run = client.get_model_version(ATTRITION.model_name, "2").run_id
    text = mlflow.artifacts.load_text(f"runs:/{run}/{record.path(key)}")
    return msgspec.json.decode(text, type=Preview), text


def test_job_killed_anywhere_and_repeated_leaves_the_same_preview_and_finds_it_again(
    registry, bundles, people, tmp_path, monkeypatch
):
    batch(bundles[1], people, tmp_path / "tables")
    job(tmp_path / "tables", "whole")
    _, expected = kept(registry, "whole")
    places = [(records, "read_records"), (comparing, "score"), (comparing, "compare"), (type(registry), "log_text")]
    for module, name in places:
        for before in (True, False):
            real = getattr(module, name)

            def dies(*arguments, real=real, before=before, **options):
                if not before:
                    real(*arguments, **options)
                raise Killed

            monkeypatch.setattr(module, name, dies)
            key = f"{name}-{before}"
            with pytest.raises(Killed):
                job(tmp_path / "tables", key)
            monkeypatch.setattr(module, name, real)
            job(tmp_path / "tables", key)
            assert kept(registry, key)[1] == expected
    monkeypatch.setattr(comparing, "compare", lambda *_: pytest.fail("what was found is found again"))
    batch(bundles[1], people.head(20), tmp_path / "tables", day=TODAY)
    job(tmp_path / "tables", "whole")
    assert kept(registry, "whole")[1] == expected


def test_without_records_or_champion_there_is_one_sentence(registry, bundles, people, tmp_path):
    job(tmp_path / "tables", "nothing")
    found, _ = kept(registry, "nothing")
    assert found.impact is None
    assert found.sentence == (
        "no preview, because no batch has been scored yet, and no night was closed in which a client asked."
    )
    batch(bundles[1], people, tmp_path / "tables")
    job(tmp_path / "tables", "other", champion="9")
    assert kept(registry, "other")[0].sentence == (
        "no preview, because the registry no longer has version 9, which production runs."
    )


def test_job_leaves_the_tables_as_they_are(registry, bundles, people, tmp_path):
    batch(bundles[1], people, tmp_path / "tables")
    before = sorted(path.relative_to(tmp_path) for path in (tmp_path / "tables").rglob("*"))
    job(tmp_path / "tables", "left")
    assert sorted(path.relative_to(tmp_path) for path in (tmp_path / "tables").rglob("*")) == before
    assert kept(registry, "left")[0].impact.rows == 400
