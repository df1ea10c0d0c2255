"""The nightly job from exported lines to a verdict in MLflow, with a real champion."""

import json
import re
from datetime import date, timedelta
from html import escape

import mlflow
import msgspec
import numpy as np
import pandas as pd
import pytest

from serving.scoring.bundle import Bundle
from tests.support.bundles import make_bundle
from tests.support.mlflow_store import store_in
from tests.support.nightly import export_answers, register_champion, write_outcomes
from tests.support.nights import END, START
from tests.support.simulate import CONTAINER, Export
from training import command_line
from training import nightly_job as run
from training.data.data_error import DataError
from training.data.dataset import Dataset, read_table
from training.drift import reference
from training.drift.judge import read_verdicts
from training.drift.record import monitoring_tracker
from training.drift.reference import SnapshotError, champion_reference
from training.inference_log import landing, layout
from training.inference_log.azure_export import FolderSource
from training.registry import tags
from use_cases.attrition import USE_CASE as ATTRITION
from use_cases.attrition.sample import make_sample

FIRST = date(2026, 11, 2)
NIGHTS = [FIRST + timedelta(days=number) for number in range(3)]
EXPERIMENT = "/attrition"
TRACE = f"00-{'4b' * 16}-{'7a' * 8}-00"
_SAMPLE = make_sample(300, 50)


def sampled():
    """The people whom clients ask about."""
    return _SAMPLE.copy()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """An MLflow store on SQLite with one registered version as champion; returns (client, bundle)."""
    home = tmp_path_factory.mktemp("mlflow")
    with store_in(home):
        data = home / "employees.csv"
        make_sample(600, 1).to_csv(data, index=False)
        bundle = make_bundle(home / "bundle", 1)
        known = read_table(ATTRITION, str(data))
        # As after a retraining: some employees are there twice, with their record of the original set and a later one.
        twice = pd.concat([known.frame, known.frame.head(5)], ignore_index=True)
        trained_on = Dataset(ATTRITION, twice, known.digest, np.arange(len(twice)) >= len(known.frame))
        yield register_champion(bundle, trained_on, EXPERIMENT), bundle, data


@pytest.fixture(scope="module")
def closed(store, tmp_path_factory):
    """Three nights of the champion's answers, the last two of them with incomes raised: (tables, client)."""
    client, bundle, data = store
    home = tmp_path_factory.mktemp("nightly")
    export = Export(home / "export", half_written=0)
    scorer = Bundle.load(bundle)
    for number, night in enumerate(NIGHTS):
        people = sampled()
        if number:
            people["MonthlyIncome"] *= 2
        export_answers(export, scorer, night, people)
        landing.land(FolderSource(export.root / CONTAINER), home / "tables", night, START, END)
    feed = home / "outcomes"
    write_outcomes(feed, sampled(), NIGHTS[-1])
    config = {
        "use_case": "attrition", "nights": [night.isoformat() for night in NIGHTS], "tables": str(home / "tables"),
        "outcomes": str(feed), "original": str(data), "model_name": ATTRITION.model_name, "experiment": EXPERIMENT,
    }  # fmt: skip
    for task in ("curate", "label", "judge"):
        run.main([task, "--run-key", "k", "--trace-parent", TRACE, "--config", json.dumps(config)])
    return home / "tables", client, config


def test_drift_is_suspected_in_its_first_night_and_confirmed_in_the_second(closed):
    tables, _, _ = closed
    quiet, first, second = read_verdicts(tables, before=END)
    assert (quiet.status, quiet.champion, quiet.used) == ("quiet", "1", 300)
    assert "MonthlyIncome" in first.drifted
    assert first.confirmed == ()
    assert "MonthlyIncome" in second.confirmed
    assert second.retrain
    assert read_table(ATTRITION, second.data).frame.shape[0] == 600 + second.labels


def test_live_quality_is_measured_on_the_outcomes_that_have_arrived(closed):
    tables, _, _ = closed
    last = read_verdicts(tables, before=END)[-1]
    assert last.quality.labels == last.labels == 300
    assert 0.65 < last.quality.roc_auc.value < 0.95
    assert not last.quality.lost


def test_mlflow_holds_one_run_a_night_with_verdict_report_and_note(closed):
    _, client, _ = closed
    experiment = client.get_experiment_by_name(f"{EXPERIMENT}-monitoring")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
    assert [one.data.tags["lifecycle_window"] for one in runs] == [night.isoformat() for night in reversed(NIGHTS)]
    assert "drift confirmed over 2 windows" in runs[0].data.tags["lifecycle_note"]
    assert {one.data.tags["lifecycle_trace_id"] for one in runs} == {"4b" * 16}
    assert {entry.path for entry in client.list_artifacts(runs[0].info.run_id)} == {layout.VERDICT, layout.REPORT}
    assert runs[0].data.metrics["drifted_fields"] >= 1


def test_report_is_one_page_that_loads_nothing(closed):
    tables, _, _ = closed
    page = (layout.night_folder(tables, "nights", NIGHTS[-1]) / layout.REPORT).read_text()
    assert "<h1>Night 2026-11-04: <span class=bad>drifted</span></h1>" in page
    assert "<title>Employee Attrition API, night 2026-11-04</title>" in page
    assert "the latest one of each EmployeeNumber" in page
    assert re.search(r"300 outcomes of the champion's records have arrived: \d+ leavers, \d+ stayers", page)
    assert page.count("<svg") > 25
    assert re.findall(r"(?:src|href|url\(|@import)", page) == []
    assert "<script" not in page


def test_judging_again_replaces_the_nights_own_run_and_nothing_else(closed):
    tables, client, config = closed
    folder = layout.night_folder(tables, "nights", NIGHTS[-1])
    before = {name: (folder / name).read_bytes() for name in (layout.VERDICT, layout.REPORT)}
    run.main(["judge", "--run-key", "k", "--config", json.dumps(config)])
    assert {name: (folder / name).read_bytes() for name in before} == before
    experiment = client.get_experiment_by_name(f"{EXPERIMENT}-monitoring")
    assert len(client.search_runs([experiment.experiment_id])) == len(NIGHTS)


class Killed(BaseException):
    """Stands for the end of the process: nothing may handle it."""


def die(*arguments, **more):
    raise Killed


def test_judging_killed_at_every_step_and_run_again_ends_with_the_same_files_and_one_run(closed, monkeypatch):
    tables, client, config = closed
    folder = layout.night_folder(tables, "nights", NIGHTS[-1])
    before = {name: (folder / name).read_bytes() for name in (layout.VERDICT, layout.REPORT)}
    last = ["judge", "--run-key", "k", "--config", json.dumps({**config, "nights": [NIGHTS[-1].isoformat()]})]
    store = mlflow.MlflowClient
    found = champion_reference(monitoring_tracker(ATTRITION.model_name, EXPERIMENT, NIGHTS[-1]), ATTRITION)
    for place, step in (
        (layout, "write_text"), (layout, "write_json"), (store, "log_batch"), (store, "log_artifact"),
        (store, "set_terminated"),
    ):  # fmt: skip
        for name in before:
            (folder / name).unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            patch.setattr(reference, "champion_reference", lambda *_: found)  # which writes nothing
            patch.setattr(place, step, die)
            with pytest.raises(Killed):
                run.main(last)
    run.main(last)
    assert {name: (folder / name).read_bytes() for name in before} == before
    experiment = client.get_experiment_by_name(f"{EXPERIMENT}-monitoring")
    assert len(client.search_runs([experiment.experiment_id])) == len(NIGHTS)


class Nights:
    """A home of its own for nights that are run through the entry point, task by task as Airflow does."""

    def __init__(self, home, data, experiment):
        self.tables, self.feed, self.export = (
            home / "tables",
            home / "outcomes",
            Export(home / "export", half_written=0),
        )
        self.config = {
            "use_case": "attrition", "tables": str(self.tables), "outcomes": str(self.feed), "original": str(data),
            "model_name": ATTRITION.model_name, "experiment": experiment, "threads": 1,
        }  # fmt: skip

    def run(self, night, **more):
        """Land, curate, label and judge one night; returns its verdict as the file has it."""
        landing.land(FolderSource(self.export.root / CONTAINER), self.tables, night, START, END)
        config = json.dumps({**self.config, **more, "nights": [night.isoformat()]})
        for task in ("curate", "label", "judge"):
            run.main([task, "--run-key", "k", "--config", config])
        verdict = read_verdicts(self.tables, before=END)[-1]
        assert verdict.night == night.isoformat()
        assert len(read_table(ATTRITION, verdict.data).frame) == 600 + verdict.labels
        page = (layout.night_folder(self.tables, "nights", night) / layout.REPORT).read_text()
        assert f">{verdict.status}</span></h1>" in page
        return verdict


@pytest.fixture
def nights(store, tmp_path, request):
    return Nights(tmp_path, store[2], f"/{request.node.name}")


def answers(nights, store, night, people, **more):
    export_answers(nights.export, Bundle.load(store[1]), night, people, **more)


def monitored(client, nights):
    experiment = client.get_experiment_by_name(f"{nights.config['experiment']}-monitoring")
    (found,) = client.search_runs([experiment.experiment_id])
    return found.data


@pytest.mark.parametrize("records", [0, 300])
def test_night_before_any_version_was_registered_has_no_champion(store, nights, records):
    if records:
        answers(nights, store, FIRST, make_sample(records, 50))
    verdict = nights.run(FIRST, model_name="never_registered")
    assert (verdict.status, verdict.champion, verdict.records, verdict.used) == ("no champion", "", records, 0)
    assert f"no champion to compare {records} records with" in verdict.note
    assert monitored(store[0], nights).tags["lifecycle_verdict"] == "no champion"


def test_night_after_the_alias_was_deleted_has_no_champion_and_may_retrain_by_hand(store, nights):
    client = store[0]
    client.delete_registered_model_alias(ATTRITION.model_name, "champion")
    try:
        answers(nights, store, FIRST, sampled())
        write_outcomes(nights.feed, sampled(), FIRST)
        verdict = nights.run(FIRST, by_hand=True)
    finally:
        client.set_registered_model_alias(ATTRITION.model_name, "champion", "1")
    assert (verdict.status, verdict.records, verdict.quality) == ("no champion", 300, None)
    assert verdict.retrain
    assert verdict.reasons == ("asked for by hand",)


def test_first_night_ever_without_export_feed_or_records_is_judged(store, nights):
    verdict = nights.run(FIRST)
    assert (verdict.status, verdict.champion, verdict.records, verdict.labels) == ("no records", "1", 0, 0)
    assert "no records to judge" in verdict.note
    assert verdict.counts["read"] == 0


def test_night_without_records_after_one_with_records_is_judged(store, nights):
    answers(nights, store, FIRST, sampled())
    assert nights.run(FIRST).status == "quiet"
    assert nights.run(FIRST + timedelta(days=1)).status == "no records"


def test_night_with_too_few_records_is_not_judged(store, nights):
    answers(nights, store, FIRST, make_sample(20, 50))
    verdict = nights.run(FIRST)
    assert (verdict.status, verdict.used, verdict.findings) == ("too few records", 20, ())


@pytest.mark.parametrize("feed", ["not there", "empty", "not named", "unreadable", "of the future"])
def test_night_without_outcomes_is_judged_by_its_records(store, nights, feed):
    people = sampled()
    answers(nights, store, FIRST, people)
    more = {"outcomes": ""} if feed == "not named" else {}
    if feed == "of the future":
        write_outcomes(nights.feed, people, FIRST + timedelta(days=1))
    elif feed != "not there":
        nights.feed.mkdir()
    if feed == "unreadable":
        (nights.feed / "a.csv").write_text("EmployeeNumber,Attrition,effective_date\n7,perhaps,2026-11-01\n")
        (nights.feed / "b.xlsx").write_bytes(b"PK")
    verdict = nights.run(FIRST, **more)
    assert (verdict.status, verdict.used, verdict.labels) == ("quiet", 300, 0)
    assert (verdict.quality.labels, verdict.quality.roc_auc) == (0, None)
    rejected = 2 if feed == "unreadable" else 0
    assert verdict.rejected_outcomes == monitored(store[0], nights).metrics["rejected_outcomes"] == rejected
    assert ("2 rows or files of the outcomes feed were rejected" in verdict.note) == bool(rejected)
    page = (layout.night_folder(nights.tables, "nights", FIRST) / layout.REPORT).read_text()
    assert ("<td>b.xlsx</td>" in page) == bool(rejected)


@pytest.mark.parametrize("champion", [True, False])
def test_use_case_without_a_key_counts_every_record_and_says_why_it_has_no_outcomes(
    store, nights, monkeypatch, champion
):
    keyless = msgspec.structs.replace(ATTRITION, key=None)
    monkeypatch.setattr(command_line, "load", lambda name: keyless)
    people = sampled().assign(EmployeeNumber=7)
    answers(nights, store, FIRST, people)
    write_outcomes(nights.feed, people, FIRST)
    verdict = nights.run(FIRST, **({} if champion else {"model_name": "never_registered"}))
    assert (verdict.status, verdict.used) == (("quiet", 300) if champion else ("no champion", 0))
    assert (verdict.records, verdict.labels, verdict.quality) == (300, 0, None)
    assert verdict.note.endswith("this use case has no key, so outcomes cannot be joined to records")


def test_people_who_are_asked_about_many_times_count_once_and_a_night_of_one_key_is_told(store, nights):
    answers(nights, store, FIRST, sampled().assign(EmployeeNumber=7))
    verdict = nights.run(FIRST)
    assert (verdict.status, verdict.records, verdict.used) == ("too few records", 300, 1)
    said = "300 of the champion's 300 records are about one key, and one of them counts"
    assert said in verdict.note
    page = (layout.night_folder(nights.tables, "nights", FIRST) / layout.REPORT).read_text()
    assert f"<li class=bad>{escape(said)}</li>" in page


def test_retraining_continues_the_champions_data_whatever_the_settings_name(store, nights):
    """The settings name generated rows, or a file that is not there; the champion was trained on others."""
    nights.config["original"] = str(nights.tables / "nowhere.csv")
    verdict = nights.run(FIRST)
    _, _, data = store
    assert read_table(ATTRITION, verdict.data).digest == read_table(ATTRITION, str(data)).digest
    assert verdict.feed.origin.startswith("the data of version 1 (digest ")
    page = (layout.night_folder(nights.tables, "nights", FIRST) / layout.REPORT).read_text()
    assert f"600 rows of {verdict.feed.origin}, 0 labelled by outcomes" in page


def test_label_that_was_renamed_since_the_champion_was_trained_is_told_and_the_night_is_still_judged(
    store, nights, monkeypatch
):
    label = msgspec.structs.replace(ATTRITION.label, field="HasLeft")
    monkeypatch.setattr(command_line, "load", lambda name: msgspec.structs.replace(ATTRITION, label=label))
    answers(nights, store, FIRST, sampled())
    landing.land(FolderSource(nights.export.root / CONTAINER), nights.tables, FIRST, START, END)
    config = json.dumps({**nights.config, "nights": [FIRST.isoformat()]})
    run.main(["curate", "--run-key", "k", "--config", config])
    with pytest.raises(
        DataError, match=r"version 1, the champion, was trained on has 1 fault.*\n.*HasLeft: it is the l"
    ):
        run.main(["label", "--run-key", "k", "--config", config])
    run.main(["judge", "--run-key", "k", "--config", config])
    (verdict,) = read_verdicts(nights.tables, before=END)
    assert (verdict.status, verdict.used) == ("quiet", 300)


def test_retraining_without_a_champion_begins_with_the_data_of_the_settings(store, nights, tmp_path):
    other = tmp_path / "other.csv"
    make_sample(600, 9).to_csv(other, index=False)
    nights.config["original"] = str(other)
    verdict = nights.run(FIRST, model_name="never_registered")
    assert read_table(ATTRITION, verdict.data).digest == read_table(ATTRITION, str(other)).digest
    assert verdict.feed.origin.startswith(str(other))


def test_snapshot_that_is_not_what_the_champion_was_trained_on_is_refused(store, nights):
    client = store[0]
    known = client.get_model_version(ATTRITION.model_name, "1").tags[tags.DATA_DIGEST]
    client.set_model_version_tag(ATTRITION.model_name, "1", tags.DATA_DIGEST, "another")
    try:
        with pytest.raises(
            SnapshotError, match=f"has digest {known}, and version 1 was trained on data with digest ano"
        ):
            nights.run(FIRST)
    finally:
        client.set_model_version_tag(ATTRITION.model_name, "1", tags.DATA_DIGEST, known)


def test_feed_that_stopped_or_lost_a_file_and_strange_files_of_the_export_are_told(store, nights):
    people = sampled()
    answers(nights, store, FIRST, people)
    write_outcomes(nights.feed, people, FIRST)
    (nights.feed / "~$november.csv").write_text("")
    day = next((nights.export.root / CONTAINER).rglob("d=02"))
    (day / "PT1H.json").write_text("{}")
    limits = {"limits": {"feed_days": 2}}
    verdict = nights.run(FIRST, **limits)
    assert (verdict.feed.newest, verdict.feed.ignored) == ("2026-11-02", ("~$november.csv",))
    assert "PT1H.json, which no export is named like: nobody read it" in verdict.note
    assert "nothing new" not in nights.run(FIRST + timedelta(days=1), **limits).note
    verdict = nights.run(FIRST + timedelta(days=2), **limits)
    assert "the outcomes feed has brought nothing new since 2026-11-02 (2 days)" in verdict.note
    (nights.feed / "november.csv").unlink()
    verdict = nights.run(FIRST + timedelta(days=3), **limits)
    assert "the outcomes feed has lost november.csv" in verdict.note
    page = (layout.night_folder(nights.tables, "nights", FIRST) / layout.REPORT).read_text()
    assert "hidden, or open in a program: ~$november.csv" in page


def test_bytes_of_the_export_that_came_too_late_are_told_in_note_report_and_alert(store, nights):
    answers(nights, store, FIRST, sampled())
    folder = next((nights.export.root / CONTAINER).rglob("d=02"))
    late = folder.with_name("d=01") / "h=09/m=05/PT05M.json"
    late.parent.mkdir(parents=True)
    late.write_text("{}\n")
    landing.land(FolderSource(nights.export.root / CONTAINER), nights.tables, FIRST, FIRST, FIRST)
    verdict = nights.run(FIRST)
    said = (
        "no night has read 3 bytes of the export, in 1 file of 2026-11-01, and none looks there again: set "
        "lookback_days in [retraining] to 2 or more, and the next night reads them"
    )
    assert said in verdict.note
    page = (layout.night_folder(nights.tables, "nights", FIRST) / layout.REPORT).read_text()
    assert f"{escape(said)}</li>" in page


@pytest.mark.parametrize(
    ("night", "said"), [("2999-01-01", "the night 2999-01-01 is still to come"), ("1.11.2026", "is not a date")]
)
def test_night_that_cannot_be_closed_is_refused(nights, capsys, night, said):
    with pytest.raises(SystemExit):
        run.main(["curate", "--run-key", "k", "--config", json.dumps({**nights.config, "nights": [night]})])
    assert said in capsys.readouterr().err


def test_request_id_hides_nobody_and_what_a_release_asks_counts_for_nothing(store, nights):
    people = sampled()
    answers(nights, store, FIRST, people.assign(Age=61), client="hr", request_id="verify-1")
    answers(nights, store, FIRST, people.assign(Age=18), client="release", request_id="hr-2")
    verdict = nights.run(FIRST)
    assert (verdict.status, verdict.records, verdict.used, verdict.own) == ("drifted", 300, 300, 300)
    (age,) = [one for one in verdict.findings if one.name == "Age"]
    assert (age.drifted, age.n, age.effect > 0.9) == (True, 300, True)


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"nights": 3}, "$.nights"),
        ({"nights": []}, "$.nights"),
        ({"use_case": "nothing"}, "there is no use case 'nothing': use one of attrition"),
    ],
)
def test_wrong_configuration_is_refused_by_field(capsys, config, fault):
    whole = {
        "use_case": "attrition", "nights": ["2026-11-02"], "tables": "", "outcomes": "", "original": "",
        "model_name": "m", "experiment": "e", **config,
    }  # fmt: skip
    with pytest.raises(SystemExit):
        run.main(["curate", "--run-key", "k", "--config", json.dumps(whole)])
    assert fault in capsys.readouterr().err


def test_champion_of_an_older_definition_is_judged_by_what_is_left_of_its_fields(store, tmp_path, monkeypatch):
    """A field removed, one renamed, one added and two of another kind, between two nights of one champion."""
    _, bundle, data = store
    fields = {field.name: field for field in ATTRITION.fields}
    del fields["DistanceFromHome"]
    fields["HourlyRate"] = msgspec.structs.replace(fields["HourlyRate"], name="RatePerHour")
    shift = msgspec.structs.replace(fields["OverTime"], name="Shift")
    level = msgspec.structs.replace(
        fields["JobLevel"], kind="category", categories=("1", "2"), minimum=None, maximum=None, example="1"
    )
    department = msgspec.structs.replace(
        fields["Department"], kind="integer", categories=(), minimum=0, maximum=9, example=1
    )
    changed = fields | {"JobLevel": level, "Department": department}
    now = msgspec.structs.replace(ATTRITION, fields=(*changed.values(), shift))
    export, scorer = Export(tmp_path / "export", half_written=0), Bundle.load(bundle)
    for night in NIGHTS[:2]:
        export_answers(export, scorer, night, sampled())
        landing.land(FolderSource(export.root / CONTAINER), tmp_path / "tables", night, START, END)
    write_outcomes(tmp_path / "outcomes", sampled(), NIGHTS[0] + timedelta(days=1))
    config = {
        "use_case": "attrition", "tables": str(tmp_path / "tables"), "outcomes": str(tmp_path / "outcomes"),
        "original": str(data),
        "model_name": ATTRITION.model_name, "experiment": EXPERIMENT,
    }  # fmt: skip

    def run_task(task, night):
        run.main([task, "--run-key", "k", "--config", json.dumps({**config, "nights": [night.isoformat()]})])

    run_task("curate", NIGHTS[0])  # by the definition that the champion was trained with
    monkeypatch.setattr(command_line, "load", lambda name: now)
    run_task("label", NIGHTS[0])
    run_task("judge", NIGHTS[0])
    run_task("curate", NIGHTS[1])
    run_task("label", NIGHTS[1])
    run_task("judge", NIGHTS[1])
    written = pd.read_parquet(layout.night_folder(tmp_path / "tables", "training", NIGHTS[1]) / "part-00000.parquet")
    assert written.groupby("source").size().to_dict() == {"inference": 300, "original": 600}
    assert "DistanceFromHome" not in written
    assert written[["RatePerHour", "Shift", "Department"]].isna().all().all()
    assert set(written["JobLevel"]) == {"1", "2", "3", "4", "5"}
    assert not written[["MonthlyIncome", "Attrition"]].isna().any().any()
    for verdict in read_verdicts(tmp_path / "tables", before=END):
        assert (verdict.champion, verdict.used) == ("1", 300)
        assert "DistanceFromHome (not a field any more)" in verdict.note
        assert "HourlyRate (not a field any more)" in verdict.note
        assert "JobLevel (was a number, became a category)" in verdict.note
        judged = {finding.name for finding in verdict.findings}
        assert "MonthlyIncome" in judged
        assert not judged & {"DistanceFromHome", "HourlyRate", "JobLevel", "Shift"}
