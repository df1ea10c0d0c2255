"""Single steps on a real cluster, under the rights of ``k8s/rbac``: retries, kills, and ways back."""

import asyncio
import json
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import msgspec
import pytest
import requests
from airflow.models.connection import Connection
from airflow.sdk import DAG, BaseHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred
from kubernetes import client, config

from compose.log_export import Exporter
from lifecycle import settings
from lifecycle.builders.context import write_context
from lifecycle.builders.docker_engine import EngineBuilder
from lifecycle.hooks import stop_switch, targets
from lifecycle.operators.release_step import ScoringStepOperator
from tests.kubernetes import cluster
from tests.kubernetes.cluster import STEPS, USE_CASE, until
from tests.kubernetes.conftest import NoRegistry, empty_targets
from tests.support.images import inputs_of
from tests.support.pod_logs import Container, records

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

REPOSITORY = f"{USE_CASE.image}-steps"
NOTHING = {"image": "", "digest": "", "version": ""}


@pytest.fixture(scope="module")
def engine():
    """The tests' own namespace, with nothing in it, and a Docker engine."""
    with empty_targets(REPOSITORY, STEPS) as engine:
        yield engine


@pytest.fixture(scope="module")
def images(engine, bundles, tmp_path_factory):
    """Image arguments by name: ``one``, ``two`` of other content, and ``broken``, which ends at once."""
    scratch = tmp_path_factory.mktemp("images")
    inputs = msgspec.structs.replace(inputs_of(bundles(1), "101"), repository=REPOSITORY)
    write_context(inputs, bundles(1), scratch / "one")
    one = EngineBuilder(NoRegistry()).build(inputs, scratch / "one", {})
    found = {"one": {"image": one.image, "digest": one.digest, "version": "101"}}
    for name, line in (("two", "LABEL other=content"), ("broken", "COPY wsgi.py /app/serving/wsgi.py")):
        folder = scratch / name
        folder.mkdir()
        (folder / "wsgi.py").write_text('raise SystemExit("broken on purpose")\n')
        (folder / "Dockerfile").write_text(f"FROM {one.image}\n{line}\n")
        tag = f"{REPOSITORY}:{name}"
        image, _ = engine.images.build(path=str(folder), tag=tag)
        found[name] = {"image": tag, "digest": image.id, "version": name}
    return found


@pytest.fixture
def staging(engine, tmp_path, monkeypatch):
    """Connection ``scoring_staging`` to that namespace, with Airflow's own rights, and the tests' settings."""
    for name in ("AIRFLOW", "MLFLOW"):
        monkeypatch.setenv(f"LIFECYCLE_{name}_PORT", "1")
    configured = settings.read(cluster.ROOT / "tests" / "kubernetes" / "settings.toml")
    namespaces = {USE_CASE.name: {"staging": {"namespace": cluster.namespace(STEPS)}}}
    configured = msgspec.structs.replace(configured, use_cases=namespaces)
    monkeypatch.setattr(settings, "load", lambda: configured)
    extra = {"kube_config_path": str(cluster.airflow_kubeconfig(STEPS, tmp_path))}
    connection = Connection(conn_id="scoring_staging", conn_type="kubernetes", extra=json.dumps(extra))
    monkeypatch.setattr(BaseHook, "get_connection", classmethod(lambda cls, conn_id: connection))
    # Asked for by the trigger, which runs in Airflow's triggerer otherwise.
    monkeypatch.setenv("AIRFLOW_CONN_SCORING_STAGING", connection.as_json())


def begin(step, image, run="run-1", number=1, patience=180):
    """A new try of a task, up to where it waits for its pod: operator, context, trigger."""
    with DAG(USE_CASE.release_dag, schedule=None):
        operator = ScoringStepOperator(
            task_id=f"{step}_staging", use_case=USE_CASE.name, target="staging", step=step, **image
        )
    operator.startup_timeout_seconds = patience
    instance = SimpleNamespace(
        dag_id=USE_CASE.release_dag,
        run_id=run,
        task_id=operator.task_id,
        map_index=-1,
        try_number=number,
        start_date=datetime.now(UTC),
        xcom_push=lambda key, value: None,
    )
    context = {"ti": instance, "run_id": run, "dag": operator.dag}
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    return operator, context, deferred.value.trigger


def end(operator, context, trigger):
    """Wait as the triggerer does, then resume the task."""

    async def wait():
        return [event.payload async for event in trigger.run()][-1]

    return operator.trigger_reentry(context, asyncio.run(wait()))


def do(step, image, run="run-1"):
    return end(*begin(step, image, run))


def running():
    """What runs in staging, as Airflow sees it."""
    return targets.current(USE_CASE.name, "staging")


def let_run(image):
    """Have an image run in staging, whatever the test before has left there."""
    if running() != image:
        do("deploy", image, run=f"let-{time.monotonic()}")


def test_retry_of_a_killed_task_finds_the_pod_of_the_first_try(staging, images):
    let_run(images["one"])
    first, _, _ = begin("deploy", images["two"], run="b")
    # The process of the first try is gone here: nothing of it is used again.
    report = end(*begin("deploy", images["two"], run="b", number=2))
    assert report["digest"] == images["two"]["digest"]
    assert report["previous"] == images["one"]
    assert cluster.created_pods(STEPS, first.name) == 1
    assert running() == images["two"]


def test_kill_of_the_task_takes_the_pod_along_and_undoes_the_rollout(staging, images):
    let_run(images["one"])
    operator, _, _ = begin("deploy", images["broken"], run="d")
    until(lambda: running() == images["broken"], "the rollout has begun")
    operator.on_kill()
    # 45 s for the script to undo the rollout. Where the kubelet's collection of dead containers, once a minute, takes
    # them away before the kubelet has seen them end, it looks at the pod again after up to 90 s.
    until(lambda: not cluster.release_pods(STEPS), "the pod is gone", 180)
    assert running() == images["one"]
    assert cluster.running(STEPS)["deployments"] == {"scoring": images["one"]["image"]}


def test_canary_that_fails_is_gone_and_the_stable_was_never_touched(staging, images):
    let_run(images["one"])
    before = cluster.running(STEPS)
    with pytest.raises(AirflowFailException, match="CrashLoopBackOff"):
        do("canary", images["broken"], run="e")
    assert cluster.running(STEPS)["deployments"] == before["deployments"]
    assert set(before["pods"]) <= set(cluster.running(STEPS)["pods"])
    assert [found["metadata"]["name"] for found in cluster.get(STEPS, "services")] == ["scoring"]


def test_tag_that_names_other_content_than_its_digest_is_undone(staging, images):
    let_run(images["one"])
    lie = {**images["two"], "digest": "sha256:" + "0" * 64}
    with pytest.raises(AirflowFailException, match=r"is .*sha256:[0-9a-f]+ in this cluster, not sha256:0000"):
        do("deploy", lie, run="h")
    assert running() == images["one"]


def test_image_that_cannot_be_pulled_fails_with_the_clusters_reason(staging, images):
    let_run(images["one"])
    missing = {**images["one"], "image": f"{REPOSITORY}:no-such-tag", "version": "9"}
    with pytest.raises(AirflowException, match=r"manifests \(.*:no-such-tag\): (ErrImagePull|ImagePullBackOff): "):
        end(*begin("deploy", missing, run="j", patience=15))
    until(lambda: not cluster.release_pods(STEPS), "the pod is gone")
    assert running() == images["one"]


def test_log_export_of_the_compose_stack_gets_what_was_asked_with_airflows_rights(staging, images, example, tmp_path):
    let_run(images["one"])
    configuration = config.new_client_from_config(str(cluster.airflow_kubeconfig(STEPS, tmp_path)))
    container = Container()
    exporter = Exporter(container, {cluster.namespace(STEPS): client.CoreV1Api(configuration)})
    exporter.look_for_pods()
    key = {"X-API-Key": cluster.API_KEY, "X-Request-ID": "followed"}
    url = f"{cluster.service_address(STEPS)}/predict"
    assert requests.post(url, json=[example], headers=key, timeout=10).status_code == 200

    def exported():
        exporter.write()
        messages = [line["LogMessage"] for line in records(container) if isinstance(line["LogMessage"], dict)]
        return {message["type"] for message in messages if message.get("request_id") == "followed"}

    until(lambda: exported() >= {"InputData", "OutputData"}, "both lines are exported")
    assert {line["PodNamespace"] for line in records(container)} == {cluster.namespace(STEPS)}


def test_restore_to_nothing_removes_all_that_releases_made_and_may_be_repeated(staging, images):
    let_run(images["one"])
    for run in ("l", "m"):
        do("restore", NOTHING, run=run)
        assert running() is None
        for kind in ("deployments", "services", "ingresses", "networkpolicies"):
            assert cluster.get(STEPS, kind) == []
    settings_left = [found["metadata"]["name"] for found in cluster.get(STEPS, "configmaps")]
    assert not [name for name in settings_left if name.startswith("scoring")]


def test_airflows_account_of_a_target_can_do_nothing_at_the_other_one(staging):
    assert cluster.may("staging", "create", "pods", within=STEPS)
    assert not cluster.may("production", "create", "pods", within=STEPS)
    assert not cluster.may("staging", "get", "secrets", within=STEPS)


def test_stop_reaches_every_pod_and_those_that_start_later_until_it_is_taken_back(staging, images):
    let_run(images["one"])
    said = json.dumps({"reason": "wrong data", "by": "ann", "since": "2026-11-26T10:00:00Z"})
    do("canary", images["one"], run="stop")
    do("stop", {**images["one"], "said": said}, run="stop")
    assert stop_switch.stopped(USE_CASE.name, "staging") == stop_switch.Stop(
        "wrong data", "ann", "2026-11-26T10:00:00Z"
    )
    do("deploy", images["two"], run="stop")  # stopped servers are ready, and the new ones start stopped
    runs = {**images["two"], "version": "101"}  # as its release.json says
    with pytest.raises(AirflowFailException, match="503"):
        do("verify", runs, run="stop")
    do("resume", {**images["two"], "said": said}, run="stop")
    assert stop_switch.stopped(USE_CASE.name, "staging") is None
    assert do("verify", runs, run="resumed")["passed"]
