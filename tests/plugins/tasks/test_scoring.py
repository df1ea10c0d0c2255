"""What a batch run decides once, and what it says when the partition is there."""

from datetime import UTC, date, datetime
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from lifecycle import settings
from lifecycle.hooks import registry
from lifecycle.hooks.registry import RegistryError, Version
from lifecycle.tasks import scoring
from tests.support.airflow import USE_CASE, make_settings
from training.batch.record import Batch, batch_file
from training.inference_log import layout


@pytest.fixture
def tables(tmp_path, monkeypatch):
    changed = make_settings({"tables": str(tmp_path / "tables"), "batch": "/in/{date}.parquet"})
    monkeypatch.setattr(settings, "load", lambda: changed)
    return tmp_path / "tables"


@pytest.fixture
def champion(monkeypatch):
    """A registry whose champion is version 3, and all approved; the bundle of a version is one file that names it."""
    state = {"champion": "3"}

    def resolve(_, version=None, *, alias):
        number = str(version or state[alias] or "")
        if not number:
            raise RegistryError(f"model has no version with alias {alias!r}")
        return Version(name="model", version=number, run_id="r", tags={})

    def download(_, version, destination):
        destination.mkdir()
        (destination / "contract.json").write_text(version)
        return destination

    monkeypatch.setattr(registry, "resolve", resolve)
    monkeypatch.setattr(registry, "download_bundle", download)
    monkeypatch.setattr(scoring.evidence, "read_last_approved", lambda use_case, version: None)
    monkeypatch.setattr(scoring.check, "bundle", lambda use_case, version, folder: None)
    return state


def context(run_id="r1", **params):
    run = SimpleNamespace(
        dag_id="score", run_id=run_id, logical_date=None, run_after=datetime(2026, 11, 3, 5, tzinfo=UTC)
    )
    seconds = SimpleNamespace(xcom_pull=lambda task_ids, key: {"score": 40.0} if task_ids == "score" else None)
    return {
        "ti": seconds,
        "dag_run": run,
        "params": {"input": "", "date": None, "version": None, "explain": False, **params},
    }


def pin(monkeypatch, **given):
    monkeypatch.setattr(scoring, "get_current_context", lambda: context(**given))
    return scoring.pin_model.function(USE_CASE)


def test_run_takes_the_settings_table_of_its_date_and_the_champion(tables, champion, monkeypatch):
    pinned = pin(monkeypatch)
    assert (pinned["source"], pinned["day"], pinned["version"]) == ("/in/2026-11-03.parquet", "2026-11-03", "3")
    assert len(pinned["bundle_digest"]) == len("sha256:") + 64


def test_params_count_more_than_the_settings(tables, champion, monkeypatch):
    pinned = pin(monkeypatch, input="/other/{date}.csv", date="2026-10-01", version=2)
    assert (pinned["source"], pinned["day"], pinned["version"]) == ("/other/2026-10-01.csv", "2026-10-01", "2")
    assert not pinned["explain"]
    assert pin(monkeypatch, run_id="r2", explain=True)["explain"]


def test_repeated_run_scores_with_what_it_had_pinned_although_the_champion_has_changed(tables, champion, monkeypatch):
    first = pin(monkeypatch)
    champion["champion"] = "4"
    assert pin(monkeypatch) == first
    assert pin(monkeypatch, run_id="r2")["version"] == "4"


def test_run_without_a_champion_or_a_table_says_what_to_do(tables, champion, monkeypatch):
    champion["champion"] = None
    with pytest.raises(RegistryError, match="no version with alias 'champion'"):
        pin(monkeypatch)
    monkeypatch.setattr(settings, "load", lambda: make_settings({"tables": str(tables)}))
    with pytest.raises(AirflowFailException, match="give the parameter input, or set batch in"):
        pin(monkeypatch)


def test_bundle_that_nobody_has_signed_scores_nothing(tables, champion, monkeypatch):
    def refuse(use_case, version, folder):
        assert (folder / "contract.json").read_text() == "3"
        raise scoring.check.UnsignedError("the bundle of version 3 is not signed")

    monkeypatch.setattr(scoring.check, "bundle", refuse)
    with pytest.raises(AirflowFailException, match="is not signed"):
        pin(monkeypatch)
    assert not (tables / "runs").exists(), "a repeated run looks again"


def announce(monkeypatch, pinned):
    notes, events = [], {}
    found = {**context(), "outlet_events": EventsOf(events)}
    monkeypatch.setattr(scoring, "get_current_context", lambda: found)
    monkeypatch.setattr(scoring.airflow_api, "set_run_note", lambda *given: notes.append(given[-1]))
    return scoring.announce_scores.function(USE_CASE, pinned), notes, events


class EventsOf:
    def __init__(self, events):
        self.events = events

    def __getitem__(self, asset):
        return self.events.setdefault(asset.name, SimpleNamespace(extra=None))


def test_partition_is_announced_with_its_counts(tables, champion, monkeypatch):
    pinned = pin(monkeypatch)
    batch = Batch(
        day="2026-11-03", source="/in/x", version="3", bundle_digest=pinned["bundle_digest"], rows=10, scored=9,
        rejected=1, outliers=2,
    )  # fmt: skip
    layout.write_json(
        batch_file(tables, date(2026, 11, 3)), {name: getattr(batch, name) for name in batch.__struct_fields__}
    )
    extra, notes, events = announce(monkeypatch, pinned)
    assert extra == {"day": "2026-11-03", "version": "3", "rows": 10, "rejected": 1}
    assert events[f"{USE_CASE}_scores"].extra == extra
    assert notes == [
        "10 rows of /in/x for 2026-11-03: 9 scored by version 3 (2 outliers), 1 rejected\n"
        "Cost: 40 s of Databricks jobs, 9 records scored: no price in the settings"
    ]


def test_partition_of_another_run_is_not_announced(tables, champion, monkeypatch):
    pinned = pin(monkeypatch)
    with pytest.raises(AirflowFailException, match="are not those of version 3"):
        announce(monkeypatch, pinned)
