"""Whole releases on a real cluster: real pods, real images, a real Airflow.

The scenarios follow one another, as releases do: each begins with what the one before has left in
production. Each fixture plays one of them; the tests look at what it saw.
"""

from types import SimpleNamespace

import pytest

from tests.kubernetes import cluster
from tests.kubernetes.load import Load
from tests.kubernetes.real_airflow import STRANGER

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def first(airflow, bundles):
    """Version 1 is released to an empty cluster."""
    version = airflow.register(bundles(1))
    run = airflow.trigger("attrition_release", version=int(version), note="the first one")
    airflow.decide(run, "Approve", "looks fine")
    state = airflow.await_run(run)
    return SimpleNamespace(run=run, version=version, state=state, production=cluster.running("production"))


def test_first_release_runs_through_with_every_task_done(airflow, first):
    states = airflow.states("attrition_release", first.run)
    assert first.state == "success"
    skipped = {task for task, state in states.items() if state == "skipped"}
    assert skipped == {"record_rejection", "restore_staging", "record_staging_restored", "restore_production"}
    assert {state for task, state in states.items() if task not in skipped} == {"success"}


def test_first_release_runs_the_built_digest_in_both_places(airflow, first):
    built = airflow.result(first.run, "build_image")
    assert built["digest"].startswith("sha256:")
    for place in cluster.PLACES:
        deployment = cluster.get(place, "deployments")[0]
        assert deployment["metadata"]["annotations"]["attrition/digest"] == built["digest"]
        assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == built["image"]
    assert airflow.result(first.run, "verify_staging")["passed"]
    assert airflow.version_tags(first.version)["attrition.approved_digest"] == built["digest"]
    assert airflow.aliases()["champion"] == first.version


def test_first_release_leaves_no_pod_and_no_canary_behind(first):
    assert [cluster.release_pods(place) for place in cluster.PLACES] == [[], []]
    assert list(first.production["deployments"]) == ["scoring"]


@pytest.fixture(scope="module")
def second(airflow, bundles, example, first):
    """Version 2 replaces version 1 while clients ask for predictions all the time."""
    version = airflow.register(bundles(2))
    with Load(cluster.service_address("production"), example) as load:
        run = airflow.trigger("attrition_release", version=int(version))
        airflow.decide(run, "Approve", "better")
        state = airflow.await_run(run)
    return SimpleNamespace(run=run, version=version, state=state, load=load, production=cluster.running("production"))


def test_second_version_under_load_fails_no_request(first, second):
    assert second.state == "success"
    assert second.load.failures == []
    assert second.load.versions[first.version] > 100
    assert second.load.versions[second.version] > 100


def test_second_version_becomes_champion_and_the_first_previous(airflow, first, second):
    aliases = airflow.aliases()
    assert (aliases["champion"], aliases["previous_champion"]) == (second.version, first.version)
    assert airflow.result(second.run, "deploy_production")["previous"]["version"] == first.version


@pytest.fixture(scope="module")
def rejected(airflow, bundles, second):
    """Version 3: Airflow is killed in the middle of the staging pod, a stranger answers, admin rejects."""
    version = airflow.register(bundles(3))
    before = cluster.running("production")
    revision = _revision("staging")
    run = airflow.trigger("attrition_release", version=int(version))
    airflow.await_task(run, "deploy_staging", "deferred")
    killed_at = cluster.get("staging", "pods", "-l", "attrition/step=deploy")
    airflow.kill("airflow")
    airflow.start("airflow")
    airflow.await_task(run, "await_approval", "awaiting_input")
    stranger = airflow.answer(run, "Approve", "let me", user=STRANGER)
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


def _revision(place):
    deployment = cluster.get(place, "deployments")[0]
    return int(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"])


def test_airflow_killed_in_the_middle_of_a_pod_goes_on_with_the_same_pod(rejected):
    assert len(rejected.killed_at) == 1
    assert rejected.made == 1
    # One rollout for the release, one for the way back after the rejection.
    assert rejected.rollouts == 2


def test_approval_by_somebody_not_listed_is_refused(rejected):
    assert rejected.stranger.status_code == 403


def test_rejection_leaves_production_alone_and_restores_staging(airflow, second, rejected):
    assert rejected.state == "success"
    assert cluster.running("production") == rejected.before
    staging = cluster.get("staging", "deployments")[0]["metadata"]["annotations"]
    assert staging["attrition/version"] == second.version
    states = airflow.states("attrition_release", rejected.run)
    assert states["record_rejection"] == "success"
    assert states["deploy_canary"] == states["deploy_production"] == states["promote"] == "skipped"
    assert airflow.version_tags(rejected.version)["attrition.approval"] == "rejected"
    assert airflow.aliases()["champion"] == second.version


def test_crash_loop_fails_in_staging_with_its_log_and_is_undone(airflow, bundles, planter, second, rejected):
    version = airflow.register(bundles(4))
    planter.crash_loop(version, bundles(4))
    before = {place: cluster.running(place)["deployments"] for place in cluster.PLACES}
    run = airflow.trigger("attrition_release", version=int(version))
    assert airflow.await_run(run) == "failed"
    assert airflow.states("attrition_release", run)["deploy_staging"] == "failed"
    log = airflow.log(run, "deploy_staging")
    assert "CrashLoopBackOff" in log
    assert "broken on purpose" in log
    assert {place: cluster.running(place)["deployments"] for place in cluster.PLACES} == before
    assert cluster.release_pods("staging") == []


def test_model_that_is_not_the_registered_one_fails_the_build(airflow, bundles, tmp_path, rejected):
    wrong = tmp_path / "wrong"
    _swap_classifier(bundles(5), bundles(1), wrong)
    before = {place: cluster.running(place) for place in cluster.PLACES}
    run = airflow.trigger("attrition_release", version=int(airflow.register(wrong)))
    assert airflow.await_run(run) == "failed"
    assert "the model is not the one that was registered" in airflow.log(run, "build_image")
    assert {place: cluster.running(place) for place in cluster.PLACES} == before


def _swap_classifier(bundle, other, destination):
    import shutil

    shutil.copytree(bundle, destination)
    shutil.copy(other / "classifier.onnx", destination)


def test_image_with_another_model_never_leaves_staging(airflow, bundles, planter, rejected):
    version = airflow.register(bundles(6))
    planter.wrong_model(version, bundles(6), bundles(1))
    before = cluster.running("production")
    run = airflow.trigger("attrition_release", version=int(version))
    state = airflow.await_run(run)
    assert airflow.result(run, "build_image")["reused"], "the planted image was not found: did serving/ change?"
    states = airflow.states("attrition_release", run)
    assert states["deploy_staging"] == "success"
    assert (state, states["verify_staging"]) == ("failed", "failed")
    report = airflow.result(run, "verify_staging")
    assert [check["name"] for check in report["checks"] if not check["passed"]] == ["golden answers", "load"]
    assert cluster.running("production") == before


def test_silence_is_a_no(airflow, second, rejected):
    before = cluster.running("production")
    run = airflow.trigger("attrition_release", version=int(rejected.version))
    assert airflow.await_run(run) == "success"
    states = airflow.states("attrition_release", run)
    assert states["record_rejection"] == "success"
    assert states["deploy_canary"] == "skipped"
    assert airflow.result(run, "build_image")["reused"] is True
    assert cluster.running("production") == before


def test_rollback_puts_the_previous_champion_back_without_a_build(airflow, example, first, second, rejected):
    with Load(cluster.service_address("production"), example) as load:
        run = airflow.trigger("attrition_rollback", reason="a test")
        assert airflow.await_run(run, "attrition_rollback") == "success"
    assert load.failures == []
    production = cluster.get("production", "deployments")[0]["metadata"]["annotations"]
    assert production["attrition/version"] == first.version
    assert production["attrition/digest"] == airflow.result(first.run, "build_image")["digest"]
    assert airflow.aliases()["champion"] == first.version
    assert [cluster.release_pods(place) for place in cluster.PLACES] == [[], []]
