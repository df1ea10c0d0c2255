"""Whole releases on a real cluster: real pods, real images, a real Airflow.

The scenarios follow one another, as releases do: each begins with what the one before has left in
production. Each fixture plays one of them; the tests look at what it saw.
"""

import json
import shutil
from types import SimpleNamespace

import jsonschema
import pytest

from lifecycle.image_reference import ImageReference
from lifecycle.signing import places
from tests.kubernetes import cluster
from tests.kubernetes.load import Load
from tests.kubernetes.real_airflow import RELEASE, STRANGER

ROLLBACK = cluster.USE_CASE.rollback_dag

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def first(airflow, bundles):
    """Version 1 is released to an empty cluster."""
    version = airflow.register(bundles(1))
    run = airflow.trigger(RELEASE, version=int(version), note="the first one")
    airflow.decide(run, "Approve", "looks fine")
    state = airflow.await_run(run)
    return SimpleNamespace(run=run, version=version, state=state, production=cluster.running("production"))


def test_first_release_runs_through_with_every_task_done(airflow, first):
    states = airflow.states(RELEASE, first.run)
    assert first.state == "success"
    skipped = {task for task, state in states.items() if state == "skipped"}
    assert skipped == {"record_rejection", "restore_staging", "record_staging_restored", "restore_production"}
    assert {state for task, state in states.items() if task not in skipped} == {"success"}


def test_first_release_runs_the_built_image_in_both_places(airflow, first):
    built = airflow.result(first.run, "build_image")
    assert ImageReference.parse(built["image"]).kind == "engine"
    for target in cluster.TARGETS:
        deployment = cluster.get(target, "deployments")[0]
        assert deployment["metadata"]["annotations"]["lifecycle/digest"] == built["image"]
        assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == built["image"]
    assert airflow.result(first.run, "verify_staging")["passed"]
    assert airflow.version_tags(first.version)["lifecycle_approved_image"] == built["image"]
    assert airflow.aliases()["champion"] == first.version


def test_first_release_leaves_no_pod_and_no_canary_behind(first):
    _pods_of_releases_end()
    assert list(first.production["deployments"]) == ["scoring"]


def _pods_of_releases_end():
    cluster.until(lambda: not any(map(cluster.release_pods, cluster.TARGETS)), "no pod of a release is left", 60)


def test_evidence_of_a_release_holds_every_item_and_who_decided(airflow, first):
    document = airflow.evidence(first.version)
    jsonschema.validate(document, json.loads((cluster.ROOT / "docs" / "evidence.schema.json").read_text()))
    built = airflow.result(first.run, "build_image")
    assert document["image"] == {
        "reference": built["image"],
        "sbom_digest": built["sbom_digest"],
        "base": built["base"],
        "scan": built["scan"],
        "signed_by": built["signed_by"],
    }
    assert set(built["signed_by"]["image"]) == {"signer", "key"}
    assert {check["name"] for check in document["staging_report"]["checks"]} >= {"golden answers", "no restart"}
    assert {"build_image", "deploy_staging", "verify_staging"} <= set(document["stage_seconds"])
    used = {one["stage"]: one["unit"] for one in document["cost"]["used"]}
    counted = {"build_image": "s of builds", "deploy_staging": "vCPU s", "verify_staging": "vCPU s"}
    assert used.items() >= counted.items(), "by the names of operators that Airflow itself records"
    assert (document["decision"]["decided_by"], document["decision"]["comment"]) == ("admin", "looks fine")
    assert document["release"]["note"] == "the first one"


@pytest.fixture(scope="module")
def second(airflow, bundles, example, first):
    """Version 2 replaces version 1 while clients ask for predictions all the time, and somebody wants a rollback."""
    version = airflow.register(bundles(2))
    with Load(cluster.service_address("production"), example) as load:
        run = airflow.trigger(RELEASE, version=int(version))
        airflow.decide(run, "Approve", "better")
        airflow.await_task(run, "deploy_canary", "deferred", "success")
        beside = airflow.trigger(ROLLBACK, reason="production is slow")
        refused = airflow.await_run(beside, ROLLBACK)
        state = airflow.await_run(run)
    return SimpleNamespace(run=run, version=version, state=state, load=load, beside=beside, refused=refused)


def test_second_version_under_load_fails_no_request(first, second):
    assert second.state == "success"
    assert second.load.failures == []
    assert second.load.versions[first.version] > 100
    assert second.load.versions[second.version] > 100


def test_second_version_becomes_champion_and_the_first_previous(airflow, first, second):
    aliases = airflow.aliases()
    assert (aliases["champion"], aliases["previous_champion"]) == (second.version, first.version)
    assert airflow.result(second.run, "deploy_production")["previous"]["version"] == first.version


def test_rollback_beside_a_release_is_refused_and_says_what_to_wait_for(airflow, second):
    assert second.refused == "failed"
    assert f"release {second.run} is changing production" in airflow.note(second.beside, ROLLBACK)


@pytest.fixture(scope="module")
def rejected(airflow, bundles, second):
    """Version 3: Airflow is killed in the middle of the staging pod, a stranger answers, admin rejects."""
    version = airflow.register(bundles(3))
    before = cluster.running("production")
    revision = _revision("staging")
    run = airflow.trigger(RELEASE, version=int(version))
    airflow.await_task(run, "deploy_staging", "deferred")
    killed_at = cluster.get("staging", "pods", "-l", "lifecycle/step=deploy")
    airflow.kill("airflow")
    airflow.start("airflow")
    airflow.await_task(run, "await_approval", "awaiting_input")
    stranger = airflow.answer(run, "Approve", "let me", user=STRANGER)
    airflow.await_question(run)
    tries = airflow.tries(run, "deploy_staging")
    made = cluster.created_pods("staging", killed_at[0]["metadata"]["name"])
    airflow.decide(run, "Reject", "the drift worries me")
    return SimpleNamespace(
        run=run,
        version=version,
        state=airflow.await_run(run),
        before=before,
        stranger=stranger,
        killed_at=killed_at,
        made=made,
        tries=tries,
        rollouts=_revision("staging") - revision,
    )


def _revision(target):
    return int(_annotations(target)["deployment.kubernetes.io/revision"])


def test_airflow_killed_in_the_middle_of_a_pod_goes_on_with_the_same_pod(rejected):
    assert len(rejected.killed_at) == 1
    assert rejected.made == 1
    # One rollout for the release, one for the way back after the rejection.
    assert rejected.rollouts == 2


def test_approval_by_somebody_not_listed_is_not_taken(rejected):
    """Airflow takes their answer, as it compares ids alone; the gate asks again."""
    assert rejected.stranger.ok
    assert rejected.state == "success"


def test_rejection_leaves_production_alone_and_restores_staging(airflow, second, rejected):
    assert rejected.state == "success"
    assert cluster.running("production") == rejected.before
    assert _annotations("staging")["lifecycle/version"] == second.version
    states = airflow.states(RELEASE, rejected.run)
    assert states["record_rejection"] == "success"
    assert states["deploy_canary"] == states["deploy_production"] == states["promote"] == "skipped"
    assert airflow.version_tags(rejected.version)["lifecycle_approval"] == "rejected"
    assert airflow.aliases()["champion"] == second.version
    assert airflow.note(rejected.run) == f"Version {rejected.version} rejected by admin: the drift worries me"


def test_crash_loop_fails_in_staging_with_its_log_and_is_undone(airflow, bundles, planter, second, rejected):
    version = airflow.register(bundles(4))
    planter.crash_loop(version, bundles(4))
    before = {target: cluster.running(target)["deployments"] for target in cluster.TARGETS}
    run = airflow.trigger(RELEASE, version=int(version))
    assert airflow.await_run(run) == "failed"
    assert airflow.states(RELEASE, run)["deploy_staging"] == "failed"
    log = airflow.log(run, "deploy_staging")
    assert "CrashLoopBackOff" in log
    assert "broken on purpose" in log
    assert "deploy_staging failed: deploy at staging failed" in airflow.note(run)
    assert {target: cluster.running(target)["deployments"] for target in cluster.TARGETS} == before
    _pods_of_releases_end()


def test_model_that_is_not_the_registered_one_fails_the_build(airflow, bundles, tmp_path, rejected):
    wrong = tmp_path / "wrong"
    _swap_classifier(bundles(5), bundles(1), wrong)
    before = {target: cluster.running(target) for target in cluster.TARGETS}
    run = airflow.trigger(RELEASE, version=int(airflow.register(wrong)))
    assert airflow.await_run(run) == "failed"
    assert "the model is not the one that was registered" in airflow.log(run, "build_image")
    assert {target: cluster.running(target) for target in cluster.TARGETS} == before


def _swap_classifier(bundle, other, destination):
    shutil.copytree(bundle, destination)
    shutil.copy(other / "classifier.onnx", destination)


def test_image_with_another_model_never_leaves_staging(airflow, bundles, planter, rejected):
    version = airflow.register(bundles(6))
    planter.wrong_model(version, bundles(6), bundles(1))
    before = cluster.running("production")
    run = airflow.trigger(RELEASE, version=int(version))
    state = airflow.await_run(run)
    assert airflow.result(run, "build_image")["reused"], "the planted image was not found: did serving/ change?"
    states = airflow.states(RELEASE, run)
    assert states["deploy_staging"] == "success"
    assert (state, states["verify_staging"]) == ("failed", "failed")
    report = airflow.result(run, "verify_staging")
    assert [check["name"] for check in report["checks"] if not check["passed"]] == ["golden answers", "load"]
    assert cluster.running("production") == before


def test_release_that_fails_in_production_is_put_back_and_staging_is_left_for_study(
    airflow, bundles, planter, second, rejected
):
    version = airflow.register(bundles(7))
    planter.broken_in_production(version, bundles(7))
    before, aliases = cluster.running("production")["deployments"], airflow.aliases()
    run = airflow.trigger(RELEASE, version=int(version))
    airflow.decide(run, "Approve", "staging looks fine")
    assert airflow.await_run(run) == "failed"
    states = airflow.states(RELEASE, run)
    assert states["watch_canary"] == states["deploy_production"] == states["restore_production"] == "success"
    assert (states["verify_production"], states["promote"]) == ("failed", "upstream_failed")
    assert cluster.running("production")["deployments"] == before
    assert {**airflow.aliases(), "staging": "", "challenger": ""} == {**aliases, "staging": "", "challenger": ""}
    assert "verify_production failed: verify at production failed" in airflow.note(run)
    assert _annotations("staging")["lifecycle/version"] == version


def _annotations(target):
    return cluster.get(target, "deployments")[0]["metadata"]["annotations"]


@pytest.fixture(scope="module")
def unsigned(airflow, empty_cluster, first, second, rejected):
    """Somebody wants a rollback to version 1, whose image's signature is gone, and signs it by hand then."""
    image = ImageReference.parse(airflow.result(first.run, "build_image")["image"])
    empty_cluster.images.remove(places.OnEngine(image, lambda: empty_cluster).name, force=True)
    before = cluster.running("production")
    run = airflow.trigger(ROLLBACK, reason="to an image that nobody has signed")
    state = airflow.await_run(run, ROLLBACK)
    after = cluster.running("production")
    return SimpleNamespace(run=run, state=state, before=before, after=after, signed=airflow.sign(first.version))


def test_rollback_to_an_image_that_nobody_has_signed_is_refused_before_production_is_touched(airflow, first, unsigned):
    assert (unsigned.state, unsigned.after) == ("failed", unsigned.before)
    assert airflow.states(ROLLBACK, unsigned.run)["deploy_production"] == "upstream_failed"
    note = airflow.note(unsigned.run, ROLLBACK)
    assert f"production does not go back to version {first.version}" in note
    assert f"make sign USE_CASE={cluster.USE_CASE.name} VERSION={first.version}" in note
    assert "is signed already" in unsigned.signed, "its bundle"
    assert f"signed {airflow.result(first.run, 'build_image')['image']}" in unsigned.signed


@pytest.fixture(scope="module")
def rolled_back(airflow, example, second, rejected, unsigned):
    """Production goes back while a second release of version 3 waits at its gate, which nobody answers."""
    silent = airflow.trigger(RELEASE, version=int(rejected.version))
    airflow.await_task(silent, "await_approval", "awaiting_input")
    with Load(cluster.service_address("production"), example) as load:
        run = airflow.trigger(ROLLBACK, reason="a test")
        state = airflow.await_run(run, ROLLBACK)
    production = cluster.running("production")
    return SimpleNamespace(
        run=run, state=state, load=load, production=production, silent=silent, silence=airflow.await_run(silent)
    )


def test_rollback_puts_the_previous_champion_back_without_a_build(airflow, first, rolled_back):
    assert rolled_back.state == "success"
    assert rolled_back.load.failures == []
    production = _annotations("production")
    assert production["lifecycle/version"] == first.version
    assert production["lifecycle/digest"] == airflow.result(first.run, "build_image")["image"]
    assert airflow.aliases()["champion"] == first.version


def test_silence_is_a_no_and_gives_staging_the_champion_of_now(airflow, first, rejected, rolled_back):
    assert rolled_back.silence == "success"
    states = airflow.states(RELEASE, rolled_back.silent)
    assert states["record_rejection"] == "success"
    assert states["deploy_canary"] == "skipped"
    assert airflow.result(rolled_back.silent, "build_image")["reused"] is True
    assert f"Version {rejected.version} rejected by nobody" in airflow.note(rolled_back.silent)
    assert cluster.running("production") == rolled_back.production
    assert _annotations("staging")["lifecycle/version"] == first.version
    assert airflow.aliases()["staging"] == first.version
    _pods_of_releases_end()
