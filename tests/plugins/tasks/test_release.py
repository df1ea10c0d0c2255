"""The registry and the evidence document, through the REST API of MLflow's own server."""

import functools
import itertools
import json
import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import jsonschema
import msgspec
import pytest
from airflow.models.connection import Connection
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from mlflow.store.tracking.rest_store import RestStore

from lifecycle import four_eyes, settings
from lifecycle.approval_keys import KeyRing
from lifecycle.evidence import document as evidence
from lifecycle.evidence import gate_body, signature
from lifecycle.hooks import airflow_api, registry
from lifecycle.hooks import connections as transport
from lifecycle.image_reference import ImageReference
from lifecycle.operators.batch_run import BatchRunOperator
from lifecycle.operators.job_run import JobRunOperator
from lifecycle.operators.steps import Work, refuse_unapproved
from lifecycle.settings import Signing
from lifecycle.signing import check, places
from lifecycle.tasks import release, rollback, scoring
from lifecycle.trace import trace_id
from tests.support.airflow import USE_CASE, make_settings, run_task
from tests.support.image_names import image
from tests.support.signing import make_key, required
from training.impact import record
from training.impact.record import Preview
from training.registry import tags

AA, CC = (ImageReference.parse(image(letters)) for letters in ("aa", "cc"))
METRIC = {"value": 0.85, "low": 0.8, "high": 0.9}
EVALUATION = {
    "titles": {"roc_auc": "ROC AUC"},
    "plain": {"metrics": {"roc_auc": {"value": 0.8, "low": 0.7, "high": 0.85}}, "comparison": {}},
    "challenger": {"roc_auc": METRIC},
    "champion": None,
    "comparison": {},
    "thresholds": [{"title": "ROC AUC", "kind": "minimum", "value": 0.85, "limit": 0.7, "passed": True, "note": ""}],
    "data": {"digest": "d1", "rows": 1470},
    "verdict": "passed",
    "reasons": ["all thresholds met"],
}
RING = KeyRing.new()
LENIENT = Signing(required=False)
FAULT = {"id": "CVE-1", "package": "flask", "version": "3.1.3", "severity": "LOW", "fixed": "3.1.4"}
SCAN = {"not_scanned": "", "packages": 24, "advisories": "2026-11-20", "faults": [FAULT]}
BUILT = {"image": image("aa"), "sbom_digest": "sha256:bb", "scan": SCAN}
RITA = {"id": "12", "name": "rita"}
REPORT = {"passed": True, "checks": [{"name": "health", "passed": True, "detail": "200"}]}
KEY = "preview-key"
"""Of the job that previewed the impact."""
CHANGES = {
    "image": ({**BUILT, "image": image("dd")}, REPORT),
    "what staging found": (BUILT, {**REPORT, "passed": False}),
}
CRUMBS = [{"task_id": "build_image", "operator": "BuildImageOperator", "duration": 2.04}, {"task_id": "x"}]
NOTHING = {"version": "", "image": ""}


@pytest.fixture
def model(mlflow_connection, connections, monkeypatch):
    """A registered model of its own for each test; ``add()`` registers a version with a training run."""
    name = f"model_{uuid.uuid4().hex[:8]}"

    def configure(keys=RING.public, signing=LENIENT, **of):
        changed = make_settings({"model_name": name, "experiment": name, **of}, approval_keys=keys, signing=signing)
        monkeypatch.setattr(settings, "load", lambda: changed)

    configure()
    monkeypatch.setattr(airflow_api, "set_run_note", lambda *arguments: None)
    monkeypatch.setattr(release.targets, "current", lambda use_case, target: None)
    connections[signature.CONNECTION_ID] = Connection(
        conn_id=signature.CONNECTION_ID, conn_type="generic", password=RING.private
    )
    client = registry.client()
    client.create_registered_model(name)
    experiment = client.create_experiment(name)

    def add(run_key="key"):
        run = client.create_run(experiment, tags={tags.RUN_KEY: run_key})
        client.log_text(run.info.run_id, json.dumps(EVALUATION), tags.EVALUATION_FILE)
        client.set_terminated(run.info.run_id)
        version = client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
        client.set_model_version_tag(name, version.version, tags.RUN_KEY, run_key)
        client.set_model_version_tag(name, version.version, tags.VERDICT, "passed")
        client.set_registered_model_alias(name, tags.CHALLENGER, version.version)
        return registry.resolve(USE_CASE, version.version)

    return SimpleNamespace(name=name, add=add, client=client, configure=configure, connections=connections)


@pytest.fixture(autouse=True)
def never_stopped(connections, tmp_path):
    """Production on this machine, whose stop switch nobody has set."""
    extra = {"home": str(tmp_path)}
    connections["scoring_production"] = Connection(conn_id="scoring_production", conn_type="gunicorn", extra=extra)


def context(run_id="run-1", **params):
    run = SimpleNamespace(
        dag_id="attrition_release",
        run_id=run_id,
        run_type="manual",
        run_after=datetime(2026, 11, 21, tzinfo=UTC),
        triggering_user_name="omar",
    )
    instance = SimpleNamespace(
        dag_id=run.dag_id,
        run_id=run_id,
        task_id="any",
        get_task_breadcrumbs=lambda **_: [*CRUMBS],
        get_dr_count=lambda **_: 0,
        get_task_states=lambda **_: {},
        pushed=(pushed := {}),
        xcom_push=lambda key, value: pushed.update({key: value}),
        xcom_pull=lambda task_ids, key="return_value": None,
    )
    return {"dag_run": run, "ti": instance, "params": params, "triggering_asset_events": {}}


def candidate(version, production=NOTHING):
    return {"name": version.name, "version": version.version, "production": production}


def run(task, now, *arguments):
    """What a task of the use case's release or rollback returns."""
    return run_task(task, now, USE_CASE, *arguments)


def alias(name):
    found = registry.by_alias(USE_CASE, name)
    return found.version if found else None


def test_resolve_without_a_challenger_says_what_to_do(model):
    with pytest.raises(registry.RegistryError, match="run attrition_train first"):
        registry.resolve(USE_CASE, None)


def test_resolve_unknown_version_is_refused_by_number(model):
    with pytest.raises(registry.RegistryError, match="no version 99"):
        registry.resolve(USE_CASE, 99)


@pytest.fixture
def resolve(monkeypatch):
    """Task ``resolve_candidate``: ``resolve(*announced versions, version=typed)`` -> (version or ``None``, notes)."""
    notes = []
    monkeypatch.setattr(release.airflow_api, "set_run_note", lambda dag, run, note: notes.append(note))
    monkeypatch.setattr(release.targets, "current", lambda *_: None)

    def resolved(*announced, **params):
        events = [SimpleNamespace(extra={"version": version}) for version in announced]
        now = {**context(**params), "triggering_asset_events": {"asset": events} if events else {}}
        try:
            return run(release.resolve_candidate, now)["version"], notes
        except AirflowSkipException:
            return None, notes

    return resolved


def test_candidate_is_the_typed_version_whatever_was_announced(model, resolve):
    first, second = model.add("key-a"), model.add("key-b")
    assert resolve(version=int(first.version))[0] == first.version
    assert resolve()[0] == second.version


def test_release_that_an_event_started_offers_the_newest_challenger_and_says_what_it_passes_over(model, resolve):
    """apache/airflow#56050: of versions 5, 6 and 7, registered while 4 waited, Airflow starts a run for 5 alone."""
    first, second, third = (model.add(f"key-{name}").version for name in "abc")
    offered, notes = resolve(first)
    assert offered == third
    assert notes == [
        f"Offers version {third} for production, where nothing runs yet; "
        f"passes over version {first}, announced before it"
    ]
    assert resolve(first, second, third)[0] == third
    assert notes[1].endswith(f"passes over version {first}, {second}, announced before it")


def test_note_says_what_a_run_offers_and_what_it_would_replace(model, resolve, monkeypatch):
    """The run's id says when it began, and no more: in the list of runs nobody knew one release from another."""
    only = model.add().version
    assert resolve(only) == (only, [f"Offers version {only} for production, where nothing runs yet"])
    running = {"version": "7", "image": image("aa")}
    monkeypatch.setattr(release.targets, "current", lambda use_case, target: running)
    assert resolve(only)[1][1] == f"Offers version {only} for production, in the place of version 7"


def test_tasks_of_a_release_link_to_run_version_evidence_and_page(model):
    version, now = model.add(), context()
    run(release.resolve_candidate, now)
    run(release.gather_evidence, now, candidate(version), BUILT, REPORT, KEY)
    pushed = now["ti"].pushed
    experiment = model.client.get_run(version.run_id).info.experiment_id
    view = "?workflowType=machine_learning"
    assert pushed == {
        "link_mlflow_run": f"http://mlflow/#/experiments/{experiment}/runs/{version.run_id}{view}",
        "link_model_version": f"http://mlflow/#/models/{model.name}/versions/{version.version}{view}",
        "link_model_releases": f"http://airflow/lifecycle/releases?use_case={USE_CASE}",
        "link_evidence": pushed["link_evidence"],
    }
    assert pushed["link_evidence"].startswith(f"http://airflow/lifecycle/evidence/{USE_CASE}/{version.run_id}/")


def test_event_whose_version_was_released_meanwhile_starts_nothing_and_says_so(model, resolve):
    released = model.add()
    model.client.delete_registered_model_alias(released.name, tags.CHALLENGER)
    offered, notes = resolve(released.version)
    assert offered is None
    assert notes == [
        f"Announced: version {released.version}. No version is the challenger any more, so nothing is left to release"
    ]


@pytest.mark.parametrize(
    ("path", "text"),
    [("top.md", "top"), ("a/b/deep.md", "deep"), ("other.md", None), ("a/b/other.md", None), ("none/deep.md", None)],
)
def test_text_of_a_run_is_found_without_asking_for_the_run_again_and_again(model, monkeypatch, path, text):
    """By its ``runs:/...`` MLflow asks for the run four times, in case a logged model has the text."""
    run_id = model.add().run_id
    model.client.log_text(run_id, "top", "top.md")
    model.client.log_text(run_id, "deep", "a/b/deep.md")
    asked, get_run = [], RestStore.get_run
    monkeypatch.setattr(RestStore, "get_run", lambda store, run_id: asked.append(run_id) or get_run(store, run_id))
    assert registry.find_text(run_id, path) == text
    assert len(asked) <= 2


def test_version_is_found_by_the_key_of_its_training_run(model):
    made = model.add("key-a")
    assert registry.by_training_run(USE_CASE, registry.training_run(USE_CASE, "key-a"), "key-a").version == made.version
    assert registry.training_run(USE_CASE, "key-b") is None
    assert registry.by_training_run(USE_CASE, "no such run", "key-b") is None


def test_version_that_a_person_made_of_the_same_run_is_not_taken_for_the_jobs(model):
    """MLflow's button *Register model* makes a version without verdict and tags, which the release would then offer."""
    made = model.add("key-a")
    source = model.client.get_model_version(model.name, made.version).source
    by_hand = model.client.create_model_version(model.name, source, made.run_id)
    assert int(by_hand.version) > int(made.version)
    assert registry.by_training_run(USE_CASE, made.run_id, "key-a").version == made.version
    model.client.delete_model_version(model.name, made.version)
    assert registry.by_training_run(USE_CASE, made.run_id, "key-a") is None


def test_gather_evidence_twice_leaves_one_document_and_the_staging_alias(model):
    version = model.add()
    first = run(release.gather_evidence, context(), candidate(version), BUILT, REPORT, KEY)
    assert run(release.gather_evidence, context(), candidate(version), BUILT, REPORT, KEY) == first
    stored = evidence.read(version.run_id, release.release_key(context()))
    assert stored.stage_seconds == {"build_image": 2.0}
    assert stored.release.requested_by == "omar"
    assert stored.release.trace_id == trace_id(context()["ti"])
    assert alias(tags.STAGING) == version.version
    assert registry.resolve(USE_CASE, version.version).tags[tags.EVIDENCE_DIGEST] == first["digest"]


def later(monkeypatch):
    """A context of the same run in which more time has gone by and another night was judged."""
    night = evidence.Night(window="2026-11-22", verdict="nothing drifted")
    monkeypatch.setattr(release, "recent_drift", lambda use_case: [night])
    now = context()
    now["ti"].get_task_breadcrumbs = lambda **_: [{**CRUMBS[0], "duration": 99.0}]
    return now


def test_text_and_evidence_are_made_once_and_used_again_by_a_later_try(model, answered, monkeypatch):
    version = model.add()
    first = run(release.gather_evidence, context(), candidate(version), BUILT, REPORT, KEY)
    assert registry.training_text(version.run_id, evidence.text_path(release.release_key(context()))) == first["body"]
    again = later(monkeypatch)
    monkeypatch.setattr(gate_body, "render", lambda *arguments, **options: pytest.fail("the text is made once"))
    assert run(release.gather_evidence, again, candidate(version), BUILT, REPORT, KEY) == first
    answered(first)
    run(release.record_approval, context(), candidate(version))
    assert run(release.gather_evidence, again, candidate(version), BUILT, REPORT, KEY) == first, (
        "also once it was decided"
    )


@pytest.mark.parametrize(("built", "report"), CHANGES.values(), ids=CHANGES)
def test_evidence_of_other_facts_is_made_again_with_its_text(model, monkeypatch, built, report):
    version = model.add()
    first = run(release.gather_evidence, context(), candidate(version), BUILT, REPORT, KEY)
    second = run(release.gather_evidence, later(monkeypatch), candidate(version), built, report, KEY)
    assert second["digest"] != first["digest"]
    assert "Drift in the night of 2026-11-22: nothing drifted." in second["body"]
    assert registry.training_text(version.run_id, evidence.text_path(release.release_key(context()))) == second["body"]


def test_evidence_holds_every_item_and_fits_the_published_schema(model, request):
    monitoring = model.client.create_experiment(f"{model.name}-monitoring")
    for day, fields in (("2026-11-19", 0), ("2026-11-20", 2)):
        marks = {tags.WINDOW: day, tags.NOTE: f"{fields} fields drifted", tags.CONFIRMED: "Age" if fields else ""}
        night = model.client.create_run(monitoring, tags=marks)
        model.client.log_metric(night.info.run_id, tags.DRIFTED_FIELDS, fields)
    version = model.add()
    model.client.set_model_version_tag(model.name, version.version, tags.DATA_DIGEST, "d1")
    running = {"version": "1", "image": image("0a")}
    body = run(release.gather_evidence, context(), candidate(version, running), BUILT, REPORT, KEY)["body"]
    stored = registry.training_artifact(version.run_id, evidence.path(release.release_key(context())))
    schema = json.loads((request.config.rootpath / "docs" / "evidence.schema.json").read_text())
    jsonschema.validate(stored, schema)
    assert [(night["window"], night["drifted_fields"]) for night in stored["drift"]] == [
        ("2026-11-20", 2),
        ("2026-11-19", 0),
    ]
    assert "Drift in the night of 2026-11-20: 2 fields drifted. **Confirmed: Age.**" in body
    assert stored["model"]["data_digest"] == "d1"
    assert stored["model"]["training_run_id"] == version.run_id
    assert stored["image"]["sbom_digest"] == "sha256:bb"
    assert stored["image"]["scan"] == SCAN
    assert stored["stage_seconds"] == {"build_image": 2.0}
    (built,) = stored["cost"]["used"]
    assert (built["stage"], built["unit"], built["amount"]) == ("build_image", "s of builds", None)
    assert stored["replaces"] == running
    incomplete = {name: value for name, value in stored["evaluation"].items() if name != "thresholds"}
    with pytest.raises(jsonschema.ValidationError, match="'thresholds' is a required property"):
        jsonschema.validate({**stored, "evaluation": incomplete}, schema)


def test_gate_body_shows_metrics_digest_checks_and_what_is_replaced(model):
    version = model.add()
    running = {"version": "1", "image": image("0a")}
    body = run_task(
        release.gather_evidence, context(note="spring"), USE_CASE, candidate(version, running), BUILT, REPORT, KEY
    )["body"]
    for part in (
        "| 0.850 |",
        AA.digest[7:19],
        "`0a0a0a0a0a0a`",
        "Staging: passed every check (1). Packages: 1 known fault, CVE-1 in flask 3.1.3 (LOW",
        "> **Note:** spring",
        "Asked by omar",
    ):
        assert part in body
    assert "Without an answer by 2026" in body
    page = f"http://airflow/lifecycle/evidence/{USE_CASE}/{version.run_id}/{release.release_key(context())}"
    assert f"[All evidence]({page})" in body


def test_terminal_has_the_sentence_that_the_gate_begins_with(model):
    version = model.add()
    shown = run(release.gather_evidence, context(), candidate(version), BUILT, REPORT, KEY)
    first = shown["body"].splitlines()[0].replace("**", "").replace("\\", "")
    assert first == shown["sentence"]
    assert shown["sentence"].startswith(f"{model.name} version {version.version} asks to go into production")


PREVIEW = Preview(challenger="2", champion="1", reason="nobody asked")


def test_evidence_and_gate_hold_what_the_preview_job_found(model):
    model.configure(tables="/tables")
    version, running = model.add(), {"version": "0", "image": image("0a")}
    with pytest.raises(AirflowFailException, match=f"the preview job has left no previews/{KEY}.json"):
        run(release.gather_evidence, context(), candidate(version, running), BUILT, REPORT, KEY)
    model.client.log_text(version.run_id, msgspec.json.encode(PREVIEW).decode(), record.path(KEY))
    shown = run(release.gather_evidence, context(), candidate(version, running), BUILT, REPORT, KEY)
    assert "Impact: no preview, because nobody asked." in shown["body"]
    assert evidence.read(version.run_id, release.release_key(context())).preview == PREVIEW


def test_first_release_says_that_there_is_nothing_to_compare_with(model):
    version = model.add()
    body = run(release.gather_evidence, context(), candidate(version), BUILT, REPORT, KEY)["body"]
    assert "Impact: no preview, because production runs no version yet that this one could be compared with." in body
    assert "Would enter" not in body


@pytest.fixture
def answered(monkeypatch):
    """Airflow's record of the gate: ``answered(shown, "Approve", user)``."""

    def answer(shown, option="Approve", user=RITA, at=None, tries=()):
        record = {
            "body": shown["body"],
            "params": {"comment": {"schema": {"digest": shown["digest"]}}},
            "chosen_options": [option] if option else None,
            "params_input": {"comment": "fine"},
            "responded_by_user": user if option else None,
            "responded_at": (at or datetime.now(UTC).isoformat()) if option else None,
        }
        monkeypatch.setattr(airflow_api, "question", lambda *gate: (record, list(tries)))

    return answer


def test_gate_says_that_the_schedule_asked(model, monkeypatch):
    """A release that an asset started has no user; security.md, finding 2."""
    nightly = {four_eyes.STARTED_BY: {"dag_id": "attrition_retrain_nightly", "run_id": "night"}}
    runs = {
        "training": {"run_type": "operator_triggered", "triggering_user_name": None, "conf": nightly},
        "night": {"run_type": "scheduled", "triggering_user_name": None, "conf": {}},
    }
    monkeypatch.setattr(airflow_api, "dag_run", lambda dag_id, run_id: runs[run_id])
    version, now = model.add(), context()
    now["dag_run"].run_type, now["dag_run"].triggering_user_name = "asset_triggered", None
    announced = SimpleNamespace(
        extra={"version": version.version}, source_dag_id="attrition_train", source_run_id="training"
    )
    now["triggering_asset_events"] = {"asset": [announced]}
    body = run(release.gather_evidence, now, candidate(version), BUILT, REPORT, KEY)["body"]
    assert r"Asked by the schedule (attrition\_retrain\_nightly) at" in body


def _decide(
    answered,
    version,
    run_id="run-1",
    approved=True,
    built=BUILT,
    production=NOTHING,
):
    """Gather the evidence of a release of a version and answer its gate."""
    now, given = context(run_id), candidate(version, production)
    shown = run(release.gather_evidence, now, given, built, REPORT, KEY)
    answered(shown, "Approve" if approved else "Reject")
    return run(release.record_approval if approved else release.record_rejection, now, given)


@pytest.fixture
def decide(answered):
    return functools.partial(_decide, answered)


def is_approved(version, digest):
    try:
        return evidence.read_approved(USE_CASE, registry.resolve(USE_CASE, version.version), digest)
    except registry.RegistryError:
        return None


def test_approval_binds_this_digest_and_no_other(model, answered):
    version = model.add()
    shown = run(release.gather_evidence, context(), candidate(version), BUILT, REPORT, KEY)
    assert not is_approved(version, AA)
    answered(shown)
    for _ in range(2):  # the second is another try of the same task
        assert run(release.record_approval, context(), candidate(version)) == image("aa")
    assert not is_approved(version, CC)
    assert not is_approved(version, None)
    kept = is_approved(version, AA)
    assert (kept.decision.decided_by, kept.decision.user_id, kept.decision.comment) == ("rita", "12", "fine")


@pytest.mark.parametrize(("built", "report"), CHANGES.values(), ids=CHANGES)
def test_approval_of_other_evidence_than_there_is_by_now_binds_nothing(model, answered, built, report):
    version = model.add()
    shown = run(release.gather_evidence, context(), candidate(version), BUILT, REPORT, KEY)
    answered(shown)
    run(release.gather_evidence, context(), candidate(version), built, report, KEY)
    with pytest.raises(AirflowFailException, match=f"rita approved evidence {shown['digest']}, and by now it is"):
        run(release.record_approval, context(), candidate(version))
    assert tags.APPROVAL not in registry.resolve(USE_CASE, version.version).tags
    assert not is_approved(version, ImageReference.parse(built["image"]))


def test_evidence_that_was_rewritten_while_the_question_stood_is_refused(model, answered):
    version = model.add()
    answered(run(release.gather_evidence, context(), candidate(version), BUILT, REPORT, KEY))
    document = evidence.read(version.run_id, release.release_key(context()))
    document.image.reference = image("ee", "evil.example/backdoor")
    place = evidence.path(release.release_key(context()))
    model.client.log_text(version.run_id, evidence.encode(document).decode(), place)
    with pytest.raises(AirflowFailException, match=r"by now it is .*evil\.example/backdoor"):
        run(release.record_approval, context(), candidate(version))


def test_approval_of_a_text_that_somebody_has_written_in_place_of_the_evidences_is_refused(model, answered):
    """The digest was right, and what the approver read of it came by an XCom."""
    version = model.add()
    shown = run(release.gather_evidence, context(), candidate(version), BUILT, REPORT, KEY)
    answered({**shown, "body": f"{shown['body']}\n- Everything was looked at twice."})
    with pytest.raises(AirflowFailException, match="what await_approval showed is not the text of this evidence"):
        run(release.record_approval, context(), candidate(version))
    assert not is_approved(version, AA)
    answered({**shown, "body": f"{shown['body']}\n"})
    assert run(release.record_approval, context(), candidate(version)) == image("aa")


MALLORY = {"id": "9", "name": "mallory"}
NOT_APPROVED = {
    "nobody answered": ({"option": None}, {}, "nobody has answered await_approval"),
    "answered no": ({"option": "Reject"}, {}, "rita rejected this release"),
    "not listed any more": ({"user": MALLORY}, {"approvers": ("rita",)}, "mallory .id 9. is not among the approvers"),
    "the requester": (
        {"user": {"id": "7", "name": "omar"}},
        {"requester_may_approve": False},
        "omar .id 7. asked for this release",
    ),
}


@pytest.mark.parametrize(("answer", "of", "message"), NOT_APPROVED.values(), ids=NOT_APPROVED)
def test_approval_is_read_from_airflows_own_record_and_counts_by_the_settings_of_now(
    model, answered, answer, of, message
):
    """An XCom of the gate could be written by hand, so none is read."""
    version = model.add()
    answered(run(release.gather_evidence, context(), candidate(version), BUILT, REPORT, KEY), **answer)
    model.configure(**of)
    with pytest.raises(AirflowFailException, match=message):
        run(release.record_approval, context(), candidate(version))
    assert not is_approved(version, AA)


@pytest.mark.parametrize(("ago", "counts"), [(timedelta(seconds=20), True), (timedelta(hours=2), False)], ids=str)
def test_answer_to_a_gate_that_silence_had_decided_approves_nothing(model, answered, ago, counts):
    """Airflow takes it, and whoever may clear ``record_approval`` alone would have turned the no into a yes."""
    version = model.add()
    ended = (datetime.now(UTC) - ago).isoformat()
    shown = run(release.gather_evidence, context(), candidate(version), BUILT, REPORT, KEY)
    answered(shown, tries=[{"state": "failed", "end_date": None}, {"state": "success", "end_date": ended}])
    if counts:  # clocks differ
        assert run(release.record_approval, context(), candidate(version)) == image("aa")
    else:
        with pytest.raises(AirflowFailException, match="nobody has answered await_approval in time"):
            run(release.record_approval, context(), candidate(version))
    assert bool(is_approved(version, AA)) == counts


def test_release_whose_gate_never_asked_is_not_approved(model, monkeypatch):
    version = model.add()
    run(release.gather_evidence, context(), candidate(version), BUILT, REPORT, KEY)
    monkeypatch.setattr(airflow_api, "question", lambda *gate: None)
    with pytest.raises(AirflowFailException, match="no record of a question"):
        run(release.record_approval, context(), candidate(version))


@pytest.mark.parametrize("option", [None, "Approve"], ids=["silence", "an approval after the time was over"])
def test_rejection_without_an_answer_in_time_is_nobodys(model, answered, option):
    version, now = model.add(), context()
    answered(run(release.gather_evidence, now, candidate(version), BUILT, REPORT, KEY), option)
    now["ti"].get_task_states = lambda dag_id, task_ids, run_ids: {run_ids[0]: {task_ids[0]: "skipped"}}
    run(release.record_rejection, now, candidate(version))
    kept = evidence.read(version.run_id, release.release_key(context())).decision
    assert (kept.approved, kept.decided_by) == (False, "nobody")
    assert not is_approved(version, AA)


@pytest.mark.parametrize("state", ["success", "running", "failed", None])
def test_gate_that_was_marked_as_a_success_by_hand_takes_no_approval_back(model, answered, state):
    """It skips no branch: both tasks run, and the approval counted or not by which of them came last."""
    version, now = model.add(), context()
    answered(run(release.gather_evidence, now, candidate(version), BUILT, REPORT, KEY))
    run(release.record_approval, now, candidate(version))
    now["ti"].get_task_states = lambda dag_id, task_ids, run_ids: {run_ids[0]: {task_ids[0]: state}}
    with pytest.raises(AirflowFailException, match="rita approved this release by Airflow's record, so no rejection"):
        run(release.record_rejection, now, candidate(version))
    assert is_approved(version, AA)


def test_evidence_of_a_release_that_was_decided_stays_with_its_decision(model, decide):
    """A cleared ``gather_evidence`` put the undecided document back, and production's approval counted no more."""
    version = model.add()
    decide(version)
    again = run(release.gather_evidence, context(), candidate(version), BUILT, REPORT, KEY)
    kept = is_approved(version, AA)
    assert kept.decision.decided_by == "rita"
    assert again["digest"] == evidence.digest(evidence.undecided(kept))
    for built, report in CHANGES.values():
        with pytest.raises(AirflowFailException, match=r"rita has decided on this release.*Trigger a new run of attri"):
            run(release.gather_evidence, context(), candidate(version), built, report, KEY)
    assert is_approved(version, AA)


@pytest.mark.parametrize("approved", [True, False], ids=["approval", "rejection"])
def test_decision_of_an_old_run_that_is_cleared_does_not_stand_above_a_later_approval(
    model, answered, decide, approved
):
    """The image that a rollback puts back, and the code that scores a table, was that of the old run again."""
    version, old = model.add(), context("old")
    shown = run(release.gather_evidence, old, candidate(version), BUILT, REPORT, KEY)
    then = datetime.now(UTC).isoformat()
    answered(shown, "Approve" if approved else "Reject", at=then)
    recorded = release.record_approval if approved else release.record_rejection
    run(recorded, old, candidate(version))
    decide(version, "new", built={**BUILT, "image": image("cc")})
    before = registry.resolve(USE_CASE, version.version).tags
    answered(shown, "Approve" if approved else "Reject", at=then)
    with pytest.raises(AirflowFailException, match=rf"rita approved {image('cc')} as version .* in run new.*is older"):
        run(recorded, old, candidate(version))
    assert registry.resolve(USE_CASE, version.version).tags == before
    earlier = run(rollback.resolve_earlier_release, context(version=int(version.version)))
    assert earlier["image"] == image("cc")


def tagged(model, version, document):
    """What whoever may write to MLflow can do: store a document and tag it as the approval."""
    place = evidence.path(document.release.key)
    model.client.log_text(version.run_id, evidence.encode(document).decode(), place)
    content = document.image.content
    registry.set_tags(
        version, {registry.approval_tag(content): evidence.approval(document), tags.APPROVED_IMAGE: str(content)}
    )


def resigned(document, ring, **changes):
    """The document with its statement changed and signed by another key."""
    changed = msgspec.structs.replace(document.approval.statement, **changes)
    return msgspec.structs.replace(document, approval=signature.SignedApproval.sign(changed, ring.private, ring.public))


def edited(document, part, **changes):
    return msgspec.structs.replace(document, **{part: msgspec.structs.replace(getattr(document, part), **changes)})


OTHER = KeyRing.new()
FORGERIES = {
    "a tag alone": lambda document: None,
    "never decided": evidence.undecided,
    "unsigned": lambda document: msgspec.structs.replace(document, approval=None),
    "another image": lambda document: edited(document, "image", reference=image("aa", "evil.example/backdoor")),
    "other evidence": lambda document: edited(document, "model", verdict="failed"),
    "another person": lambda document: edited(document, "decision", decided_by="hana"),
    "turned from no to yes": lambda document: resigned(
        edited(document, "decision", approved=True), RING, approved=False
    ),
    "rejected": lambda document: resigned(edited(document, "decision", approved=False), RING, approved=False),
    "another key": lambda document: resigned(document, OTHER),
    "another key by its name": lambda document: edited(resigned(document, OTHER), "approval", key=RING.public[0].id),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
@pytest.mark.parametrize("through", ["rollback", "deployment"])
def test_who_may_write_to_mlflow_cannot_approve(model, decide, forge, through):
    """security.md, finding 3: tags and a document decided what production takes."""
    version = model.add()
    decide(version)
    document = is_approved(version, AA)
    forged = forge(document)
    if forged is None:
        registry.set_tags(version, {registry.approval_tag(AA): "x"})
    else:
        tagged(model, version, forged)
    now = context(version=int(version.version))
    work = Work(USE_CASE, "deploy", "production", AA, version.version, "key")
    with pytest.raises((registry.RegistryError, AirflowFailException), match="elease it with attrition_release"):
        run(rollback.resolve_earlier_release, now) if through == "rollback" else refuse_unapproved(work, AA, None)


def test_production_takes_the_signed_image_and_no_other_under_its_digest(model, decide):
    version = model.add()
    decide(version)
    work = Work(USE_CASE, "deploy", "production", AA, version.version, "key")
    refuse_unapproved(work, AA, None)
    other = ImageReference.parse(image("aa", "evil.example/backdoor"))
    with pytest.raises(AirflowFailException, match="or it is about another image"):
        refuse_unapproved(msgspec.structs.replace(work, image=other), other, None)


def test_approval_of_a_key_that_was_replaced_counts_and_of_one_that_was_taken_off_the_list_does_not(model, decide):
    version = model.add()
    decide(version)
    rotated = RING.rotated()
    model.configure(keys=rotated.public)
    assert is_approved(version, AA)
    model.configure(keys=rotated.public[1:])
    with pytest.raises(registry.RegistryError, match="is not listed in approval_keys"):
        evidence.read_approved(USE_CASE, registry.resolve(USE_CASE, version.version), AA)


def test_approval_survives_a_later_schema_of_the_document(model, decide, monkeypatch):
    """A member that a later version adds is not in documents that were signed before."""
    version = model.add()
    decide(version)

    class Later(evidence.Evidence, kw_only=True):
        added: str = ""

    monkeypatch.setattr(evidence, "Evidence", Later)
    assert is_approved(version, AA).added == ""


def test_without_a_listed_key_nothing_is_approved_and_the_message_says_what_to_list(model, decide):
    model.configure(keys=())
    with pytest.raises(signature.SignatureError, match=RING.public[0].public.replace("+", r"\+")):
        decide(model.add())


@pytest.mark.parametrize(("state", "restores"), [("success", True), ("upstream_failed", False), (None, False)], ids=str)
def test_production_is_put_back_only_where_this_try_was_approved(state, restores):
    """A result of ``record_approval`` outlives a clear; the gate or the build may then fail."""
    now = context()
    now["ti"].get_task_states = lambda dag_id, task_ids, run_ids: {run_ids[0]: {task_ids[0]: state}}
    if restores:
        release.skip_unless_approved(now)
    else:
        with pytest.raises(AirflowSkipException, match="before production was touched"):
            release.skip_unless_approved(now)


def test_gate_that_was_cleared_and_answered_no_takes_its_own_approval_back(model, decide):
    version = model.add()
    decide(version)
    decide(version, approved=False)
    assert not is_approved(version, AA)
    assert registry.resolve(USE_CASE, version.version).tags[tags.APPROVAL] == "rejected"


@pytest.mark.parametrize("built", [BUILT, {**BUILT, "image": image("cc")}], ids=["same image", "newer image"])
def test_rejected_release_of_what_runs_leaves_its_approval_and_its_way_back(model, built, decide):
    first = released(model, decide)
    decide(first, "again", approved=False, built=built)
    assert registry.resolve(USE_CASE, first.version).tags[tags.APPROVAL] == "rejected"
    assert is_approved(first, AA)
    assert not is_approved(first, CC)
    assert run(rollback.resolve_earlier_release, context(version=int(first.version)))["image"] == image("aa")


def test_second_approval_of_a_version_leaves_the_first_image_restorable(model, decide):
    version = model.add()
    decide(version)
    decide(version, "again", built={**BUILT, "image": image("cc")})
    assert is_approved(version, AA)
    assert is_approved(version, CC)
    assert run(rollback.resolve_earlier_release, context(version=int(version.version)))["image"] == image("cc")


def test_rejection_says_what_staging_gets_back_the_champion_as_it_runs_now(model, monkeypatch, decide):
    running = {"version": "1", "image": image("0a")}
    monkeypatch.setattr(
        release.targets, "current", lambda use_case, target: running if target == "production" else None
    )
    assert decide(model.add(), approved=False) == running


def test_approval_of_a_release_whose_production_has_changed_goes_no_further(model, monkeypatch, decide):
    monkeypatch.setattr(release.targets, "current", lambda use_case, target: {"version": "1", "image": image("bc")})
    with pytest.raises(AirflowFailException, match=rf"version 1 \({image('bc')}\) runs there, not 2 \({image('02')}\)"):
        decide(model.add(), production={"version": "2", "image": image("02")})


def test_approval_that_is_recorded_again_after_its_rollout_is_no_change_of_production(model, monkeypatch, decide):
    monkeypatch.setattr(release.targets, "current", lambda use_case, target: {"version": "1", "image": image("aa")})
    assert decide(model.add()) == image("aa")


@pytest.fixture
def cluster(connections):
    """Production in a cluster, and a registry of its own."""
    connections["scoring_production"] = Connection(conn_id="scoring_production", conn_type="kubernetes")
    connections["registry"] = Connection(conn_id="registry", conn_type="docker", host="new.example.com")


def test_approval_goes_no_further_where_what_runs_could_not_be_put_back(model, cluster, monkeypatch, decide):
    running = {"version": "1", "image": image("0a", "former.example.com/attrition-scoring")}
    monkeypatch.setattr(release.targets, "current", lambda use_case, target: running)
    monkeypatch.setattr(release, "refuse_while_stopped", lambda use_case: None)
    with pytest.raises(AirflowFailException, match=r"could not be put back.*list its repository in other_repositories"):
        decide(model.add(), production=running)


def test_approval_while_a_rollback_runs_goes_no_further(model, answered):
    version = model.add()
    now = context()
    answered(run(release.gather_evidence, now, candidate(version), BUILT, REPORT, KEY))
    now["ti"].get_dr_count = lambda dag_id, states: int((dag_id, states) == ("attrition_rollback", ["running"]))
    with pytest.raises(AirflowFailException, match="attrition_rollback is changing production"):
        run(release.record_approval, now, candidate(version))


@pytest.mark.parametrize(
    ("tasks", "state", "found"),
    [
        pytest.param({"record_approval": None}, "running", None, id="at its gate"),
        pytest.param({"record_approval": "running"}, "running", "r", id="being approved"),
        pytest.param({"record_approval": "success", "promote": None}, "running", "r", id="in production"),
        pytest.param(
            {"record_approval": "success", "promote": "upstream_failed", "restore_production": "deferred"},
            "running",
            "r",
            id="restoring",
        ),
        pytest.param(
            {"record_approval": "success", "promote": "success", "restore_production": "skipped"},
            "running",
            None,
            id="done",
        ),
        pytest.param({"record_approval": "success", "promote": None}, "failed", None, id="marked as failed"),
    ],
)
def test_rollback_is_refused_from_the_approval_of_a_release_to_its_end(model, tasks, state, found):
    now = context(version=1)
    now["ti"].get_task_states = lambda dag_id, task_ids: {"r": tasks}
    now["ti"].get_dagrun_state = lambda dag_id, run_id: state
    assert rollback.release_in_production(USE_CASE, now["ti"]) == found
    if found:
        with pytest.raises(AirflowFailException, match="release r is changing production: try again when it has ended"):
            run(rollback.resolve_earlier_release, now)


def test_promote_moves_aliases_once_however_often_it_runs(model):
    first, second = model.add("a"), model.add("b")
    run(release.promote, context(), candidate(first), image("01"))
    assert (alias(tags.CHAMPION), alias(tags.PREVIOUS_CHAMPION)) == (first.version, None)
    for _ in range(2):
        run(release.promote, context(), candidate(second), image("02"))
        assert (alias(tags.CHAMPION), alias(tags.PREVIOUS_CHAMPION)) == (second.version, first.version)
    assert alias(tags.CHALLENGER) is None


def killed_at(model, monkeypatch, call, doing):
    """Do something and be killed before its nth change of the registry; whether it got that far."""

    class Killed(BaseException):
        pass

    left = [call]

    def dying(change):
        def changed(*arguments):
            if not left[0]:
                raise Killed
            left[0] -= 1
            change(*arguments)

        return changed

    with monkeypatch.context() as patched:
        for name in ("set_model_version_tag", "set_registered_model_alias", "delete_registered_model_alias"):
            patched.setattr(model.client, name, dying(getattr(model.client, name)))
        try:
            doing()
        except Killed:
            return True
    return False


@pytest.mark.parametrize("moves", ["on to a new version", "back to the one before"])
def test_promote_killed_at_any_change_is_completed_and_no_rollback_meanwhile_goes_where_production_is(
    model, decide, monkeypatch, moves
):
    """Killed between two aliases it left ``previous_champion`` at the champion, and a rollback changed nothing."""
    first, second, third = versions = [model.add(key) for key in "abc"]
    for number, version in enumerate(versions):
        decide(version, f"run-{number}")
    to = third if moves == "on to a new version" else first
    running = {}
    monkeypatch.setattr(release.targets, "current", lambda use_case, target: running)

    def promote(version):
        running.update(version=version.version, image=BUILT["image"])
        run(release.promote, context(), candidate(version), BUILT["image"])

    def earlier():
        return run(rollback.resolve_earlier_release, context())["version"]

    for call in itertools.count():
        for version in (first, second):
            promote(version)
        if not killed_at(model, monkeypatch, call, lambda: promote(to)):
            break
        champion = alias(tags.CHAMPION)
        if (champion, to) == (second.version, first):
            with pytest.raises(AirflowFailException, match=rf"runs version {first.version}, .*is to run"):
                earlier()
        else:
            assert earlier() == second.version, "which ran before the deployment that no promotion followed"
        # Where no server answers, production is the champion.
        running["version"] = champion
        assert earlier() == {second.version: first, to.version: second}[champion].version
        promote(to)
        assert (alias(tags.CHAMPION), alias(tags.PREVIOUS_CHAMPION)) == (to.version, second.version)
        assert earlier() == second.version
    assert call >= 4, "two aliases and two tags are changed at least"


def test_rollback_knows_what_became_champion_before_versions_said_what_they_replace(model, decide):
    first, second = model.add("a"), model.add("b")
    decide(first)
    model.client.set_registered_model_alias(model.name, tags.CHAMPION, second.version)
    for previous, known in ((first, first.version), (second, None)):
        model.client.set_registered_model_alias(model.name, tags.PREVIOUS_CHAMPION, previous.version)
        found = registry.before_champion(USE_CASE)
        assert (found.version if found else None) == known
    with pytest.raises(AirflowFailException, match="no version that was in production before: give the number"):
        run(rollback.resolve_earlier_release, context())


def test_batch_scores_with_no_version_that_was_not_approved(model, decide, monkeypatch, tmp_path):
    """A number in the trigger's form, or an alias that somebody moved, wrote any version's scores into the table."""
    version = model.add()
    model.client.set_registered_model_alias(model.name, tags.CHAMPION, version.version)
    (tmp_path / "bundle").mkdir()
    monkeypatch.setattr(registry, "download_bundle", lambda *_: tmp_path / "bundle")
    now = context(input="/in/people.csv", date="2026-11-03")
    for asked in (now, context(**now["params"], version=int(version.version))):
        with pytest.raises(registry.RegistryError, match="was never approved for production"):
            scoring.what_to_score(USE_CASE, asked)
    begun, pin = [], {"version": version.version}
    monkeypatch.setattr(JobRunOperator, "execute", lambda self, context: begun.append(self.pinned))
    score = BatchRunOperator(task_id="score", use_case=USE_CASE, code={}, pinned=pin)
    with pytest.raises(AirflowFailException, match=r"nothing is written by version 1: .*was never approved"):
        score.execute(now)  # an XCom that somebody wrote
    decide(version)
    assert scoring.what_to_score(USE_CASE, now)["version"] == version.version
    score.execute(now)
    assert begun == [pin]


def test_cleared_promotion_of_an_old_release_moves_no_alias(model, monkeypatch):
    """The registry called a version the champion that production did not run."""
    first, second = model.add("a"), model.add("b")
    for version, built in ((first, "01"), (second, "02")):
        run(release.promote, context(), candidate(version), image(built))
    running = {"version": second.version, "image": image("02")}
    monkeypatch.setattr(release.targets, "current", lambda use_case, target: running)
    with pytest.raises(AirflowFailException, match=rf"production runs version {second.version} .* no alias is moved"):
        run(release.promote, context(), candidate(first), image("01"))
    with pytest.raises(AirflowFailException, match=rf"and not version {first.version} "):
        run(release.promote, context(), candidate(first), image("02"))
    assert (alias(tags.CHAMPION), alias(tags.PREVIOUS_CHAMPION)) == (second.version, first.version)
    run(release.promote, context(), candidate(second), image("02"))


def released(model, decide):
    """A version that was released and then replaced: what a rollback finds."""
    first, second = model.add("a"), model.add("b")
    for number, version in enumerate((first, second)):
        decide(version, f"run-{number}")
        run(release.promote, context(), candidate(version), BUILT["image"])
    return first


@pytest.fixture
def posted(connections, monkeypatch):
    """The messages that people get by Slack: heading, sentence and link of each."""
    found = []
    connections["messages"] = Connection(conn_id="messages", conn_type="http", host="hooks", extra={"service": "slack"})
    monkeypatch.setattr(transport, "post", lambda conn_id, body: found.append(body["text"].splitlines()))
    return found


def test_people_are_told_what_is_in_production_and_why_it_went_back(model, decide, posted):
    first = released(model, decide)
    assert [heading.endswith("was released*") for heading, *_ in posted] == [True, True]
    now = context("run-9", version=None, reason="it was worse")
    earlier = run(rollback.resolve_earlier_release, now)
    run(release.promote, now, earlier, earlier["image"])
    heading, sentence, link = posted[-1]
    assert heading.endswith("was rolled back*")
    assert sentence.startswith(f"Version {first.version} is in production")
    assert sentence.endswith("Reason: it was worse")
    assert "/dags/attrition_release/runs/run-9|" in link


def test_people_are_told_of_a_release_that_failed_and_was_put_back(model, posted):
    now = context("run-9")
    now["ti"].task = SimpleNamespace(use_case=USE_CASE)
    now["ti"].xcom_pull = lambda task_ids: {"version": "3"} if task_ids == "resolve_candidate" else None
    release.tell_put_back(now)
    ((heading, _, link),) = posted
    assert heading.endswith("the release of version 3 failed*")
    assert "/dags/attrition_release/runs/run-9|" in link


def test_rollback_starts_from_the_evidence_of_the_earlier_release(model, decide):
    first = released(model, decide)
    earlier = run(rollback.resolve_earlier_release, context(version=None, reason="errors"))
    assert (earlier["version"], earlier["image"]) == (first.version, BUILT["image"])
    assert earlier["production"] == NOTHING


def test_rollback_says_what_it_found_in_production_and_begins_whatever_runs_there(model, decide, monkeypatch):
    released(model, decide)
    running = {"version": "2", "image": image("02")}
    monkeypatch.setattr(release.targets, "current", lambda use_case, target: running)
    assert run(rollback.resolve_earlier_release, context())["production"] == running

    def unknown(use_case, target):
        raise release.targets.TargetError("somebody set an image by hand")

    monkeypatch.setattr(release.targets, "current", unknown)
    assert run(rollback.resolve_earlier_release, context())["production"] == NOTHING


@pytest.mark.parametrize("rejected", [False, True], ids=["not released", "rejected"])
def test_rollback_to_a_version_that_was_never_approved_is_refused(model, rejected, decide):
    released(model, decide)
    third = model.add("c")
    if rejected:
        decide(third, "run-3", approved=False)
    with pytest.raises(registry.RegistryError, match="never approved"):
        run(rollback.resolve_earlier_release, context(version=int(third.version)))


def test_rollback_refuses_evidence_that_was_changed_after_the_approval(model, decide):
    first = released(model, decide)
    found = registry.resolve(USE_CASE, first.version)
    document = evidence.read_approved(USE_CASE, found, AA)
    document.image.reference = image("ee")
    model.client.log_text(found.run_id, evidence.encode(document).decode(), found.tags[tags.EVIDENCE])
    with pytest.raises(registry.RegistryError, match="not the one that was approved"):
        run(rollback.resolve_earlier_release, context(version=int(first.version)))


def test_rollback_takes_no_image_but_the_one_that_its_evidence_was_approved_with(model, decide):
    """Evidence and tags lie in the same MLflow: another image under the approved digest is not to be expressed."""
    first = released(model, decide)
    smuggled = image("aa", "evil.example/backdoor")
    model.client.set_model_version_tag(model.name, first.version, tags.APPROVED_IMAGE, smuggled)
    with pytest.raises(registry.RegistryError, match="not the one that was approved"):
        run(rollback.resolve_earlier_release, context(version=int(first.version)))


@pytest.fixture
def signing(model, tmp_path, monkeypatch):
    """Signatures are required from here on; the images' lie in a dictionary, by digest."""
    held, kept = [make_key(tmp_path, name) for name in ("training", "builds")], {}
    model.configure(signing=required(*held))

    def place(found):
        return SimpleNamespace(
            read=lambda: kept.get(found.digest, []), write=lambda entries: kept.update({found.digest: entries})
        )

    monkeypatch.setattr(places, "of", place)
    return kept


def test_rollback_to_an_unsigned_version_says_so_plainly_and_what_to_do(model, decide, signing):
    first = released(model, decide)
    now = context(version=int(first.version))
    with pytest.raises(
        AirflowFailException,
        match=rf"production does not go back to version {first.version}: the image .* is not signed: it has no "
        rf"signature\. .*make sign USE_CASE=attrition VERSION={first.version}",
    ):
        run(rollback.resolve_earlier_release, now)
    check.sign_image(USE_CASE, AA, "99")
    with pytest.raises(AirflowFailException, match="its signature is for version 99"):
        run(rollback.resolve_earlier_release, now)
    check.sign_image(USE_CASE, AA, first.version)
    assert run(rollback.resolve_earlier_release, now)["image"] == image("aa")


def test_release_does_not_begin_where_what_production_runs_could_not_be_put_back(model, decide, signing, monkeypatch):
    """It would be refused, unsigned as it is, when the release had failed and production was without a version."""
    running, version = model.add("a"), model.add("b")
    monkeypatch.setattr(
        release.targets, "current", lambda *_: {"image": f"/images/v1@{AA.digest}", "version": running.version}
    )
    now = context(version=int(version.version))
    with pytest.raises(AirflowFailException, match=r"could not be put back if this release fails: .*is not signed"):
        run(release.resolve_candidate, now)
    check.sign_image(USE_CASE, ImageReference("/images/v1", AA.digest), running.version)
    assert run(release.resolve_candidate, now)["version"] == version.version


def test_tags_have_names_that_unity_catalog_takes():
    names = {value for name, value in vars(tags).items() if isinstance(value, str) and value.startswith("lifecycle")}
    assert {tags.RUN_KEY, tags.APPROVAL_OF, tags.CONFIRMED} <= names
    for name in [*names, registry.approval_tag(AA)]:
        assert not set(name) & set(".,-=/: "), name


def test_connection_of_another_type_is_refused_by_name(connections):
    from airflow.models.connection import Connection

    connections["mlflow"] = Connection(conn_id="mlflow", conn_type="ftp", host="x")
    with pytest.raises(registry.RegistryError, match="'ftp': use http"):
        registry.client()


def test_published_schema_is_the_documents(request):
    published = request.config.rootpath / "docs" / "evidence.schema.json"
    assert json.loads(published.read_text()) == json.loads(json.dumps(evidence.schema())), "renew it: make docs"


def rendered(evaluation, running=""):
    """The gate's text of a release whose evaluation has these parts."""
    document = msgspec.convert(
        {
            "release": dict.fromkeys(("key", "dag_id", "run_id", "requested_by", "requested_at"), "x"),
            "model": dict.fromkeys(
                ("name", "version", "training_run_id", "data_digest", "git_revision", "verdict"), "x"
            ),
            "evaluation": {**EVALUATION, **evaluation},
            "replaces": {"version": running, "image": image("cc")} if running else None,
            "image": {"reference": image("aa"), "sbom_digest": "x"},
            "staging_report": {"checks": [{"name": "golden answers", "passed": False, "detail": "0.2 off"}]},
        },
        evidence.Evidence,
    )
    return gate_body.render(document, mlflow_url="http://m", airflow_url="http://a", experiment_id="1")


def plainly(body):
    """The gate's text, with cells that may break."""
    return body.replace("\N{NO-BREAK SPACE}", " ")


def test_gate_body_marks_what_failed():
    brier = {"title": "Brier score", "kind": "maximum", "value": 1, "limit": 0.1, "passed": False, "note": ""}
    note = "Age, 95% interval 0.2 to 0.6"
    gap = {"title": "Fairness gap", "kind": "maximum", "value": 0.4, "limit": 0.3, "passed": True, "note": note}
    body = rendered({"thresholds": [brier, gap]})
    assert (
        "Unusual: Brier score is 1, which misses the limit of 0.1; golden answers failed in staging (0.2 off)" in body
    )
    assert "| Brier score | \\- | 1 | \\- | ≤ 0.1 MISSED |\n" in plainly(body)
    assert "| Fairness gap | \\- | 0.4 | \\- | ≤ 0.3: met |\n" in plainly(body)
    assert "- Staging: **failed golden answers** (1 of 1 checks). Drift" in body


PAIRED = {"difference": {"value": 0.01, "low": -0.01, "high": 0.03}, "better": 0.8}
FIGURES = {
    "champion": {"roc_auc": METRIC},
    "comparison": {"champion_version": "2", "metrics": {"roc_auc": PAIRED}},
}


def test_gate_heads_figures_with_the_version_that_they_are_of():
    body = rendered(FIGURES, running="2")
    assert "| Figure | Version 2 (champion) | This version |" in plainly(body)
    assert "It was compared with" not in body


@pytest.mark.parametrize(
    ("evaluation", "running", "said"),
    [
        (FIGURES, "1", "version 2, champion then, and production runs version 1 now: train again to compare them."),
        (FIGURES, "", "version 2, champion then, and production runs nothing now."),
        ({}, "1", "no champion, and production runs version 1 now: train again to compare them."),
    ],
)
def test_gate_says_where_another_version_is_champion_by_now(evaluation, running, said):
    body = rendered(evaluation, running=running)
    assert f"It was compared with {said}" in body
    assert ("Version 2 (champion then)" in plainly(body)) == bool(evaluation)


def test_gate_names_the_data_that_the_challenger_was_trained_on():
    data = {"source": "tables/training/night=2026-11-02", "rows": 1500, "original_rows": 1470, "labelled_rows": 30}
    body = rendered({"data": data})
    assert (
        "trained on tables/training/night=2026-11-02 (1,470 rows of the original and 30 labelled by outcomes)." in body
    )
    assert "trained on 1,470 rows." in rendered({}), "of a version that an earlier release trained"


def gaps(value):
    gap = {"attribute": "Age", "value": value, "low": 0.1, "high": 0.5}
    return {"largest_gaps": dict.fromkeys(("selection_rate", "true_positive_rate", "calibration"), gap)}


def test_protected_field_that_is_fed_is_unusual_and_both_sets_of_figures_are_shown():
    without = {
        "reasons": {"Age": "pensions"},
        "metrics": {"roc_auc": {"value": 0.84, "low": 0.8, "high": 0.88}},
        "fairness": gaps(0.2),
    }
    evaluation = {**EVALUATION, "fairness": gaps(0.3), "without_protected": without}
    assert "the model sees Age, by which groups are compared (pensions)" in rendered(evaluation)
    figures, largest = gate_body.metrics_table(evaluation, ""), gate_body.gaps_table(evaluation)
    assert figures.heads[1:] == ["Challenger", "Plain logistic regression", "Challenger without Age"]
    assert figures.rows == [["ROC AUC", "0.850 (0.800 to 0.900)", "0.800 (0.700 to 0.850)", "0.840 (0.800 to 0.880)"]]
    assert largest.rows[0] == ["Share picked out", "Age: 0.300 (0.100 to 0.500)", "Age: 0.200 (0.100 to 0.500)"]


def test_use_case_without_groups_has_no_table_of_gaps():
    assert gate_body.gaps_table(EVALUATION) is None


def test_staging_runs_what_was_restored_since_then_and_not_since_its_own_release(model):
    """The page said since 05:51, when a rejection had given staging that version back at 06:18."""
    version = model.add()
    long_ago = "2026-11-20T05:51:00+00:00"
    registry.set_tags(version, {tags.STAGED_AT: long_ago})
    run(release.record_staging_restored, context(), {"version": version.version, "image": image("aa")})
    restored = registry.by_alias(USE_CASE, tags.STAGING)
    assert (restored.version, restored.tags[tags.STAGED_AT] > long_ago) == (version.version, True)


def test_first_tag_of_a_version_says_in_words_what_became_of_it(model):
    """People had to find verdict, approval and date among a dozen tags with hashes."""
    version = model.add()
    registry.set_tags(version, {tags.APPROVAL: "rejected"})
    assert registry.resolve(USE_CASE, version.version).tags[tags.ABOUT] == "evaluation passed; release rejected"
    registry.set_tags(version, {tags.APPROVAL: "approved", tags.APPROVED_BY: "rita"})
    registry.promote(USE_CASE, version, AA)
    found = registry.resolve(USE_CASE, version.version).tags
    released = found[tags.RELEASED_AT][:16].replace("T", " ")
    assert found[tags.ABOUT] == f"evaluation passed; release approved by rita; came into production {released}"
