"""The registry and the evidence document, on a real MLflow server."""

import json
import uuid
from datetime import UTC, datetime
from types import SimpleNamespace

import jsonschema
import msgspec
import pytest
from airflow.models.connection import Connection
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from lifecycle import settings
from lifecycle.evidence import document as evidence
from lifecycle.evidence import gate_body
from lifecycle.hooks import airflow_api, registry
from lifecycle.tasks import release, rollback
from tests.support.airflow import USE_CASE, make_settings, run_task
from training.registry import tags

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
BUILT = {"image": "registry/scoring@sha256:aa", "digest": "sha256:aa", "sbom_digest": "sha256:bb"}
APPROVED = {"approved": True, "decided_by": "rita", "decided_at": "2026-11-21T09:00:00+00:00", "comment": "fine"}
REPORT = {"passed": True, "checks": [{"name": "health", "passed": True, "detail": "200"}]}
CHANGES = {
    "image": ({**BUILT, "digest": "sha256:rebuilt"}, REPORT),
    "what staging found": (BUILT, {**REPORT, "passed": False}),
}
NOTHING = {"version": "", "digest": "", "image": ""}


@pytest.fixture
def model(mlflow_connection, monkeypatch):
    """A registered model of its own for each test; ``add()`` registers a version with a training run."""
    name = f"model_{uuid.uuid4().hex[:8]}"
    configured = make_settings({"model_name": name, "experiment": name})
    monkeypatch.setattr(settings, "load", lambda: configured)
    monkeypatch.setattr(airflow_api, "set_run_note", lambda *arguments: None)
    monkeypatch.setattr(release.targets, "current", lambda use_case, target: None)
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

    return SimpleNamespace(name=name, add=add, client=client)


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
        get_task_breadcrumbs=lambda **_: [{"task_id": "build_image", "duration": 2.04}, {"task_id": "x"}],
        get_dr_count=lambda **_: 0,
        get_task_states=lambda **_: {},
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
    assert resolve(version=int(first.version)) == (first.version, [])
    assert resolve() == (second.version, [])


def test_release_that_an_event_started_offers_the_newest_challenger_and_says_what_it_passes_over(model, resolve):
    """apache/airflow#56050: of versions 5, 6 and 7, registered while 4 waited, Airflow starts a run for 5 alone."""
    first, second, third = (model.add(f"key-{name}").version for name in "abc")
    offered, notes = resolve(first)
    assert offered == third
    assert notes == [f"Offers version {third}, the newest challenger, and passes over version {first}"]
    assert resolve(first, second, third)[0] == third
    assert notes[1].endswith(f"passes over version {first}, {second}")


def test_release_of_an_announced_challenger_needs_no_note(model, resolve):
    only = model.add().version
    assert resolve(only) == (only, [])


def test_event_whose_version_was_released_meanwhile_starts_nothing_and_says_so(model, resolve):
    released = model.add()
    model.client.delete_registered_model_alias(released.name, tags.CHALLENGER)
    offered, notes = resolve(released.version)
    assert offered is None
    assert notes == [
        f"Announced: version {released.version}. No version is the challenger any more, so nothing is left to release"
    ]


def test_version_is_found_by_the_key_of_its_training_run(model):
    made = model.add("key-a")
    assert registry.by_training_run(USE_CASE, registry.training_run(USE_CASE, "key-a")).version == made.version
    assert registry.training_run(USE_CASE, "key-b") is None
    assert registry.by_training_run(USE_CASE, "no such run") is None


def test_gather_evidence_twice_leaves_one_document_and_the_staging_alias(model):
    version = model.add()
    first = run(release.gather_evidence, context(), candidate(version), BUILT, REPORT)
    assert run(release.gather_evidence, context(), candidate(version), BUILT, REPORT) == first
    stored = evidence.read(version.run_id, release.release_key(context()))
    assert stored.stage_seconds == {"build_image": 2.0}
    assert stored.release.requested_by == "omar"
    assert alias(tags.STAGING) == version.version
    assert registry.resolve(USE_CASE, version.version).tags[tags.EVIDENCE_DIGEST] == first["digest"]


def later(monkeypatch):
    """A context of the same run in which more time has gone by and another night was judged."""
    night = evidence.Night(window="2026-11-22", verdict="nothing drifted")
    monkeypatch.setattr(release, "recent_drift", lambda use_case: [night])
    now = context()
    now["ti"].get_task_breadcrumbs = lambda **_: [{"task_id": "build_image", "duration": 99.0}]
    return now


def test_text_and_evidence_are_made_once_and_used_again_by_a_later_try(model, monkeypatch):
    version = model.add()
    first = run(release.gather_evidence, context(), candidate(version), BUILT, REPORT)
    assert registry.training_text(version.run_id, evidence.text_path(release.release_key(context()))) == first["body"]
    again = later(monkeypatch)
    monkeypatch.setattr(gate_body, "render", lambda *arguments, **options: pytest.fail("the text is made once"))
    assert run(release.gather_evidence, again, candidate(version), BUILT, REPORT) == first
    run(release.record_approval, context(), candidate(version), approval_of(first))
    assert run(release.gather_evidence, again, candidate(version), BUILT, REPORT) == first, "also once it was decided"


@pytest.mark.parametrize(("built", "report"), CHANGES.values(), ids=CHANGES)
def test_evidence_of_other_facts_is_made_again_with_its_text(model, monkeypatch, built, report):
    version = model.add()
    first = run(release.gather_evidence, context(), candidate(version), BUILT, REPORT)
    second = run(release.gather_evidence, later(monkeypatch), candidate(version), built, report)
    assert second["digest"] != first["digest"]
    assert "2026-11-22: nothing drifted" in second["body"]
    assert registry.training_text(version.run_id, evidence.text_path(release.release_key(context()))) == second["body"]


def test_evidence_holds_every_item_and_fits_the_published_schema(model, request):
    monitoring = model.client.create_experiment(f"{model.name}-monitoring")
    for day, fields in (("2026-11-19", 0), ("2026-11-20", 2)):
        marks = {tags.WINDOW: day, tags.NOTE: f"{fields} fields drifted", tags.CONFIRMED: "Age" if fields else ""}
        night = model.client.create_run(monitoring, tags=marks)
        model.client.log_metric(night.info.run_id, tags.DRIFTED_FIELDS, fields)
    version = model.add()
    model.client.set_model_version_tag(model.name, version.version, tags.DATA_DIGEST, "d1")
    running = {"version": "1", "digest": "sha256:old", "image": "i"}
    body = run(release.gather_evidence, context(), candidate(version, running), BUILT, REPORT)["body"]
    stored = registry.training_artifact(version.run_id, evidence.path(release.release_key(context())))
    schema = json.loads((request.config.rootpath / "docs" / "evidence.schema.json").read_text())
    jsonschema.validate(stored, schema)
    assert [(night["window"], night["drifted_fields"]) for night in stored["drift"]] == [
        ("2026-11-20", 2),
        ("2026-11-19", 0),
    ]
    assert "2026-11-20: 2 fields drifted **Confirmed: Age.**" in body
    assert stored["model"]["data_digest"] == "d1"
    assert stored["model"]["training_run_id"] == version.run_id
    assert stored["image"]["sbom_digest"] == "sha256:bb"
    assert stored["stage_seconds"] == {"build_image": 2.0}
    assert stored["replaces"] == running
    incomplete = {name: value for name, value in stored["evaluation"].items() if name != "thresholds"}
    with pytest.raises(jsonschema.ValidationError, match="'thresholds' is a required property"):
        jsonschema.validate({**stored, "evaluation": incomplete}, schema)


def test_gate_body_shows_metrics_digest_checks_and_what_is_replaced(model):
    version = model.add()
    running = {"version": "1", "digest": "sha256:old", "image": "i"}
    body = run_task(
        release.gather_evidence, context(note="spring"), USE_CASE, candidate(version, running), BUILT, REPORT
    )["body"]
    for part in ("0.850 (0.800 to 0.900)", "sha256:aa", "sha256:old", "health", "spring", "omar", "all thresholds met"):
        assert part in body


def decide(
    version,
    run_id="run-1",
    approved=True,
    built=BUILT,
    production=NOTHING,
):
    """Gather the evidence of a release of a version and answer its gate."""
    now, given = context(run_id), candidate(version, production)
    shown = run(release.gather_evidence, now, given, built, REPORT)
    if approved:
        return run(release.record_approval, now, given, approval_of(shown))
    return run(release.record_rejection, now, given, {**approval_of(shown), "approved": False})


def approval_of(shown):
    """What the gate returns once that evidence is approved."""
    return {**APPROVED, "digest": shown["digest"]}


def test_approval_binds_this_digest_and_no_other(model):
    version = model.add()
    shown = run(release.gather_evidence, context(), candidate(version), BUILT, REPORT)
    assert not registry.approved(USE_CASE, version.version, "sha256:aa")
    for _ in range(2):  # the second is another try of the same task
        assert run(release.record_approval, context(), candidate(version), approval_of(shown)) == "sha256:aa"
    assert registry.approved(USE_CASE, version.version, "sha256:aa")
    assert not registry.approved(USE_CASE, version.version, "sha256:other")
    assert not registry.approved(USE_CASE, version.version, "")
    kept = evidence.read_approved(USE_CASE, registry.resolve(USE_CASE, version.version))
    assert (kept.decision.decided_by, kept.decision.comment) == ("rita", "fine")


@pytest.mark.parametrize(("built", "report"), CHANGES.values(), ids=CHANGES)
def test_approval_of_other_evidence_than_there_is_by_now_binds_nothing(model, built, report):
    version = model.add()
    approved = approval_of(run(release.gather_evidence, context(), candidate(version), BUILT, REPORT))
    run(release.gather_evidence, context(), candidate(version), built, report)
    with pytest.raises(AirflowFailException, match=f"rita approved evidence {approved['digest']}, and by now it is"):
        run(release.record_approval, context(), candidate(version), approved)
    assert tags.APPROVAL not in registry.resolve(USE_CASE, version.version).tags
    assert not registry.approved(USE_CASE, version.version, built["digest"])


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


def test_gate_that_was_cleared_and_answered_no_takes_its_own_approval_back(model):
    version = model.add()
    decide(version)
    decide(version, approved=False)
    assert not registry.approved(USE_CASE, version.version, "sha256:aa")
    assert registry.resolve(USE_CASE, version.version).tags[tags.APPROVAL] == "rejected"


@pytest.mark.parametrize("built", [BUILT, {**BUILT, "digest": "sha256:cc"}], ids=["same image", "newer image"])
def test_rejected_release_of_what_runs_leaves_its_approval_and_its_way_back(model, built):
    first = released(model)
    decide(first, "again", approved=False, built=built)
    assert registry.resolve(USE_CASE, first.version).tags[tags.APPROVAL] == "rejected"
    assert registry.approved(USE_CASE, first.version, "sha256:aa")
    assert not registry.approved(USE_CASE, first.version, "sha256:cc")
    assert run(rollback.resolve_earlier_release, context(version=int(first.version)))["digest"] == "sha256:aa"


def test_second_approval_of_a_version_leaves_the_first_image_restorable(model):
    version = model.add()
    decide(version)
    decide(version, "again", built={**BUILT, "digest": "sha256:cc"})
    assert registry.approved(USE_CASE, version.version, "sha256:aa")
    assert registry.approved(USE_CASE, version.version, "sha256:cc")
    assert run(rollback.resolve_earlier_release, context(version=int(version.version)))["digest"] == "sha256:cc"


def test_rejection_says_what_staging_gets_back_the_champion_as_it_runs_now(model, monkeypatch):
    running = {"version": "1", "digest": "sha256:old", "image": "i"}
    monkeypatch.setattr(
        release.targets, "current", lambda use_case, target: running if target == "production" else None
    )
    assert decide(model.add(), approved=False) == running


def test_approval_of_a_release_whose_production_has_changed_goes_no_further(model, monkeypatch):
    monkeypatch.setattr(
        release.targets, "current", lambda use_case, target: {"version": "1", "digest": "sha256:back", "image": "i"}
    )
    with pytest.raises(AirflowFailException, match=r"version 1 \(sha256:back\) runs there, not 2 \(sha256:two\)"):
        decide(model.add(), production={"version": "2", "digest": "sha256:two", "image": "i"})


def test_approval_that_is_recorded_again_after_its_rollout_is_no_change_of_production(model, monkeypatch):
    monkeypatch.setattr(
        release.targets, "current", lambda use_case, target: {"version": "1", "digest": "sha256:aa", "image": "i"}
    )
    assert decide(model.add()) == "sha256:aa"


def test_approval_while_a_rollback_runs_goes_no_further(model):
    version = model.add()
    now = context()
    shown = run(release.gather_evidence, now, candidate(version), BUILT, REPORT)
    now["ti"].get_dr_count = lambda dag_id, states: int((dag_id, states) == ("attrition_rollback", ["running"]))
    with pytest.raises(AirflowFailException, match="attrition_rollback is changing production"):
        run(release.record_approval, now, candidate(version), approval_of(shown))


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
    run(release.promote, context(), candidate(first), "sha256:1")
    assert (alias(tags.CHAMPION), alias(tags.PREVIOUS_CHAMPION)) == (first.version, None)
    for _ in range(2):
        run(release.promote, context(), candidate(second), "sha256:2")
        assert (alias(tags.CHAMPION), alias(tags.PREVIOUS_CHAMPION)) == (second.version, first.version)
    assert alias(tags.CHALLENGER) is None


def test_promote_killed_between_its_aliases_is_completed_by_the_next_try(model, monkeypatch):
    first, second = model.add("a"), model.add("b")
    run(release.promote, context(), candidate(first), "sha256:1")
    # What a kill after the first alias leaves behind.
    model.client.set_registered_model_alias(model.name, tags.PREVIOUS_CHAMPION, first.version)
    run(release.promote, context(), candidate(second), "sha256:2")
    assert (alias(tags.CHAMPION), alias(tags.PREVIOUS_CHAMPION)) == (second.version, first.version)


def released(model):
    """A version that was released and then replaced: what a rollback finds."""
    first, second = model.add("a"), model.add("b")
    for number, version in enumerate((first, second)):
        decide(version, f"run-{number}")
        run(release.promote, context(), candidate(version), BUILT["digest"])
    return first


def test_rollback_starts_from_the_evidence_of_the_earlier_release(model):
    first = released(model)
    earlier = run(rollback.resolve_earlier_release, context(version=None, reason="errors"))
    assert (earlier["version"], earlier["digest"], earlier["image"]) == (first.version, "sha256:aa", BUILT["image"])


@pytest.mark.parametrize("rejected", [False, True], ids=["not released", "rejected"])
def test_rollback_to_a_version_that_was_never_approved_is_refused(model, rejected):
    released(model)
    third = model.add("c")
    if rejected:
        decide(third, "run-3", approved=False)
    with pytest.raises(registry.RegistryError, match="never approved"):
        run(rollback.resolve_earlier_release, context(version=int(third.version)))


def test_rollback_refuses_evidence_that_was_changed_after_the_approval(model):
    first = released(model)
    found = registry.resolve(USE_CASE, first.version)
    document = evidence.read_approved(USE_CASE, found)
    document.image.digest = "sha256:smuggled"
    model.client.log_text(found.run_id, evidence.encode(document).decode(), found.tags[tags.EVIDENCE])
    with pytest.raises(registry.RegistryError, match="not the one that was approved"):
        run(rollback.resolve_earlier_release, context(version=int(first.version)))


def test_tags_have_names_that_unity_catalog_takes():
    names = {value for name, value in vars(tags).items() if isinstance(value, str) and value.startswith("lifecycle")}
    assert {tags.RUN_KEY, tags.APPROVAL_OF, tags.CONFIRMED} <= names
    for name in [*names, registry.approval_tag("sha256:" + "ab" * 32)]:
        assert not set(name) & set(".,-=/: "), name


def test_connection_of_another_type_is_refused_by_name(connections):
    from airflow.models.connection import Connection

    connections["mlflow"] = Connection(conn_id="mlflow", conn_type="ftp", host="x")
    with pytest.raises(registry.RegistryError, match="'ftp': use http"):
        registry.client()


def test_published_schema_is_the_documents(request):
    published = request.config.rootpath / "docs" / "evidence.schema.json"
    assert json.loads(published.read_text()) == evidence.schema(), "renew it: make docs"


def rendered(**evaluation):
    """The gate's text of a release whose evaluation has these parts."""
    document = msgspec.convert(
        {
            "release": dict.fromkeys(("key", "dag_id", "run_id", "requested_by", "requested_at"), "x"),
            "model": dict.fromkeys(
                ("name", "version", "training_run_id", "data_digest", "git_revision", "verdict"), "x"
            ),
            "evaluation": {**EVALUATION, **evaluation},
            "image": dict.fromkeys(("reference", "digest", "sbom_digest"), "x"),
            "staging_report": {"checks": [{"name": "golden answers", "passed": False, "detail": "0.2 off"}]},
        },
        evidence.Evidence,
    )
    return gate_body.render(document, mlflow_url="http://m", experiment_id="1")


def test_gate_body_marks_what_failed():
    brier = {"title": "Brier score", "kind": "maximum", "value": 1, "limit": 0.1, "passed": False, "note": ""}
    note = "Age, 95% interval 0.2 to 0.6"
    gap = {"title": "Fairness gap", "kind": "maximum", "value": 0.4, "limit": 0.3, "passed": True, "note": note}
    body = rendered(thresholds=[brier, gap])
    assert "| Brier score | 1 | at most 0.1 | **missed** |" in body
    assert f"| Fairness gap | 0.4 | at most 0.3 | met: {note} |" in body
    assert "**failed** 0.2 off" in body


def gaps(value):
    gap = {"attribute": "Age", "value": value, "low": 0.1, "high": 0.5}
    return {"largest_gaps": dict.fromkeys(("selection_rate", "true_positive_rate", "calibration"), gap)}


def test_gate_body_shows_a_protected_field_that_is_fed_with_its_reason_and_both_sets_of_figures():
    without = {
        "reasons": {"Age": "pensions"},
        "metrics": {"roc_auc": {"value": 0.84, "low": 0.8, "high": 0.88}},
        "fairness": gaps(0.2),
    }
    body = rendered(fairness=gaps(0.3), without_protected=without)
    head = "Challenger | Champion | Plain logistic regression | Challenger without Age |"
    assert f"| Metric (95% interval) | {head}" in body
    assert "| ROC AUC | 0.850 (0.800 to 0.900) | - | 0.800 (0.700 to 0.850) | 0.840 (0.800 to 0.880) |" in body
    assert "| Share picked out | Age: 0.300 (0.100 to 0.500) | Age: 0.200 (0.100 to 0.500) |" in body
    assert "- The model sees Age: pensions" in body


def test_gate_body_of_a_use_case_without_groups_has_no_table_of_gaps():
    assert "Largest gap between groups" not in rendered()
