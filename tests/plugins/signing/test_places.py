"""Where an image's signatures lie, in a registry that answers over HTTP, beside a folder, and on an engine."""

import json

import docker
import pytest
import requests
from airflow.models.connection import Connection

from lifecycle.hooks import registry_http
from lifecycle.image_reference import ImageReference
from lifecycle.signing import image as signature
from lifecycle.signing import places
from tests.support import docker_registry
from tests.support.image_names import digest
from tests.support.registry_double import RegistryDouble
from tests.support.signing import make_key
from training.signing.keys import SignatureError

REPOSITORY = "attrition-scoring"


@pytest.fixture(params=["", "a token"], ids=["login", "token"])
def registry(request, connections):
    double = RegistryDouble("builder", "secret", token=request.param)
    connections["registry"] = Connection(
        conn_id="registry", conn_type="docker", host="127.0.0.1", port=double.port, login="builder", password="secret"
    )
    yield double
    double.close()


def entries(image, tmp_path, *signers):
    return [signature.sign(image, "m", "3", make_key(tmp_path, signer).key) for signer in signers]


def test_registry_keeps_signatures_under_cosigns_tag_and_gives_them_back(registry, tmp_path):
    image = ImageReference(f"127.0.0.1:{registry.port}/{REPOSITORY}", digest("aa"))
    place, made = places.of(image), entries(image, tmp_path, "one", "two")
    assert place.read() == []
    place.write(made)
    assert place.read() == made
    kind, content = registry.manifests[REPOSITORY, f"sha256-{'aa' * 32}.sig"]
    manifest = json.loads(content)
    assert kind == manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    for layer, entry in zip(manifest["layers"], made, strict=True):
        assert layer["mediaType"] == "application/vnd.dev.cosign.simplesigning.v1+json"
        assert layer["annotations"] == {"dev.cosignproject.cosign/signature": entry.text}
        assert registry.blobs[layer["digest"]] == entry.payload
        assert layer["size"] == len(entry.payload)
    assert registry.scopes == ([f"repository:{REPOSITORY}:{actions}" for actions in ("pull", "pull,push", "pull")]
                               if registry.token else [])  # fmt: skip


@pytest.fixture
def real(connections, tmp_path):
    """The repository of images in a real registry."""
    with docker_registry.registry(tmp_path) as port:
        connections["registry"] = Connection(conn_id="registry", conn_type="docker", host="127.0.0.1", port=port)
        yield f"127.0.0.1:{port}/{REPOSITORY}"


@pytest.mark.tools("docker-registry")
def test_real_registry_keeps_signatures_and_gives_them_back(real, tmp_path):
    image = ImageReference(real, digest("aa"))
    place, made = places.of(image), entries(image, tmp_path, "one", "two")
    assert place.read() == []
    place.write(made)
    assert place.read() == made
    place.write(made[:1])
    assert place.read() == made[:1]
    assert places.of(ImageReference(real, digest("bb"))).read() == []


@pytest.mark.tools("docker-registry")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("blobs/uploads/", "blobs/upload/"),
        ("/manifests/", "/manifest/"),
        ("digest", "digests"),
        ("PUT", "POST"),
        ('"layers"', '"layer"'),
        ('"config"', '"configs"'),
        ("manifest.v1+json", "manifests.v1+json"),
    ],
)
def test_misspelt_write_is_refused_by_a_real_registry_or_read_as_no_signature(real, tmp_path, monkeypatch, old, new):
    sent = requests.Session.request
    planted = []

    def misspelt(said):
        other = said.replace(old.encode(), new.encode()) if isinstance(said, bytes) else said.replace(old, new)
        planted.extend([other] if other != said else [])
        return other

    def request(session, method, url, *, params=None, data=None, headers=None, **rest):
        if method in ("POST", "PUT"):
            method, url = misspelt(method), misspelt(url)
            params = {misspelt(name): value for name, value in (params or {}).items()}
            data = misspelt(data) if data else data
            headers = {name: misspelt(value) for name, value in (headers or {}).items()}
        return sent(session, method, url, params=params, data=data, headers=headers, **rest)

    monkeypatch.setattr(requests.Session, "request", request)
    image = ImageReference(real, digest("aa"))
    place, made = places.of(image), entries(image, tmp_path, "one")
    try:
        place.write(made)
    except requests.HTTPError:
        assert planted
        return
    assert planted
    assert place.read() != made


def test_layer_whose_content_is_not_that_of_its_digest_is_no_signature(registry, tmp_path):
    image = ImageReference(f"127.0.0.1:{registry.port}/{REPOSITORY}", digest("aa"))
    place, made = places.of(image), entries(image, tmp_path, "one")
    place.write(made)
    registry.blobs[registry_http.digest_of(made[0].payload)] = b"another payload"
    assert place.read() == []


def test_other_registry_is_asked_without_our_login(registry, tmp_path):
    if registry.token:
        return  # the same, one refusal later
    other = RegistryDouble("somebody", "else")
    asked = []
    repository = places._repository(ImageReference(f"127.0.0.1:{other.port}/{REPOSITORY}", digest("aa")), "pull")
    repository._session.hooks["response"].append(lambda answer, **_: asked.append(answer.request.headers))
    assert repository._base == f"https://127.0.0.1:{other.port}"
    repository._base = f"http://127.0.0.1:{other.port}"
    with pytest.raises(Exception, match="401"):
        repository.manifest("any", "*/*")
    other.close()
    assert ["Authorization" in headers for headers in asked] == [False]


def test_registry_that_workers_know_by_another_name_than_the_engine(connections):
    extra = {"api": "http://registry:5000/"}
    connections["registry"] = Connection(
        conn_id="registry", conn_type="docker", host="localhost", port=5001, extra=extra
    )
    repository = places._repository(ImageReference(f"localhost:5001/{REPOSITORY}", digest("aa")), "pull")
    assert (repository._base, repository._name) == ("http://registry:5000", REPOSITORY)


def test_folder_has_its_signatures_beside_it(tmp_path):
    folder = tmp_path / "v3-0123"
    folder.mkdir()
    image = ImageReference(str(folder), digest("aa"))
    place, made = places.of(image), entries(image, tmp_path, "one", "two")
    assert place.read() == []
    place.write(made)
    assert place.read() == made
    assert (tmp_path / "v3-0123.sig").is_file()
    assert list(folder.iterdir()) == [], "the image is what was signed"
    (tmp_path / "v3-0123.sig").write_text("no signatures")
    with pytest.raises(SignatureError, match=r"v3-0123\.sig cannot be read as signatures"):
        place.read()


@pytest.mark.docker
def test_engine_without_a_registry_keeps_signatures_as_labels(connections, tmp_path):
    connections["registry"] = Connection(conn_id="registry", conn_type="docker")
    image = ImageReference("", digest("5e"))
    place, made = places.of(image), entries(image, tmp_path, "one", "two")
    try:
        assert place.read() == []
        place.write(made)
        assert place.read() == made
        place.write(made[:1])
        assert place.read() == made[:1]
    finally:
        docker.from_env().images.remove(place.name, force=True)


def test_model_that_no_image_was_built_of_has_no_place():
    with pytest.raises(SignatureError, match="its bundle is what is signed"):
        places.of(ImageReference("models:/demand", digest("aa")))
