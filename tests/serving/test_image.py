"""The image, really built and run: small, not root, on a read-only file system."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.machine import free_port
from tests.support.serving_bundles import Attrition
from tests.support.serving_processes import CLIENT, KEY, ROOT, key_file

pytestmark = pytest.mark.docker

TAG = "attrition-scoring-image-test:1"
CREATED = "2026-01-02T03:04:05Z"
LABELS = {
    "REVISION": "0123abc",
    "MODEL_NAME": "employee_attrition",
    "MODEL_VERSION": "7",
    "CREATED": CREATED,
}


def docker(*arguments: str) -> str:
    """Run the docker client; its output."""
    run = subprocess.run(["docker", *arguments], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout


@pytest.fixture(scope="module")
def image(attrition: Attrition, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    context = tmp_path_factory.mktemp("context")
    for name in ("serving", "k8s"):
        shutil.copytree(ROOT / name, context / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(attrition.folder, context / "bundle")
    release = {"model_name": "employee_attrition", "model_version": "7", "revision": "0123abc"}
    (context / "release.json").write_text(json.dumps(release))
    (context / "sbom.json").write_text("{}")
    arguments = [word for name, value in LABELS.items() for word in ("--build-arg", f"{name}={value}")]
    docker("build", "-q", "-f", str(context / "serving" / "Dockerfile"), "-t", TAG, *arguments, str(context))
    yield TAG
    docker("rmi", "-f", TAG)


@pytest.fixture(scope="module")
def container(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Name and port of a running container, with the restrictions of the manifests."""
    folder = tmp_path_factory.mktemp("keys")
    folder.chmod(0o755)
    keys = key_file(folder, **{CLIENT: KEY})
    keys.chmod(0o644)
    port = free_port()
    name = docker(
        "run", "-d", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--cpus", "1",
        "-p", f"127.0.0.1:{port}:8080", "-v", f"{keys}:/keys.json:ro", "-e", "SCORING_API_KEYS_FILE=/keys.json", image,
    ).strip()  # fmt: skip
    try:
        _wait(port, name)
        yield name, port
    finally:
        docker("rm", "-f", name)


def _wait(port: int, name: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except OSError:
            assert time.monotonic() < deadline, docker("logs", name)
            time.sleep(0.2)


def inspect(what: str) -> Any:
    """What docker knows of an image or container."""
    return json.loads(docker("inspect", what))[0]


def test_image_is_under_300_mb_and_labelled(image: str) -> None:
    found = inspect(image)
    print(f"image size: {found['Size'] / 1e6:.0f} MB")
    assert found["Size"] < 300e6
    labels = found["Config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == "0123abc"
    assert labels["org.opencontainers.image.created"] == CREATED
    assert (labels["lifecycle.model.name"], labels["lifecycle.model.version"]) == ("employee_attrition", "7")
    assert found["Config"]["User"].partition(":")[0] not in ("", "0", "root")


def test_image_has_neither_compiler_nor_pip_nor_training_packages(image: str) -> None:
    program = "command -v gcc cc make; ls /opt/venv/lib/python3.*/site-packages; ls -A /root/.cache 2>/dev/null; true"
    found = docker("run", "--rm", "--entrypoint", "sh", image, "-c", program).split()
    assert "onnxruntime" in found
    assert not {"pip", "pandas", "sklearn", "mlflow", "scipy", "/usr/bin/gcc", "/usr/bin/cc"} & set(found)


def test_container_answers_as_the_bundle_on_a_read_only_file_system(
    container: tuple[str, int], attrition: Attrition
) -> None:
    _, port = container
    headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
    body = json.dumps(attrition.examples["records"]).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, headers)
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        found = json.load(answer)
    expected = attrition.examples["classifier__predictions"]
    assert found["classifier__predictions"] == pytest.approx(expected, abs=1e-6)
    assert found["model"]["version"] == "7"


def test_container_logs_the_request_and_has_one_worker_for_one_cpu(
    container: tuple[str, int],
) -> None:
    name, _ = container
    lines = [json.loads(line) for line in docker("logs", name).splitlines()]
    assert {"InputData", "OutputData"} <= {line["type"] for line in lines}
    assert len(docker("top", name).splitlines()) == 1 + 2  # its header, the master and a worker


def test_health_check_passes_and_stop_is_graceful(container: tuple[str, int]) -> None:
    name, _ = container
    check = inspect(name)["Config"]["Healthcheck"]["Test"]
    docker("exec", name, *check[1:])
    began = time.monotonic()
    docker("stop", "-t", "25", name)
    assert time.monotonic() - began < 20
    assert inspect(name)["State"]["ExitCode"] == 0
