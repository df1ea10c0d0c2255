"""Stopping and resuming: what is refused meanwhile, and what is recorded."""

import functools
import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.models.connection import Connection
from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.sdk.exceptions import AirflowFailException
from kubernetes.client.exceptions import ApiException

from lifecycle.hooks import registry, targets
from lifecycle.hooks.slot import STATUS_FILE, Running, Slot, Status
from lifecycle.hooks.stop_switch import Stop, encode, stopped
from lifecycle.image_reference import ImageReference
from lifecycle.operators import local_steps
from lifecycle.operators.steps import StepError, Work
from lifecycle.tasks import release, rollback, switch
from tests.support.airflow import USE_CASE, run_task
from tests.support.http_double import serving
from tests.support.image_names import digest
from tests.support.scoring_steps import context as step_context
from tests.support.scoring_steps import make
from training.inference_log import layout
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


def test_canary_of_a_first_release_is_stopped_although_nothing_is_deployed_yet(slot):
    """It answers every request, and ``stop`` said that there was nothing to stop."""
    slot.home.mkdir(parents=True)
    layout.write_json(slot.home / STATUS_FILE, {"canary": RUNNING})
    assert run_task(switch.look_up_running, context(), USE_CASE) == {"image": "", "version": "", "said": encode(STOP)}


@pytest.mark.parametrize(("status", "runs"), [(None, True), (404, False)], ids=str)
def test_cluster_says_whether_a_canary_runs(connections, monkeypatch, status, runs):
    connections["scoring_production"] = Connection(conn_id="scoring_production", conn_type="kubernetes")
    asked = []

    def read(name, namespace):
        asked.append(name)
        if status:
            raise ApiException(status=status)

    client = SimpleNamespace(read_namespaced_deployment=lambda *given: read(*given) or "a deployment")
    monkeypatch.setattr(KubernetesHook, "apps_v1_client", client)
    assert targets.canary_runs(USE_CASE, "production") is runs
    assert asked == ["scoring-canary"]


@pytest.mark.parametrize(
    ("content", "stays"),
    [
        (encode(Stop("another fault", "eve", "2026-11-26T10:00:01+00:00")), True),
        (encode(Stop("another fault", "eve", "2026-11-26T12:00:01+02:00")), True),
        (encode(Stop("the same second", "eve", "2026-11-26T10:00:00Z")), False),
        (encode(Stop("wrong data", "eve", "2026-11-26T09:00:00Z")), False),
        ("by hand\n", False),
        (encode(Stop("without an offset", "eve", "2026-11-26T11:00:00")), False),
    ],
    ids=["later", "later elsewhere", "same second", "earlier", "by hand", "unknown"],
)
def test_resume_that_was_asked_for_before_the_stop_takes_nothing_back(slot, content, stays):
    """A task of an old run that somebody clears let scoring go on against whoever had stopped it since."""
    slot.set_stop(content)
    said = encode(Stop("mended", "bob", STOP.since))
    operator = make("resume", "production", image="", version="", said=said)
    if stays:
        with pytest.raises(
            AirflowFailException, match=r"by eve .another fault., after bob had asked.*attrition_resume"
        ):
            operator.execute(step_context(operator))
    else:
        operator.execute(step_context(operator))
    assert slot.stop_text() == (content if stays else None)


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
    slot.set_stop(encode(STOP))
    run_task(switch.record_stop, context(), USE_CASE, RUNNING)
    slot.set_stop(None)
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


def test_version_stays_marked_where_it_was_stopped_again_since(slot, recorded):
    """A cleared ``record_resume`` of an old run took the mark off."""
    slot.set_stop(encode(Stop("another fault", "eve", "2026-11-26T12:00:00+00:00")))
    run_task(switch.record_resume, context("attrition_resume", "mended", "bob"), USE_CASE, RUNNING)
    assert recorded.tags == [{tags.STOPPED: "2026-11-26 12:00 UTC by eve: another fault"}]


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
