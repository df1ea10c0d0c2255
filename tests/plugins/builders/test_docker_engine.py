"""Builds by a real Docker engine, from the real Dockerfile."""

import json
import shutil

import docker
import msgspec
import pytest
import requests
from airflow.models.connection import Connection

from lifecycle.builders import BuildError, WrongModelError
from lifecycle.builders.context import KEY_LABEL, write_context
from lifecycle.builders.docker_engine import EngineBuilder
from tests.support.bundles import make_bundle
from tests.support.images import inputs_of
from tests.support.registry_double import RegistryDouble

REPOSITORY = "attrition-scoring-unit-test"


def no_engine():
    try:
        docker.from_env().ping()
    except docker.errors.DockerException as error:
        return f"no Docker engine answers ({error}): start dockerd"
    return None


def builder(**arguments):
    return EngineBuilder(Connection(conn_id="registry", conn_type="docker", **arguments))


def inputs(bundle, version="3"):
    return msgspec.structs.replace(inputs_of(bundle, version), repository=REPOSITORY)


@pytest.fixture(scope="module")
def engine():
    if why := no_engine():
        pytest.fail(why)
    client = docker.from_env()
    yield client
    for image in client.images.list(name=REPOSITORY):
        client.images.remove(image.id, force=True)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return [make_bundle(folder / str(seed), seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def built(engine, bundles, tmp_path_factory):
    context = tmp_path_factory.mktemp("build") / "context"
    write_context(inputs(bundles[0]), bundles[0], context)
    return builder().build(inputs(bundles[0]), context, {})


@pytest.mark.docker
@pytest.mark.timeout(900)
def test_local_image_is_deployed_by_its_id_and_keeps_a_name_of_its_own(engine, built, bundles):
    image = engine.images.get(str(built))
    assert image.id == built.digest == str(built)
    assert f"{REPOSITORY}:{inputs(bundles[0]).tag}-{built.digest[7:19]}" in image.tags, "what has no name is pruned"


@pytest.mark.docker
def test_base_image_is_named_by_its_id_even_when_its_name_has_moved_on(engine, built, bundles):
    asked = inputs(bundles[0])
    assert builder().base(asked) == f"{asked.base_image}, image id {engine.images.get(asked.base_image).id}"
    renamed = msgspec.structs.replace(asked, base_image=f"{REPOSITORY}:moved")
    engine.images.get(str(built)).tag(REPOSITORY, "moved")
    assert "no longer knows" in builder().base(msgspec.structs.replace(asked, base_image=f"{REPOSITORY}:gone"))
    assert "of an earlier day" in builder().base(renamed)


@pytest.mark.docker
def test_image_says_what_it_is_and_is_small(engine, built, bundles):
    image = engine.images.get(str(built))
    assert image.labels["org.opencontainers.image.revision"] == "abc"
    assert image.labels["org.opencontainers.image.version"] == "3"
    assert image.labels[KEY_LABEL] == inputs(bundles[0]).key
    assert image.attrs["Config"]["User"] == "10001:10001"
    assert image.attrs["Size"] < 320e6


@pytest.mark.docker
def test_same_inputs_are_found_by_label_and_other_inputs_are_not(built, bundles):
    assert builder().find(inputs(bundles[0])) == built
    assert builder().find(inputs(bundles[1])) is None
    assert builder().find(inputs(bundles[0], "4")) is None


@pytest.mark.docker
def test_image_serves_its_release_from_a_read_only_root(engine, built):
    container = engine.containers.run(
        str(built),
        detach=True,
        read_only=True,
        cap_drop=["ALL"],
        environment={"SCORING_AUTH": "off", "SCORING_BIND": "0.0.0.0:8080", "SCORING_WORKERS": "1"},
    )
    try:
        container.reload()
        address = container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        session = requests.Session()
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=_patient()))
        answer = session.get(f"http://{address}:8080/version", timeout=10).json()
    finally:
        container.remove(force=True)
    assert answer["model"] == {"name": "employee_attrition", "version": "3"}
    assert (answer["revision"], answer["data_digest"], answer["run_id"]) == ("abc", "d", "run")
    assert answer["sbom_digest"].startswith("sha256:")


INSTALLED = "import importlib.metadata as m; print([f'{d.name}=={d.version}' for d in m.distributions()])"
OTLP = "OTEL_EXPORTER_OTLP_ENDPOINT"
TENANT = "9c0f1d2e-0a1b-4c3d-8e5f-0123456789ab"
ENTRA = {"SCORING_AUTH": "entra", "SCORING_ENTRA_TENANT": TENANT, "SCORING_ENTRA_AUDIENCE": "a"}
RUNNING = {"SCORING_BIND": "0.0.0.0:8080", "SCORING_WORKERS": "1", "SCORING_API_KEYS_FILE": "/tmp/keys/keys.json"}


@pytest.fixture(scope="module")
def with_extras(engine, bundles, tmp_path_factory):
    asked = msgspec.structs.replace(inputs(bundles[0]), extras=("entra", "otlp"))
    context = tmp_path_factory.mktemp("build") / "context"
    write_context(asked, bundles[0], context)
    return builder().build(asked, context, {})


@pytest.fixture
def keys(tmp_path):
    """A folder with a key file, as a volume for containers."""
    (tmp_path / "keys.json").write_text('{"release": "%s"}' % ("0" * 64))
    tmp_path.chmod(0o755)
    return {str(tmp_path): {"bind": "/tmp/keys", "mode": "ro"}}


@pytest.mark.docker
@pytest.mark.timeout(900)
def test_image_with_extras_takes_tokens_and_exports_spans_and_says_what_it_holds(engine, with_extras, keys):
    environment = {**RUNNING, **ENTRA, OTLP: "http://127.0.0.1:4318"}
    container = engine.containers.run(
        str(with_extras), detach=True, read_only=True, cap_drop=["ALL"], environment=environment, volumes=keys
    )
    try:
        container.reload()
        address = f"http://{container.attrs['NetworkSettings']['Networks']['bridge']['IPAddress']}:8080"
        session = requests.Session()
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=_patient()))
        version = session.get(f"{address}/version", timeout=10).json()
        document = session.get(f"{address}/openapi.json", timeout=10).json()
        refused = session.post(f"{address}/predict", json=[], headers={"Authorization": "Bearer x"}, timeout=10)
        listed = json.loads(container.exec_run("cat sbom.json").output)
        installed = container.exec_run(["python", "-c", INSTALLED]).output.decode()
    finally:
        container.remove(force=True)
    assert version["extras"] == ["entra", "otlp"]
    assert "Entra" in document["components"]["securitySchemes"]
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    libraries = [component for component in listed["components"] if component["type"] == "library"]
    named = {component["name"]: component["version"] for component in libraries}
    for name in ("pyjwt", "opentelemetry-sdk"):
        assert f"{name}=={named[name]}" in installed.lower()


@pytest.mark.docker
@pytest.mark.parametrize(
    ("environment", "asked"), [(ENTRA, "SCORING_AUTH=entra"), ({OTLP: "http://x"}, OTLP)], ids=["entra", "otlp"]
)
def test_image_without_extras_that_is_asked_for_one_ends_with_one_line(engine, built, keys, environment, asked):
    container = engine.containers.run(
        str(built), detach=True, read_only=True, environment={**RUNNING, **environment}, volumes=keys
    )
    try:
        assert container.wait(timeout=60)["StatusCode"] == 1
        lines = container.logs().decode().splitlines()
    finally:
        container.remove(force=True)
    (line,) = [line for line in lines if not line.startswith("{")]
    assert line.startswith(f"the scoring server does not start: {asked} needs the optional requirements")
    assert "SCORING_EXTRAS=" in line


def _patient():
    from urllib3.util import Retry

    return Retry(connect=20, backoff_factor=0.1, backoff_max=1)


@pytest.mark.docker
@pytest.mark.timeout(900)
def test_bundle_with_another_model_fails_the_build(engine, built, bundles, tmp_path):
    wrong = tmp_path / "wrong"
    shutil.copytree(bundles[0], wrong)
    shutil.copy(bundles[1] / "classifier.onnx", wrong)
    write_context(inputs(wrong), wrong, tmp_path / "context")
    with pytest.raises(WrongModelError, match="FAILED bundle: the model is not the one that was registered"):
        builder().build(inputs(wrong), tmp_path / "context", {})
    assert builder().find(inputs(wrong)) is None


@pytest.fixture
def registry(engine):
    """A registry of this machine, which wants a login."""
    double = RegistryDouble("builder", "secret")
    yield double
    double.close()
    for image in engine.images.list(name=f"127.0.0.1:{double.port}/{REPOSITORY}"):
        engine.images.remove(image.id, force=True)


def pushing(registry, **login):
    login = {"login": "builder", "password": "secret", **login}
    return builder(host="127.0.0.1", port=registry.port, **login)


@pytest.fixture
def small(bundles, tmp_path):
    """Inputs and a context that builds in a moment; what is looked at is the way to the registry."""
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "Dockerfile").write_text(
        f"FROM scratch\nARG INPUTS\nLABEL {KEY_LABEL}=$INPUTS\nCOPY release.json /release.json\n"
    )
    (tmp_path / "release.json").write_text('{"created": "2026-11-21T09:00:00+00:00"}')
    return inputs(bundles[0], "7"), tmp_path


@pytest.mark.docker
def test_image_is_pushed_and_named_by_the_digest_that_the_registry_keeps(registry, small):
    asked, context = small
    built = pushing(registry).build(asked, context, {})
    assert str(built) == f"127.0.0.1:{registry.port}/{REPOSITORY}@{built.digest}"
    assert (REPOSITORY, built.digest) in registry.manifests
    assert registry.manifests[REPOSITORY, asked.tag] == registry.manifests[REPOSITORY, built.digest]
    assert pushing(registry).find(asked) == built


@pytest.mark.docker
def test_image_that_the_registry_has_lost_is_built_and_pushed_again(registry, small):
    asked, context = small
    built = pushing(registry).build(asked, context, {})
    registry.manifests.clear()
    assert pushing(registry).find(asked) is None
    assert pushing(registry).build(asked, context, {}) == built
    assert (REPOSITORY, built.digest) in registry.manifests


@pytest.mark.docker
def test_registry_that_refuses_the_login_fails_the_build_by_its_name(registry, small):
    asked, context = small
    with pytest.raises(BuildError, match=f"could not be pushed to 127.0.0.1:{registry.port}: .*(auth|denied)"):
        pushing(registry, password="wrong").build(asked, context, {})
    assert registry.manifests == {}


def test_engine_that_does_not_answer_is_named_with_its_connection():
    with pytest.raises(BuildError, match="'registry': the Docker engine does not answer"):
        builder(extra={"engine": "tcp://127.0.0.1:9"})
