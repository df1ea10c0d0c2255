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
from lifecycle.image_reference import ImageReference
from lifecycle.operators.release_step import ScoringStepOperator
from lifecycle.signing import image as signature
from lifecycle.signing import places
from tests.kubernetes import cluster
from tests.kubernetes.cluster import STEPS, USE_CASE, until
from tests.kubernetes.conftest import NoRegistry, empty_targets
from tests.support.docker_registry import registry
from tests.support.image_names import digest
from tests.support.images import inputs_of
from tests.support.pod_logs import Container, records
from tests.support.signing import make_key, required

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

REPOSITORY = f"{USE_CASE.image}-steps"
NOTHING = {"image": "", "version": ""}


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
    found = {"one": {"image": str(one), "version": "101"}}
    engine.images.get(one.digest).tag(REPOSITORY, tag="one")
    for name, line in (("two", "LABEL other=content"), ("broken", "COPY wsgi.py /app/serving/wsgi.py")):
        folder = scratch / name
        folder.mkdir()
        (folder / "wsgi.py").write_text('raise SystemExit("broken on purpose")\n')
        (folder / "Dockerfile").write_text(f"FROM {REPOSITORY}:one\n{line}\n")
        image, _ = engine.images.build(path=str(folder), tag=f"{REPOSITORY}:{name}")
        found[name] = {"image": image.id, "version": name}
    return found


@pytest.fixture
def staging(engine, tmp_path, monkeypatch):
    """Connection ``scoring_staging`` to that namespace, with Airflow's own rights, and the tests' settings."""
    for name in ("AIRFLOW", "MLFLOW"):
        monkeypatch.setenv(f"LIFECYCLE_{name}_PORT", "1")
    configured = settings.read(cluster.ROOT / "tests" / "kubernetes" / "settings.toml")
    own = {"staging": {"namespace": cluster.namespace(STEPS)}, "repository": REPOSITORY}
    lenient = settings.Signing(required=False)  # but where a test is about signatures
    configured = msgspec.structs.replace(configured, use_cases={USE_CASE.name: own}, signing=lenient)
    monkeypatch.setattr(settings, "load", lambda: configured)
    extra = {"kube_config_path": str(cluster.airflow_kubeconfig(STEPS, tmp_path))}
    connection = Connection(conn_id="scoring_staging", conn_type="kubernetes", extra=json.dumps(extra))
    known = {"scoring_staging": connection, "registry": Connection(conn_id="registry", conn_type="docker")}
    monkeypatch.setattr(BaseHook, "get_connection", classmethod(lambda cls, conn_id: known[conn_id]))
    # Asked for by the trigger, which runs in Airflow's triggerer otherwise.
    monkeypatch.setenv("AIRFLOW_CONN_SCORING_STAGING", connection.as_json())
    return known


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
    assert report["image"] == images["two"]["image"]
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


@pytest.fixture(scope="module")
def pushed(engine, images, bundles, tmp_path_factory):
    """A registry of the tests' own: its port, and an image of it that our builder has pushed."""
    inputs = msgspec.structs.replace(inputs_of(bundles(1), "102"), repository=REPOSITORY)
    folder = tmp_path_factory.mktemp("pushed")
    write_context(inputs, bundles(1), folder / "context")
    with registry(folder) as port:
        connection = Connection(conn_id="registry", conn_type="docker", host="127.0.0.1", port=port)
        built = EngineBuilder(connection).build(inputs, folder / "context", {})
        assert EngineBuilder(connection).find(inputs) == built
        yield SimpleNamespace(connection=connection, image={"image": str(built), "version": "102"}, built=built)
        until(lambda: not engine.containers.list(filters={"ancestor": str(built)}), "nothing runs the image any more")
        _remove(engine, built)


def _remove(engine, image):
    """From the engine, with all of its names, where it has it."""
    for found in engine.images.list(name=image.place):
        engine.images.remove(found.id, force=True)


@pytest.mark.tools("docker-registry")
def test_image_of_a_registry_is_pulled_and_run_by_its_digest(staging, images, pushed, engine):
    let_run(images["one"])
    staging["registry"] = pushed.connection
    # Nothing but the registry has it: what runs was pulled by the digest.
    _remove(engine, pushed.built)
    report = do("deploy", pushed.image, run="r")
    assert (report["image"], report["previous"]) == (pushed.image["image"], images["one"])
    assert running() == pushed.image
    assert do("verify", pushed.image, run="r")["passed"]
    (deployment,) = cluster.get(STEPS, "deployments")
    assert deployment["metadata"]["annotations"]["lifecycle/digest"] == pushed.built.digest
    for pod in cluster.get(STEPS, "pods", "-l", "app.kubernetes.io/name=scoring,app.kubernetes.io/version=102"):
        assert [status["imageID"] for status in pod["status"]["containerStatuses"]] == [
            f"docker-pullable://{pushed.built}"
        ]
    staging["registry"] = Connection(conn_id="registry", conn_type="docker")
    let_run(images["one"])


@pytest.mark.tools("docker-registry")
@pytest.mark.parametrize("kind", ["another repository", "an engine's image"])
def test_cluster_with_a_registry_takes_images_of_the_listed_repositories_alone(staging, images, pushed, kind):
    """Nothing compared image and digest once: an approved digest let another image through."""
    let_run(images["one"])
    until(lambda: not cluster.release_pods(STEPS), "the pods of the step before are gone")
    staging["registry"] = pushed.connection
    other = {
        "another repository": f"evil.example/backdoor@{pushed.built.digest}",
        "an engine's image": images["two"]["image"],
    }
    with pytest.raises(
        AirflowFailException, match=f"staging refuses the image {other[kind]}: it takes {pushed.built.place}@"
    ):
        do("deploy", {"image": other[kind], "version": "102"}, run="s")
    assert running() == images["one"]
    assert not cluster.release_pods(STEPS)


def test_rollout_that_a_quota_stops_is_given_up_with_the_quotas_words(staging, images):
    """kubernetes/kubernetes#96634: there is no pod that could say why."""
    let_run(images["one"])
    # A pod that ends counts until it is gone.
    until(lambda: not cluster.release_pods(STEPS), "the pods of the step before are gone")
    until(lambda: len(cluster.get(STEPS, "pods")) == 1, "the scoring server that was replaced is gone")
    # Room for that server (192Mi) and the pod of the step (two containers of 64Mi), not for another server.
    cluster.kubectl("-n", cluster.namespace(STEPS), "create", "quota", "small", "--hard=requests.memory=400Mi")
    try:
        began = time.monotonic()
        with pytest.raises(
            AirflowFailException, match=r"ReplicaFailure: FailedCreate: .*exceeded quota: small"
        ) as failed:
            do("deploy", images["two"], run="q")
    finally:
        cluster.kubectl("-n", cluster.namespace(STEPS), "delete", "quota", "small")
    assert time.monotonic() - began < settings.load().release.rollout_timeout
    assert "Warning FailedCreate" in str(failed.value), "the events of the replica set"
    assert "undone: version 101 runs as before" in str(failed.value)
    assert running() == images["one"]


def test_image_that_cannot_be_pulled_fails_with_the_clusters_reason(staging, images):
    let_run(images["one"])
    missing = {**images["one"], "image": digest("00"), "version": "9"}
    with pytest.raises(AirflowException, match=r"manifests \(sha256:0{64}\): (ErrImagePull|ImagePullBackOff): "):
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
        for kind in ("deployments", "services", "ingresses"):
            assert cluster.get(STEPS, kind) == []
    settings_left = [found["metadata"]["name"] for found in cluster.get(STEPS, "configmaps")]
    # The stop switch is the namespace's too: what comes later obeys it.
    assert [name for name in settings_left if name.startswith("scoring")] == [stop_switch.CONFIG_MAP]


def test_image_that_nobody_has_signed_gets_no_pod(staging, images, engine, tmp_path, monkeypatch):
    let_run(images["two"])
    held = make_key(tmp_path, "builds")
    strict = msgspec.structs.replace(settings.load(), signing=required(make_key(tmp_path, "training"), held))
    monkeypatch.setattr(settings, "load", lambda: strict)
    before = cluster.release_pods(STEPS)
    with pytest.raises(AirflowFailException, match=r"staging refuses .* is not signed: it has no signature"):
        begin("deploy", images["one"], run="unsigned")
    assert cluster.release_pods(STEPS) == before
    assert running() == images["two"]
    image = ImageReference.parse(images["one"]["image"])
    place = places.OnEngine(image, lambda: engine)
    place.write([signature.sign(image, USE_CASE.model_name, images["one"]["version"], held.key)])
    try:
        do("deploy", images["one"], run="signed")
        assert running() == images["one"]
    finally:
        engine.images.remove(place.name, force=True)


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
