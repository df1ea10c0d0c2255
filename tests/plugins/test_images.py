"""``images.lock``: every image of other people is in it, and digests come from registries alone."""

import hashlib
import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from lifecycle import images, pin_images
from lifecycle.builders import folder
from lifecycle.images import Image, LockError
from tests.support.machine import free_port

ROOT = Path(__file__).resolve().parents[2]
DIGEST = "sha256:" + "ab" * 32
OCI = "application/vnd.oci.image"
REFERENCE = r"(?P<reference>[a-z0-9][\w./-]*:[a-z0-9][\w.-]*(?:@sha256:[0-9a-f]{64})?)"
NAMES_AN_IMAGE = re.compile(
    rf"""(?:FROM\ |syntax=|image\w*["']?\s*(?:=|:|:-)\s*(?:str\s*=\s*)?f?["']?(?:\$\{{\w+:-)?){REFERENCE}""",
    re.VERBOSE | re.IGNORECASE,
)
OURS = re.compile(r"^(attrition-scoring|scoring:|lifecycle-|sha256:)")


def named() -> set[tuple[str, str]]:
    """File and reference of every image that a tracked file names, but for documents and renders."""
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    found = set()
    for name in files:
        path = ROOT / name
        if path.suffix in (".md", ".png", ".csv", ".lock") or "golden" in path.parts or not path.is_file():
            continue
        for match in NAMES_AN_IMAGE.finditer(path.read_text(errors="replace")):
            if not OURS.match(match["reference"]):
                found.add((name, match["reference"]))
    return found


def test_every_image_that_a_file_names_is_listed_and_named_as_the_list_says():
    listed = {image.tagged: image.reference for image in images.read()}
    found = {(name, reference) for name, reference in named() if not name.startswith("tests/plugins/test_images")}
    assert {name for name, _ in found} >= {*pin_images.NAMED_IN, "plugins/lifecycle/settings.py"}
    assert {pair for pair in found if pair[1].partition("@")[0] not in listed} == set()
    wrong = {pair for pair in found if pair[0] in pin_images.NAMED_IN and pair[1] not in listed.values()}
    assert wrong == set(), "run `make pin-images`"


def test_every_image_that_is_listed_is_named_somewhere():
    used = {reference.partition("@")[0] for _, reference in named()}
    assert {image.tagged for image in images.read()} - used == set()


def test_image_is_asked_for_by_its_digest_where_there_is_one_and_by_its_tag_otherwise(tmp_path):
    lock = tmp_path / "images.lock"
    lock.write_text(f"# comment\n\npython 3.11-slim {DIGEST}\nregistry.k8s.io/kubectl v1.32.0 not looked up\n")
    assert images.pinned("python:3.11-slim", lock) == f"python:3.11-slim@{DIGEST}"
    assert images.pinned("registry.k8s.io/kubectl:v1.32.0", lock) == "registry.k8s.io/kubectl:v1.32.0"
    for other in ("python:3.12", "mine.example.com/python:3.11-slim", f"python:3.11-slim@{DIGEST}"):
        assert images.pinned(other, lock) == other


@pytest.mark.parametrize("line", ["python:3.11-slim", "python 3.11-slim sha256:abc", "python 3.11-slim", "a b c"])
def test_line_that_is_none_is_refused_with_its_place(tmp_path, line):
    lock = tmp_path / "images.lock"
    lock.write_text(f"# comment\n{line}\n")
    with pytest.raises(LockError, match=rf"images\.lock:2: .*{re.escape(line)}"):
        images.read(lock)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("python", ("https://registry-1.docker.io", "library/python")),
        ("rancher/k3s", ("https://registry-1.docker.io", "rancher/k3s")),
        ("registry.k8s.io/kubectl", ("https://registry.k8s.io", "kubectl")),
        ("localhost:5001/a/b", ("http://localhost:5001", "a/b")),
        ("localhost/a", ("http://localhost", "a")),
        ("mine.example.com:8443/a", ("https://mine.example.com:8443", "a")),
    ],
)
def test_registry_of_a_name_follows_dockers_rules(name, expected):
    assert pin_images.place(name) == expected


def test_references_take_the_digest_and_change_it_and_nothing_like_them_does():
    listed = [Image("python", "3.11-slim", DIGEST), Image("registry", "3.0.0")]
    text = (
        f"FROM python:3.11-slim\nX=python:3.11-slim@sha256:{'00' * 32}\nFROM python:3.11-slim-bookworm\n"
        f"a/python:3.11-slim mypython:3.11-slim registry:3.0.0@{DIGEST}\n"
    )
    expected = (
        f"FROM python:3.11-slim@{DIGEST}\nX=python:3.11-slim@{DIGEST}\nFROM python:3.11-slim-bookworm\n"
        "a/python:3.11-slim mypython:3.11-slim registry:3.0.0\n"
    )
    assert pin_images.referring(text, listed) == expected
    assert pin_images.referring(expected, listed) == expected


NAMES = st.from_regex(r"[a-z][a-z0-9./:_-]{0,30}", fullmatch=True)
TAGS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
DIGESTS = st.one_of(st.just(""), st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True))


@given(st.lists(st.builds(Image, NAMES, TAGS, DIGESTS), unique_by=lambda image: image.tagged, max_size=5))
def test_what_is_written_is_read_again_and_comments_stay(tmp_path_factory, listed):
    lock = tmp_path_factory.mktemp("lock") / "images.lock"
    text = "# comment\n" + "".join(f"{image.name} {image.tag} not looked up\n" for image in listed)
    lock.write_text(pin_images.written(text, listed))
    assert images.read(lock) == listed
    assert lock.read_text().startswith("# comment\n")


# --- with Debian's docker-registry ---


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry on loopback; gives its name, and a function that pushes an index under a tag."""
    place, port = tmp_path_factory.mktemp("registry"), free_port()
    (place / "config.yaml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {place}/data}}}}\nhttp: {{addr: 'localhost:{port}'}}\n"
    )
    url = f"http://localhost:{port}/v2"
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", place / "config.yaml"], stdout=log, stderr=log)

    def push(repository: str, tag: str, content: str) -> str:
        def blob(data: bytes) -> dict[str, object]:
            found = f"sha256:{hashlib.sha256(data).hexdigest()}"
            upload = requests.post(f"{url}/{repository}/blobs/uploads/", timeout=10).headers["Location"]
            requests.put(upload, params={"digest": found}, data=data, timeout=10).raise_for_status()
            return {"digest": found, "size": len(data)}

        def manifest(reference: str, kind: str, body: dict[str, object]) -> dict[str, object]:
            data = json.dumps({"schemaVersion": 2, "mediaType": kind, **body}).encode()
            answer = requests.put(
                f"{url}/{repository}/manifests/{reference or 'sha256:' + hashlib.sha256(data).hexdigest()}",
                data=data,
                headers={"Content-Type": kind},
                timeout=10,
            )
            answer.raise_for_status()
            return {"mediaType": kind, "digest": answer.headers["Docker-Content-Digest"], "size": len(data)}

        config = {"mediaType": f"{OCI}.config.v1+json", **blob(json.dumps({"content": content}).encode())}
        one = manifest("", f"{OCI}.manifest.v1+json", {"config": config, "layers": []})
        platform = {"platform": {"os": "linux", "architecture": "amd64"}}
        return str(manifest(tag, f"{OCI}.index.v1+json", {"manifests": [{**one, **platform}]})["digest"])

    try:
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None, (place / "log").read_text()
            assert time.monotonic() < deadline, "docker-registry did not answer within 30 s"
            try:
                if requests.get(f"{url}/", timeout=2).ok:
                    break
            except requests.ConnectionError:
                time.sleep(0.05)
        yield SimpleNamespace(name=f"localhost:{port}", push=push)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def clone(tmp_path, registry):
    """The files that name images, with the registry's name in front of python's, and a lock file of it and another."""
    for name in pin_images.NAMED_IN:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    python = f"{registry.name}/python"
    dockerfile = tmp_path / "serving" / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace("=python:3.11-slim", f"={python}:3.11-slim"))
    (tmp_path / "images.lock").write_text(f"# of a test\n{python} 3.11-slim not looked up\n")
    return tmp_path


@pytest.mark.tools("docker-registry")
def test_command_writes_what_the_registry_answers_and_follows_a_tag_that_moves(clone, registry):
    python = f"{registry.name}/python:3.11-slim"
    for content in ("first", "second"):
        digest = registry.push("python", "3.11-slim", content)
        assert pin_images.pin(clone)
        assert [image.reference for image in images.read(clone / "images.lock")] == [f"{python}@{digest}"]
        assert f"ARG BASE_IMAGE={python}@{digest}\n" in (clone / "serving" / "Dockerfile").read_text()
        assert images.pinned(python, clone / "images.lock") == f"{python}@{digest}"


@pytest.mark.tools("docker-registry")
def test_image_that_no_registry_tells_stays_as_it_was_and_the_command_says_so(clone, registry, capsys):
    registry.push("python", "3.11-slim", "first")
    closed = f"localhost:{free_port()}"
    with (clone / "images.lock").open("a") as lock:
        lock.write(f"{registry.name}/missing 1 {DIGEST}\n{closed}/a 1 not looked up\n")
    assert not pin_images.pin(clone)
    first, missing, unreachable = images.read(clone / "images.lock")
    assert first.digest.startswith("sha256:")
    assert (missing.digest, unreachable.digest) == (DIGEST, "")
    shown = capsys.readouterr().out
    assert f"{registry.name}/missing:1 stays {DIGEST}: http://{registry.name}/v2/missing/manifests/1: 404" in shown
    assert f"{closed}/a:1 stays not looked up: " in shown


def test_folder_names_the_python_that_it_runs_with(tmp_path):
    connection = SimpleNamespace(conn_id="registry", extra_dejson={"path": str(tmp_path)})
    assert re.fullmatch(r"Python 3\.11\.\d+ of this machine", folder.BundleBuilder(connection).base(None))
