"""The build operator with MLflow's own server and the bundle builder."""

import json
import shutil
import uuid
from datetime import UTC, datetime
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


def test_build_says_that_nothing_was_scanned_where_there_are_no_advisories(model, bundles):
    assert build(model.add(bundles[0]))["scan"]["not_scanned"] == "no advisories are set"


@pytest.mark.parametrize(("severity", "ends"), [("CRITICAL", True), ("LOW", False)])
def test_image_with_a_known_fault_is_built_or_not_by_the_settings(
    model, bundles, monkeypatch, tmp_path, severity, ends
):
    affected = {"package": {"ecosystem": "PyPI", "name": "flask"}, "ranges": [
        {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}
    ]}  # fmt: skip
    advisory = {"id": "HAND-MADE-1", "modified": datetime.now(UTC).isoformat(), "affected": [affected]}
    (tmp_path / "one.json").write_text(json.dumps({**advisory, "database_specific": {"severity": severity}}))
    limits = settings.Release(advisories=str(tmp_path), blocked_from="HIGH")
    configured = make_settings({"model_name": model.name}, release=limits)
    monkeypatch.setattr(settings, "load", lambda: configured)
    version = model.add(bundles[0])
    if ends:
        with pytest.raises(
            AirflowFailException, match=r"is not released: 1 known fault of severity HIGH.*HAND-MADE-1 in flask"
        ):
            build(version)
        assert not model.images.exists()
        return
    (fault,) = build(version)["scan"]["faults"]
    assert (fault["id"], fault["package"], fault["severity"]) == ("HAND-MADE-1", "flask", "LOW")


def test_release_ends_where_every_image_has_to_be_scanned_and_none_can_be(model, bundles, monkeypatch):
    configured = make_settings({"model_name": model.name}, release=settings.Release(unscanned_blocks=True))
    monkeypatch.setattr(settings, "load", lambda: configured)
    with pytest.raises(AirflowFailException, match="not scanned: no advisories are set"):
        build(model.add(bundles[0]))


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
