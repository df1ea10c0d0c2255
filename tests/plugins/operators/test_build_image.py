"""The build operator with a real MLflow server and the bundle builder."""

import shutil
import uuid
from types import SimpleNamespace

import pytest
from airflow.models.connection import Connection
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from lifecycle import settings
from lifecycle.builders.folder import BundleBuilder
from lifecycle.hooks import registry
from lifecycle.image_reference import ImageReference
from lifecycle.operators.build_image import BuildImageOperator
from tests.support.airflow import USE_CASE, make_settings
from tests.support.bundles import make_bundle
from training.registry import tags


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return [make_bundle(folder / str(seed), seed) for seed in (1, 2)]


@pytest.fixture
def model(mlflow_connection, connections, monkeypatch, tmp_path):
    """A registered model of this test's own; ``add(bundle)`` registers a version of it."""
    name = f"model_{uuid.uuid4().hex[:8]}"
    configured = make_settings({"model_name": name})
    monkeypatch.setattr(settings, "load", lambda: configured)
    images = tmp_path / "images"
    connections["registry"] = Connection(conn_id="registry", conn_type="fs", extra={"path": str(images)})
    client = registry.client()
    client.create_registered_model(name)
    experiment = client.create_experiment(name)

    def add(bundle):
        run = client.create_run(experiment)
        client.log_artifacts(run.info.run_id, str(bundle), "model/artifacts/bundle")
        version = client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id).version
        client.set_model_version_tag(name, version, tags.DATA_DIGEST, "d1")
        return str(version)

    return SimpleNamespace(name=name, add=add, images=images)


def build(version):
    with DAG("attrition_release", schedule=None):
        operator = BuildImageOperator(task_id="build_image", use_case=USE_CASE, model_version=version)
    return operator.execute({"task_state_store": {}})


def test_version_is_built_once_and_found_the_second_time(model, bundles):
    version = model.add(bundles[0])
    first = build(version)
    assert first["tag"].startswith(f"v{version}-")
    assert first["image"].startswith(f"{model.images / first['tag']}@sha256:")
    assert "digest" not in first, "it is read out of the image"
    assert first["sbom_digest"].startswith("sha256:")
    assert first["reused"] is False
    assert build(version) == {**first, "reused": True}


def test_two_versions_have_two_images(model, bundles):
    built = [build(model.add(bundle)) for bundle in bundles]
    assert len({ImageReference.parse(image["image"]).digest for image in built}) == 2


def test_wrong_model_is_a_failure_that_no_retry_mends(model, bundles, tmp_path):
    wrong = tmp_path / "wrong"
    shutil.copytree(bundles[0], wrong)
    shutil.copy(bundles[1] / "classifier.onnx", wrong)
    with pytest.raises(AirflowFailException, match="the model is not the one that was registered"):
        build(model.add(wrong))


def test_kill_of_the_task_ends_the_build(model, bundles, monkeypatch):
    cancelled = []
    version = model.add(bundles[0])
    monkeypatch.setattr(BundleBuilder, "cancel", lambda self: cancelled.append(True))
    with DAG("attrition_release", schedule=None):
        operator = BuildImageOperator(task_id="build_image", use_case=USE_CASE, model_version=version)
    operator.on_kill()
    assert cancelled == []  # nothing was under way
    operator.execute({"task_state_store": {}})
    operator.on_kill()
    assert cancelled == [True]
