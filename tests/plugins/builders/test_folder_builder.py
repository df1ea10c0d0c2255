"""The builder of the embedded stack: folders with the content of an image."""

import hashlib
import json
import shutil
from pathlib import Path

import msgspec
import pytest
from airflow.models.connection import Connection
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from lifecycle import builders
from lifecycle.builders import BuildError, WrongModelError
from lifecycle.builders.context import EXTRAS_FILE, build_arguments, sbom_digest, write_context
from tests.support.bundles import make_bundle
from tests.support.images import build_image, bundle_builder, inputs_of
from training.registry.content import content_digest, folder_digest


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return [make_bundle(folder / str(seed), seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def built(tmp_path_factory, bundles):
    """An images folder with one image, and that image."""
    images = tmp_path_factory.mktemp("images")
    return images, build_image(images, tmp_path_factory.mktemp("context"), bundles[0], "3")


def test_image_folder_holds_what_the_image_holds(built):
    images, image = built
    names = {path.name for path in (images / inputs_tag(image)).iterdir()}
    assert names == {"serving", "bundle", "k8s", "release.json", "sbom.json"}
    assert image.digest.startswith("sha256:")
    assert len(image.digest) == len("sha256:") + 64


def inputs_tag(image):
    return image.place.rpartition("/")[2]


def test_release_file_says_where_the_image_comes_from(built):
    images, image = built
    folder = images / inputs_tag(image)
    release = json.loads((folder / "release.json").read_text())
    assert release.pop("sbom_digest") == f"sha256:{hashlib.sha256((folder / 'sbom.json').read_bytes()).hexdigest()}"
    assert release.pop("created")
    assert release.pop("code_hash")
    assert release == {
        "model_name": "employee_attrition",
        "model_version": "3",
        "run_id": "run",
        "data_digest": "d",
        "revision": "abc",
        "extras": [],
        "signed_by": None,
    }


def test_release_file_and_bill_of_materials_tell_the_extras(bundles, tmp_path):
    plain = inputs_of(bundles[0], "3")
    inputs = msgspec.structs.replace(plain, extras=("entra", "otlp"))
    assert inputs.tag != plain.tag
    assert build_arguments(inputs, laid_out(inputs, bundles[0], tmp_path / "with"))["SCORING_EXTRAS"] == "entra,otlp"
    assert build_arguments(plain, laid_out(plain, bundles[0], tmp_path / "without"))["SCORING_EXTRAS"] == ""
    assert json.loads((tmp_path / "with" / "release.json").read_text())["extras"] == ["entra", "otlp"]
    for name, extras in (("with", "entra\notlp\n"), ("without", "")):
        assert (tmp_path / name / EXTRAS_FILE).read_text() == extras, "what deploy.sh reads"
    listed = {name: packages_of(tmp_path / name / "sbom.json") for name in ("with", "without")}
    assert {"pyjwt", "cryptography", "opentelemetry-sdk"} <= listed["with"] - listed["without"]
    assert listed["without"] < listed["with"]


def laid_out(inputs, bundle, folder):
    write_context(inputs, bundle, folder)
    return folder


def packages_of(path):
    return {component["name"] for component in json.loads(path.read_text())["components"]}


def test_same_inputs_find_the_image_and_other_inputs_do_not(built, bundles):
    images, image = built
    assert bundle_builder(images).find(inputs_of(bundles[0], "3")) == image
    assert bundle_builder(images).find(inputs_of(bundles[1], "3")) is None
    assert bundle_builder(images).find(inputs_of(bundles[0], "4")) is None


def test_tag_names_the_version_and_changes_with_the_bundle(bundles):
    tags = [inputs_of(bundle, "3").tag for bundle in bundles]
    assert tags[0] == inputs_of(bundles[0], "3").tag
    assert tags[0] != tags[1]
    assert all(tag.startswith("v3-") for tag in tags)


def test_image_that_was_changed_after_its_build_is_refused(built, bundles, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(built[0], images)
    (images / inputs_tag(built[1]) / "serving" / "app.py").write_text("# other code\n")
    with pytest.raises(BuildError, match="was changed after it was built"):
        bundle_builder(images).find(inputs_of(bundles[0], "3"))


def test_caches_of_a_running_server_do_not_change_the_digest(built, bundles, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(built[0], images)
    cache = images / inputs_tag(built[1]) / "serving" / "__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "app.cpython-311.pyc").write_bytes(b"cache")
    assert bundle_builder(images).find(inputs_of(bundles[0], "3")).digest == built[1].digest


def test_bundle_with_another_model_is_refused_and_leaves_nothing(bundles, tmp_path):
    wrong = tmp_path / "wrong"
    shutil.copytree(bundles[0], wrong)
    shutil.copy(bundles[1] / "classifier.onnx", wrong)
    images = tmp_path / "images"
    with pytest.raises(WrongModelError, match="example 0 should be"):
        build_image(images, tmp_path / "context", wrong, "3")
    assert list(images.iterdir()) == []


def test_folder_that_a_killed_build_left_is_not_taken_for_the_image(bundles, tmp_path):
    inputs = inputs_of(bundles[0], "3")
    images = tmp_path / "images"
    (images / inputs.tag).mkdir(parents=True)
    (images / inputs.tag / "half.txt").write_text("half")
    assert bundle_builder(images).find(inputs) is None
    image = build_image(images, tmp_path / "context", bundles[0], "3")
    assert not (Path(image.place) / "half.txt").exists()
    assert bundle_builder(images).find(inputs) == image


def test_image_that_is_built_again_leaves_alone_what_a_server_may_run(bundles, tmp_path):
    """An image that nobody had signed was built again under its tag, and staging lost the folder that it ran from."""
    images, inputs = tmp_path / "images", inputs_of(bundles[0], "3")
    built = [build_image(images, tmp_path / f"context-{number}", bundles[0], "3") for number in range(3)]
    assert [Path(image.place).name for image in built] == [inputs.tag, f"{inputs.tag}-2", f"{inputs.tag}-3"]
    assert [content_digest(Path(image.place)) for image in built] == [image.digest for image in built]
    assert bundle_builder(images).find(inputs) == built[-1]


def test_image_of_a_record_that_names_no_folder_is_found_at_its_tag(bundles, tmp_path):
    """As earlier versions of this project wrote it."""
    images, inputs = tmp_path / "images", inputs_of(bundles[0], "3")
    image = build_image(images, tmp_path / "context", bundles[0], "3")
    (images / f"{inputs.tag}.inputs").write_text(json.dumps({"key": inputs.key, "digest": image.digest}))
    assert bundle_builder(images).find(inputs) == image


def test_folder_that_other_inputs_made_is_neither_taken_nor_replaced(bundles, tmp_path):
    images, inputs = tmp_path / "images", inputs_of(bundles[0], "3")
    image = build_image(images, tmp_path / "context", bundles[0], "3")
    record = images / f"{inputs.tag}.inputs"
    record.write_text(json.dumps({"key": "f" * 64, "digest": image.digest}))
    with pytest.raises(BuildError, match=f"was made from other inputs \\(f{{64}}, and these are {inputs.key}\\)"):
        bundle_builder(images).find(inputs)


def test_bill_of_materials_lists_every_pin_and_is_the_same_twice(bundles, tmp_path):
    texts = []
    for name in ("a", "b"):
        write_context(inputs_of(bundles[0], "3"), bundles[0], tmp_path / name)
        texts.append((tmp_path / name / "sbom.json").read_text())
    assert texts[0] == texts[1]
    libraries = [part for part in json.loads(texts[0])["components"] if part["type"] == "library"]
    assert {"flask", "gunicorn", "numpy", "onnxruntime", "msgspec"} <= {component["name"] for component in libraries}
    assert all(component["hashes"] for component in libraries)


def test_bill_of_materials_holds_the_model_and_what_it_was_trained_on(bundles, tmp_path):
    inputs = inputs_of(bundles[0], "3")
    write_context(inputs, bundles[0], tmp_path / "a")
    content = (tmp_path / "a" / "sbom.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(content) is None
    document = json.loads(content)
    (model,) = [part for part in document["components"] if part["type"] == "machine-learning-model"]
    assert (model["name"], model["version"]) == ("employee_attrition", "3")
    said = {one["name"]: one["value"] for one in model["properties"]}
    # Of the very bundle that lies beside it.
    assert said["lifecycle:bundle-digest"] == f"sha256:{folder_digest(tmp_path / 'a' / 'bundle')}"
    assert said["lifecycle:training-run"] == "run"
    (data,) = [part for part in document["components"] if part["type"] == "data"]
    assert data["properties"] == [{"name": "lifecycle:data-digest", "value": "d"}]
    needs = {one["ref"]: one.get("dependsOn", []) for one in document["dependencies"]}
    assert "model" in needs["image"]
    assert needs["model"] == ["training-data"]
    other = msgspec.structs.replace(inputs, bundle_hash="0" * 64)
    assert sbom_digest(other) != sbom_digest(inputs)


def test_connection_type_chooses_the_builder_and_an_unknown_one_lists_them(connections, tmp_path):
    connections["registry"] = Connection(conn_id="registry", conn_type="fs", extra={"path": str(tmp_path)})
    assert type(builders.choose("registry")).__name__ == "BundleBuilder"
    connections["registry"] = Connection(conn_id="registry", conn_type="ftp")
    with pytest.raises(BuildError, match=r"type 'ftp'.*use one of fs, docker, azure_container_registry, azure"):
        builders.choose("registry")


def test_fs_connection_without_a_path_is_refused_by_name(connections):
    connections["registry"] = Connection(conn_id="registry", conn_type="fs")
    with pytest.raises(BuildError, match=r"'registry' of type fs needs extra\.path"):
        builders.choose("registry")
