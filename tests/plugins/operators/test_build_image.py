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
from lifecycle.operators.build_image import BUILT, BuildImageOperator
from lifecycle.signing import check, places
from tests.support.airflow import USE_CASE, Memory, make_settings
from tests.support.bundles import make_bundle
from tests.support.signing import make_key, required
from training.registry import tags
from training.signing import bundle as bundle_signature


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


def build(version, memory=None):
    with DAG("attrition_release", schedule=None):
        operator = BuildImageOperator(task_id="build_image", use_case=USE_CASE, model_version=version)
    return operator.execute({"task_state_store": Memory() if memory is None else memory})


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
    operator.execute({"task_state_store": Memory()})
    operator.on_kill()
    assert cancelled == [True]


@pytest.fixture
def held(tmp_path):
    """Keys of the training job, of the builds, and of somebody else."""
    return SimpleNamespace(**{name: make_key(tmp_path, name) for name in ("training", "builds", "mallory")})


@pytest.fixture
def signed(model, held, monkeypatch):
    """Signatures are required; ``signed(bundle, key)`` registers a version whose bundle is signed.

    What is built is not asked for its golden answers, which take a second each time.
    """
    monkeypatch.setattr(BundleBuilder, "_verify", lambda self, staged: None)
    configured = make_settings({"model_name": model.name}, signing=required(held.training, held.builds))
    monkeypatch.setattr(settings, "load", lambda: configured)

    def add(bundle, signer=held.training, of=None):
        version = model.add(bundle)
        registered = registry.resolve(USE_CASE, version)
        name = bundle_signature.subject(model.name, (of or registered).run_id)
        text = bundle_signature.sign(bundle, name, signer.key)
        registry.client().log_text(registered.run_id, text, tags.BUNDLE_SIGNATURE_FILE)
        return version

    return add


def test_what_is_built_is_signed_and_said_by_whom(signed, model, bundles, held):
    version = signed(bundles[0])
    built = build(version)
    assert built["signed_by"] == {
        "bundle": {"signer": "training", "key": held.training.listed.id},
        "image": {"signer": "builds", "key": held.builds.listed.id},
    }
    told = json.loads((model.images / built["tag"] / "release.json").read_text())
    assert told["signed_by"] == built["signed_by"]["bundle"], "the server's /version shows it"
    assert build(version) == {**built, "reused": True}


def test_bundle_that_nobody_has_signed_is_not_built_and_the_command_is_named(signed, model, bundles):
    version = model.add(bundles[0])
    with pytest.raises(
        AirflowFailException,
        match=rf"version {version} of {model.name} is not signed: .*has no artifact signatures/bundle\.json\. "
        rf"Train again with attrition_train, or sign it, .*make sign USE_CASE=attrition VERSION={version}",
    ):
        build(version)
    assert not model.images.exists()


@pytest.mark.parametrize("fault", ["a changed byte", "an extra file", "another key", "another version's signature"])
def test_bundle_whose_signature_does_not_hold_is_not_built(signed, model, bundles, held, fault):
    if fault == "another key":
        version, why = signed(bundles[0], held.mallory), "none of the keys listed"
    elif fault == "another version's signature":
        version = signed(bundles[0], of=registry.resolve(USE_CASE, signed(bundles[0])))
        why = "its signature is that of"
    else:
        version, why = (
            signed(bundles[0]),
            {"a changed byte": "changed: examples.json", "an extra file": "not signed: x"}[fault],
        )
        name = "examples.json" if fault == "a changed byte" else "x"
        registry.client().log_text(registry.resolve(USE_CASE, version).run_id, "{}", f"model/artifacts/bundle/{name}")
    with pytest.raises(AirflowFailException, match=f"is not signed: .*{why}"):
        build(version)
    assert not model.images.exists()


def test_build_that_was_killed_before_it_could_sign_is_signed_by_the_next_try_and_not_built_again(
    signed, model, bundles, held, monkeypatch
):
    version, memory = signed(bundles[0]), Memory()
    with monkeypatch.context() as killed:
        killed.setattr(check, "sign_image", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build(version, memory)
    again = build(version, memory)
    assert (again["reused"], again["image"]) == (True, memory[BUILT])
    assert again["signed_by"]["image"]["key"] == held.builds.listed.id
    place = places.of(ImageReference.parse(again["image"]))
    first = place.read()
    build(version, memory)
    assert len(place.read()) == 1
    assert place.read() == first, "signed once"


def test_image_that_was_found_unsigned_is_built_again_and_not_signed_as_it_is(signed, model, bundles):
    version = signed(bundles[0])
    planted = build(version)
    (model.images / f"{planted['tag']}.sig").unlink()
    built = build(version)
    assert built["reused"] is False
    assert len(places.of(ImageReference.parse(built["image"])).read()) == 1


def test_build_without_a_key_that_counts_says_which_line_is_missing(signed, model, bundles, held, monkeypatch):
    version = signed(bundles[0])
    for signing, why in (
        (required(held.training, held.builds._replace(place=held.mallory.place)), "not listed in image_keys"),
        (
            required(held.training, held.builds._replace(place="")),
            "image_key of .signing. in the settings names no key",
        ),
    ):
        configured = make_settings({"model_name": model.name}, signing=signing)
        monkeypatch.setattr(settings, "load", lambda configured=configured: configured)
        with pytest.raises(AirflowFailException, match=f"cannot be signed: .*{why}"):
            build(version)


def test_where_signatures_are_not_required_an_unsigned_bundle_is_built_and_nobody_is_named(model, bundles):
    assert build(model.add(bundles[0]))["signed_by"] == {"bundle": None, "image": None}


def test_version_of_before_is_signed_by_hand_and_built_then(signed, model, bundles):
    from lifecycle.signing import __main__ as by_hand

    version = model.add(bundles[0])
    (line,) = by_hand.sign(USE_CASE, version)
    assert line.startswith(f"signed the bundle of version {version}: training (key ")
    image = build(version)["image"]
    registry.set_tags(registry.resolve(USE_CASE, version), {tags.IMAGE: image})
    assert [line.partition(" already")[0] for line in by_hand.sign(USE_CASE, version)] == [
        f"the bundle of version {version} is signed", f"{image} is signed",
    ]  # fmt: skip
    places.of(ImageReference.parse(image)).write([])
    assert by_hand.sign(USE_CASE, version, "bundle") == by_hand.sign(USE_CASE, version, "bundle"), "and no image"
    assert by_hand.sign(USE_CASE, version, "image")[0].startswith(f"signed {image}: builds (key ")
    assert build(version)["reused"] is True
