"""Stopping and resuming: what is refused meanwhile, and what is recorded."""

import functools
import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.models.connection import Connection
from airflow.sdk.exceptions import AirflowFailException

from lifecycle.hooks import registry, targets
from lifecycle.hooks.slot import Running, Slot, Status
from lifecycle.hooks.stop_switch import Stop, encode, stopped
from lifecycle.image_reference import ImageReference
from lifecycle.operators import local_steps
from lifecycle.operators.steps import StepError, Work
from lifecycle.tasks import release, rollback, switch
from tests.support.airflow import USE_CASE, run_task
from tests.support.http_double import serving
from tests.support.image_names import digest
from training.registry import tags

RUNNING = {"image": f"/images/v7@{digest('7')}", "version": "7"}
STOP = Stop("wrong data", "ann", "2026-11-26T10:00:00+00:00")


@pytest.fixture
def slot(connections, tmp_path):
    """Production's slot on this machine, where nothing has been asked for yet."""
    extra = {"home": str(tmp_path)}
    connections["scoring_production"] = Connection(conn_id="scoring_production", conn_type="gunicorn", extra=extra)
    return Slot(connections["scoring_production"], USE_CASE, "production")


@pytest.fixture
def recorded(monkeypatch):
    """What the tasks write down: tags, artifacts, notes."""
    found = SimpleNamespace(tags=[], artifacts={}, notes=[], links={})
    version = registry.Version(name="m", version="7", run_id="r", tags={})
    monkeypatch.setattr(registry, "resolve", lambda use_case, version_, **_: version)
    monkeypatch.setattr(registry, "set_tags", lambda version_, values: found.tags.append(values))
    client = SimpleNamespace(log_text=lambda run, text, path: found.artifacts.update({path: json.loads(text)}))
    monkeypatch.setattr(registry, "client", functools.cache(lambda: client))
    monkeypatch.setattr(switch.airflow_api, "set_run_note", lambda dag, run, note: found.notes.append(note))
    monkeypatch.setattr(registry, "experiment_of", lambda run_id: "5")
    monkeypatch.setattr(switch.task_links, "show", lambda ti, shown: found.links.update(shown))
    return found


def context(dag="attrition_stop", reason="wrong data", user="ann"):
    after = datetime(2026, 11, 26, 10, tzinfo=UTC)
    run = SimpleNamespace(dag_id=dag, run_id="r1", run_type="manual", run_after=after, triggering_user_name=user)
    return {"dag_run": run, "params": {"reason": reason}, "ti": SimpleNamespace(), "triggering_asset_events": {}}


def test_where_nothing_is_deployed_the_message_says_what_to_do(slot):
    with pytest.raises(AirflowFailException, match=r"nothing is deployed in production.*attrition_release first"):
        run_task(switch.look_up_running, context(), USE_CASE)


def test_switch_says_reason_person_and_time(slot, monkeypatch):
    monkeypatch.setattr(targets, "current", lambda *_: RUNNING)
    found = run_task(switch.look_up_running, context(), USE_CASE)
    assert found == {**RUNNING, "said": encode(STOP)}
    assert json.loads(found["said"]) == {"reason": "wrong data", "by": "ann", "since": "2026-11-26T10:00:00+00:00"}
    assert (
        json.loads(run_task(switch.look_up_running, context(user=None), USE_CASE)["said"])["by"]
        == "somebody whom Airflow cannot name"
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encode(STOP), STOP),
        ("by hand\n", Stop("by hand")),
        ("", Stop()),
    ],
    ids=["ours", "text", "empty"],
)
def test_what_the_slots_file_says_is_read(slot, content, expected):
    assert stopped(USE_CASE, "production") is None
    slot.set_stop(content)
    assert stopped(USE_CASE, "production") == expected
    slot.set_stop(None)
    assert stopped(USE_CASE, "production") is None


@pytest.mark.parametrize(
    "task", [release.resolve_candidate, rollback.resolve_earlier_release], ids=lambda t: t.function.__name__
)
def test_release_and_rollback_refuse_to_start_and_say_who_stopped_when_and_why(slot, task):
    slot.set_stop(encode(STOP))
    message = r"stopped since 2026-11-26 10:00 UTC by ann: wrong data\. .*run attrition_resume first"
    with pytest.raises(AirflowFailException, match=message):
        run_task(task, context(), USE_CASE)


def test_stop_and_resume_are_recorded_in_evidence_on_the_version_and_in_the_note(slot, recorded):
    run_task(switch.record_stop, context(), USE_CASE, RUNNING)
    run_task(switch.record_resume, context("attrition_resume", "mended", "bob"), USE_CASE, RUNNING)
    stopped_then, resumed_then = recorded.artifacts.values()
    assert len(recorded.artifacts) == 2
    assert all(path.startswith("stops/") for path in recorded.artifacts)
    assert (stopped_then["action"], stopped_then["by"], stopped_then["reason"]) == ("stopped", "ann", "wrong data")
    assert (resumed_then["action"], resumed_then["by"], resumed_then["reason"]) == ("resumed", "bob", "mended")
    assert stopped_then["image"] == RUNNING["image"]
    assert recorded.tags == [{tags.STOPPED: "2026-11-26 10:00 UTC by ann: wrong data"}, {tags.STOPPED: ""}]
    assert recorded.notes[0] == "Version 7 stopped in production by ann: wrong data"
    assert {link.name for link in recorded.links} == {"MLflow run", "Model version", "Releases"}


def test_switch_that_a_person_wrote_by_hand_is_told_without_a_time():
    assert str(Stop("wrong data")) == "an unknown time by somebody: wrong data"


def test_what_no_release_rolled_out_is_stopped_all_the_same(slot, recorded, monkeypatch):
    def unknown(*_):
        raise targets.UnreleasedError("deployment scoring in n runs scoring:mine, which no release rolled out")

    monkeypatch.setattr(targets, "current", unknown)
    running = run_task(switch.look_up_running, context(), USE_CASE)
    assert (running["image"], running["version"], running["said"]) == ("", "", encode(STOP))
    run_task(switch.record_stop, context(), USE_CASE, running)
    assert recorded.notes == ["What no release rolled out was stopped in production by ann: wrong data"]
    assert recorded.tags == []


@pytest.mark.parametrize("said", [{"stopped": None}, {"service": "of before"}, ["another"]], ids=str)
def test_servers_of_this_machine_that_do_not_stop_in_time_are_named(monkeypatch, said):
    monkeypatch.setattr(local_steps, "SWITCH_SECONDS", 0.2)
    written = []
    with serving(lambda request: (200, said)) as here:
        slot = SimpleNamespace(set_stop=written.append, status=lambda: Status(stable=Running(**RUNNING, url=here.url)))
        image = ImageReference.parse(RUNNING["image"])
        work = Work(USE_CASE, "stop", "production", image, "7", "key", said=encode(STOP))
        with pytest.raises(StepError, match=f"after 0.2 s these servers have not taken it up: {here.url}"):
            local_steps.LocalSteps(slot, work).run()
    assert written == [encode(STOP)]
