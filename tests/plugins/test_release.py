"""The registry and the evidence document, on a real MLflow server."""

import json
import uuid
from datetime import UTC, datetime
from types import SimpleNamespace

import msgspec
import pytest
from airflow.sdk.exceptions import AirflowFailException

from attrition import airflow_api, evidence, gate_body, registry, release, settings
from training import tags

METRIC = {"value": 0.85, "low": 0.8, "high": 0.9}
EVALUATION = {
    "challenger": {"roc_auc": METRIC},
    "champion": None,
    "comparison": {},
    "floors": [{"name": "roc_auc", "value": 0.85, "limit": 0.7, "passed": True}],
    "fairness": {},
    "data": {"digest": "d1", "rows": 1470},
    "verdict": "passed",
    "reasons": ["all floors met"],
}
BUILT = {"image": "registry/scoring@sha256:aa", "digest": "sha256:aa", "sbom_digest": "sha256:bb"}
APPROVED = {"approved": True, "decided_by": "rita", "decided_at": "2026-11-21T09:00:00+00:00", "comment": "fine"}
REPORT = {"passed": True, "checks": [{"name": "health", "passed": True, "detail": "200"}]}
NOTHING = {"version": "", "digest": "", "image": ""}


@pytest.fixture
def model(mlflow_connection, monkeypatch):
    """A registered model of its own for each test; ``add()`` registers a version with a training run."""
    name = f"model_{uuid.uuid4().hex[:8]}"
    configured = settings.Settings(
        environment="test", airflow_url="http://airflow", mlflow_url="http://mlflow", model=settings.Model(name, name)
    )
    monkeypatch.setattr(settings, "load", lambda: configured)
    monkeypatch.setattr(airflow_api, "set_run_note", lambda *arguments: None)
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
        return registry.resolve(version.version)

    return SimpleNamespace(name=name, add=add, client=client)


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
        get_task_breadcrumbs=lambda **_: [{"task_id": "build_image", "duration": 2.04}, {"task_id": "x"}],
    )
    return {"dag_run": run, "ti": instance, "params": params, "triggering_asset_events": {}}


def candidate(version, production=NOTHING):
    return {"name": version.name, "version": version.version, "production": production, "staging": NOTHING}


def alias(name):
    found = registry.by_alias(name)
    return found.version if found else None


def test_resolve_without_a_challenger_says_what_to_do(model):
    with pytest.raises(registry.RegistryError, match="run attrition_train first"):
        registry.resolve(None)


def test_resolve_unknown_version_is_refused_by_number(model):
    with pytest.raises(registry.RegistryError, match="no version 99"):
        registry.resolve(99)


def test_requested_version_is_the_typed_one_then_the_assets_then_none(model):
    event = SimpleNamespace(extra={"version": "7"})
    by_asset = {**context(), "triggering_asset_events": {"asset": [event]}}
    assert release.requested_version(context(version=3)) == "3"
    assert release.requested_version(by_asset) == "7"
    assert release.requested_version(context()) is None


def test_version_is_found_by_the_key_of_its_training_run(model):
    made = model.add("key-a")
    assert registry.by_training_run(registry.training_run("key-a")).version == made.version
    assert registry.training_run("key-b") is None
    assert registry.by_training_run("no such run") is None


def test_gather_evidence_twice_leaves_one_document_and_the_staging_alias(model):
    version = model.add()
    first = release.gather_evidence(context(), candidate(version), BUILT, REPORT)
    assert release.gather_evidence(context(), candidate(version), BUILT, REPORT) == first
    stored = evidence.read(version.run_id, release.release_key(context()))
    assert stored.stage_seconds == {"build_image": 2.0}
    assert stored.release.requested_by == "omar"
    assert alias(tags.STAGING) == version.version
    assert registry.resolve(version.version).tags[tags.EVIDENCE_DIGEST] == first["digest"]


def test_gate_body_shows_metrics_digest_checks_and_what_is_replaced(model):
    version = model.add()
    running = {"version": "1", "digest": "sha256:old", "image": "i"}
    body = release.gather_evidence(context(note="spring"), candidate(version, running), BUILT, REPORT)["body"]
    for part in ("0.850 (0.800 to 0.900)", "sha256:aa", "sha256:old", "health", "spring", "omar", "all floors met"):
        assert part in body


def test_approval_binds_this_digest_and_no_other(model):
    version = model.add()
    release.gather_evidence(context(), candidate(version), BUILT, REPORT)
    assert not registry.approved(version.name, version.version, "sha256:aa")
    assert release.record_decision(context(), candidate(version), BUILT, APPROVED) == "sha256:aa"
    assert registry.approved(version.name, version.version, "sha256:aa")
    assert not registry.approved(version.name, version.version, "sha256:other")
    assert not registry.approved(version.name, version.version, "")
    kept = evidence.read_of(registry.resolve(version.version))
    assert (kept.decision.decided_by, kept.decision.comment) == ("rita", "fine")


def test_rejection_takes_an_earlier_approval_back(model):
    version = model.add()
    release.gather_evidence(context(), candidate(version), BUILT, REPORT)
    release.record_decision(context(), candidate(version), BUILT, APPROVED)
    release.record_decision(context(), candidate(version), BUILT, {**APPROVED, "approved": False})
    assert not registry.approved(version.name, version.version, "sha256:aa")
    assert registry.resolve(version.version).tags[tags.APPROVAL] == "rejected"


def test_promote_moves_aliases_once_however_often_it_runs(model):
    first, second = model.add("a"), model.add("b")
    release.promote(context(), candidate(first), "sha256:1")
    assert (alias(tags.CHAMPION), alias(tags.PREVIOUS_CHAMPION)) == (first.version, None)
    for _ in range(2):
        release.promote(context(), candidate(second), "sha256:2")
        assert (alias(tags.CHAMPION), alias(tags.PREVIOUS_CHAMPION)) == (second.version, first.version)
    assert alias(tags.CHALLENGER) is None


def test_promote_killed_between_its_aliases_is_completed_by_the_next_try(model, monkeypatch):
    first, second = model.add("a"), model.add("b")
    release.promote(context(), candidate(first), "sha256:1")
    # What a kill after the first alias leaves behind.
    model.client.set_registered_model_alias(model.name, tags.PREVIOUS_CHAMPION, first.version)
    release.promote(context(), candidate(second), "sha256:2")
    assert (alias(tags.CHAMPION), alias(tags.PREVIOUS_CHAMPION)) == (second.version, first.version)


def released(model, monkeypatch):
    """A version that was released and then replaced: what a rollback finds."""
    monkeypatch.setattr(release.targets, "current", lambda conn_id: None)
    first, second = model.add("a"), model.add("b")
    for number, version in enumerate((first, second)):
        release.gather_evidence(context(f"run-{number}"), candidate(version), BUILT, REPORT)
        release.record_decision(context(f"run-{number}"), candidate(version), BUILT, APPROVED)
        release.promote(context(), candidate(version), BUILT["digest"])
    return first


def test_rollback_starts_from_the_evidence_of_the_earlier_release(model, monkeypatch):
    first = released(model, monkeypatch)
    earlier = release.resolve_rollback(context(version=None, reason="errors"))
    assert (earlier["version"], earlier["digest"], earlier["image"]) == (first.version, "sha256:aa", BUILT["image"])


def test_rollback_to_a_version_that_was_never_released_is_refused(model, monkeypatch):
    released(model, monkeypatch)
    third = model.add("c")
    with pytest.raises(registry.RegistryError, match="no evidence of a release"):
        release.resolve_rollback(context(version=int(third.version)))


def test_rollback_to_a_rejected_version_is_refused(model, monkeypatch):
    released(model, monkeypatch)
    third = model.add("c")
    release.gather_evidence(context("run-3"), candidate(third), BUILT, REPORT)
    release.record_decision(context("run-3"), candidate(third), BUILT, {**APPROVED, "approved": False})
    with pytest.raises(AirflowFailException, match="never approved"):
        release.resolve_rollback(context(version=int(third.version)))


def test_rollback_refuses_evidence_that_was_changed_after_the_approval(model, monkeypatch):
    first = released(model, monkeypatch)
    found = registry.resolve(first.version)
    document = evidence.read_of(found)
    document.image.digest = "sha256:smuggled"
    model.client.log_text(found.run_id, evidence.encode(document).decode(), found.tags[tags.EVIDENCE])
    with pytest.raises(registry.RegistryError, match="not the one that was approved"):
        release.resolve_rollback(context(version=int(first.version)))


def test_connection_of_another_type_is_refused_by_name(connections):
    from airflow.models.connection import Connection

    connections["mlflow"] = Connection(conn_id="mlflow", conn_type="ftp", host="x")
    with pytest.raises(registry.RegistryError, match="'ftp': use http"):
        registry.client()


def test_published_schema_is_the_documents(request):
    published = request.config.rootpath / "docs" / "evidence.schema.json"
    assert json.loads(published.read_text()) == evidence.schema(), "renew it: make docs"


def test_gate_body_marks_what_failed():
    document = msgspec.convert(
        {
            "release": dict.fromkeys(("key", "dag_id", "run_id", "requested_by", "requested_at"), "x"),
            "model": dict.fromkeys(
                ("name", "version", "training_run_id", "data_digest", "git_revision", "verdict"), "x"
            ),
            "evaluation": {**EVALUATION, "floors": [{"name": "brier", "value": 1, "limit": 0.1, "passed": False}]},
            "image": dict.fromkeys(("reference", "digest", "sbom_digest"), "x"),
            "staging_report": {"checks": [{"name": "golden answers", "passed": False, "detail": "0.2 off"}]},
        },
        evidence.Evidence,
    )
    body = gate_body.render(document, mlflow_url="http://m", experiment_id="1")
    assert "| brier | 1 | 0.1 | **missed** |" in body
    assert "**failed** 0.2 off" in body
