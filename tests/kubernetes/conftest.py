"""The cluster's own fixtures: one empty cluster and one Airflow for all scenarios, and images that lie."""

import contextlib
import json
import shutil
from pathlib import Path

import docker
import pytest

from lifecycle.builders.context import Inputs, gather, write_context
from lifecycle.builders.docker_engine import EngineBuilder
from lifecycle.hooks.registry import Version
from lifecycle.image_reference import ImageReference
from lifecycle.signing import image as signature
from lifecycle.signing import places
from lifecycle.tasks.publish import git_revision
from tests.kubernetes import cluster, real_airflow
from tests.support.bundles import make_bundle
from tests.support.machine import free_port

REPOSITORY = f"{cluster.USE_CASE.image}-test"
"""As settings.toml has it."""


@contextlib.contextmanager
def empty_targets(repository, *targets):
    """Empty namespaces, and a Docker engine without images of a repository; all of it is gone afterwards.

    Where there is no cluster the test fails and says what to do.
    """
    if why := cluster.missing():
        pytest.fail(why)
    cluster.reset(*targets)
    engine = docker.from_env()
    _remove_images(engine, repository)
    yield engine
    for target in targets:
        cluster.kubectl("delete", "namespace", cluster.namespace(target), "--ignore-not-found", "--wait=false")
    _remove_images(engine, repository)


@pytest.fixture(scope="session")
def empty_cluster():
    """The two targets of a release, with nothing in them."""
    with empty_targets(REPOSITORY, *cluster.TARGETS) as engine:
        yield engine
        _remove_images(engine, places.ENGINE_REPOSITORY)


def _remove_images(engine, repository):
    for image in engine.images.list(name=repository):
        for tag in image.tags:
            engine.images.remove(tag, force=True)


@pytest.fixture(scope="session")
def airflow(empty_cluster, tmp_path_factory):
    """A real Airflow and MLflow; no process is left behind."""
    running = real_airflow.new(tmp_path_factory.mktemp("stack"), free_port)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """A function that makes the bundle of a seed, once."""
    folder = tmp_path_factory.mktemp("bundles")

    def make(seed: int) -> Path:
        path = folder / str(seed)
        return path if path.exists() else make_bundle(path, seed)

    return make


@pytest.fixture(scope="session")
def example(bundles):
    """A record that every model here takes."""
    return json.loads((bundles(1) / "examples.json").read_text())["records"][0]


_BROKEN_IN_PRODUCTION = f"""
import socket
from pathlib import Path

def _broken(environ, start_response):
    start_response("500 Broken on purpose", [])
    return [b""]

if "{cluster.namespace("production")}" in Path("/etc/resolv.conf").read_text() and "canary" not in socket.gethostname():
    _sound = app.wsgi_app
    app.wsgi_app = lambda environ, start: (_broken if environ["PATH_INFO"] == "/predict" else _sound)(environ, start)
"""


class Planter:
    """Puts an image in place of the one that ``build_image`` is going to look for."""

    def __init__(self, airflow, engine, scratch: Path) -> None:
        self._airflow = airflow
        self._engine = engine
        self._scratch = scratch

    def inputs(self, version: str, bundle: Path) -> Inputs:
        found = self._airflow.model_version(version)
        model = Version(found.name, version, found.run_id, dict(found.tags))
        return gather(
            model=model,
            bundle=bundle,
            repository=REPOSITORY,
            base_image="python:3.11-slim",
            revision=git_revision(),
            data_digest=self._airflow.version_tags(version)["lifecycle_data_digest"],
            signed_by=self._airflow.stack.signing_keys["bundle"].public[-1].who,
        )

    def crash_loop(self, version: str, bundle: Path) -> None:
        """An image whose server ends at once, although its bundle is sound."""
        inputs = self.inputs(version, bundle)
        context = self._scratch / f"crash-{version}"
        write_context(inputs, bundle, context)
        (context / "serving" / "wsgi.py").write_text('raise SystemExit("broken on purpose")\n')
        self._build(inputs, context)

    def broken_in_production(self, version: str, bundle: Path) -> None:
        """An image that answers nothing once it has all of production's traffic, and is sound before."""
        inputs = self.inputs(version, bundle)
        context = self._scratch / f"production-{version}"
        write_context(inputs, bundle, context)
        with (context / "serving" / "wsgi.py").open("a") as code:
            code.write(_BROKEN_IN_PRODUCTION)
        self._build(inputs, context)

    def wrong_model(self, version: str, bundle: Path, other: Path) -> None:
        """An image that was sound when it was checked, and answers with another model now."""
        inputs = self.inputs(version, bundle)
        context = self._scratch / f"wrong-{version}"
        write_context(inputs, bundle, context)
        sound = self._build(inputs, context)
        late = self._scratch / f"late-{version}"
        late.mkdir()
        shutil.copy(other / "classifier.onnx", late)
        tag = f"{REPOSITORY}:{inputs.tag}"
        (late / "Dockerfile").write_text(f"FROM {tag}\nCOPY classifier.onnx /app/bundle/classifier.onnx\n")
        wrong, _ = self._engine.images.build(path=str(late), tag=tag)
        self._sign(inputs, ImageReference("", wrong.id))
        for name in self._engine.images.get(sound.digest).tags:
            self._engine.images.remove(name, force=True)

    def _build(self, inputs: Inputs, context: Path):
        built = EngineBuilder(NoRegistry()).build(inputs, context, {})
        self._sign(inputs, built)
        return built

    def _sign(self, inputs: Inputs, image: ImageReference) -> None:
        """As ``build_image`` signs: an image that is not signed would be built again."""
        entry = signature.sign(image, inputs.model_name, inputs.model_version, self._airflow.signing_key("image"))
        places.OnEngine(image, lambda: self._engine).write([entry])


class NoRegistry:
    """A connection of type docker without a registry."""

    conn_id, conn_type, host, port, login, password = "registry", "docker", "", None, None, None
    extra_dejson: dict[str, str] = {}


@pytest.fixture(scope="session")
def planter(airflow, empty_cluster, tmp_path_factory):
    return Planter(airflow, empty_cluster, tmp_path_factory.mktemp("planted"))
