"""The cluster of the tests: namespaces, rights and secrets as an administrator makes them, and questions to it."""

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("staging", "production")
STEPS = "steps"
"""A place with staging's rights for the tests of single steps, which may run beside whole releases."""
API_KEY = "a key for tests only"
HOW_TO = (
    "make one with ../shared/kubernetes (./install && ./base-images && ./up as root), then "
    "`export KUBECONFIG=/tmp/kube/kubeconfig`; any other cluster whose nodes use this machine's Docker engine will do"
)


def missing() -> str | None:
    """Why there is no cluster to test on, or ``None``."""
    kubeconfig = os.environ.get("KUBECONFIG")
    if not kubeconfig or not Path(kubeconfig).is_file():
        return f"KUBECONFIG names no file: {HOW_TO}"
    for command in (["kubectl", "version", "--request-timeout=5s"], ["docker", "version"]):
        try:
            found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        except FileNotFoundError:
            return f"{command[0]} is not installed: {HOW_TO}"
        if found.returncode:
            return f"`{' '.join(command)}` fails ({found.stderr.strip()[-200:]}): {HOW_TO}"
    return None


def namespace(place: str) -> str:
    return f"attrition-{place}"


def kubectl(*arguments: str, given: str | None = None) -> str:
    """Run kubectl as the administrator; its output."""
    found = subprocess.run(["kubectl", *arguments], input=given, capture_output=True, text=True, check=False)
    assert found.returncode == 0, f"kubectl {' '.join(arguments)}: {found.stderr}"
    return found.stdout


def get(place: str, kind: str, *arguments: str) -> list[dict[str, Any]]:
    """The objects of a kind in a place."""
    found: list[dict[str, Any]] = json.loads(kubectl("-n", namespace(place), "get", kind, "-o", "json", *arguments))[
        "items"
    ]
    return found


def reset(*places: str) -> None:
    """Empty namespaces with the rights of ``k8s/rbac`` and the secrets that an administrator makes."""
    for place in places:
        kubectl("delete", "namespace", namespace(place), "--ignore-not-found", "--wait")
        rights = kubectl("kustomize", str(ROOT / "k8s" / "rbac" / ("staging" if place == STEPS else place)))
        if place == STEPS:
            rights = rights.replace(namespace("staging"), namespace(STEPS))
        kubectl("apply", "-f", "-", given=rights)
        hashed = json.dumps({"tests": hashlib.sha256(API_KEY.encode()).hexdigest()})
        for name, key, value in (
            ("scoring-client-key", "api-key", API_KEY),
            ("scoring-api-keys", "api-keys.json", hashed),
        ):
            kubectl("-n", namespace(place), "create", "secret", "generic", name, f"--from-literal={key}={value}")


def airflow_kubeconfig(place: str, folder: Path) -> Path:
    """A kubeconfig of the service account ``airflow``: with it, the tests run on the rights of ``k8s/rbac``."""
    cluster = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json"))["clusters"][0]
    token = kubectl("-n", namespace(place), "create", "token", "airflow", "--duration=3h").strip()
    path = folder / f"kubeconfig-{place}.json"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "users": [{"name": "airflow", "user": {"token": token}}],
        "contexts": [{"name": place, "context": {"cluster": cluster["name"], "user": "airflow"}}],
        "current-context": place,
    }
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    return path


def running(place: str) -> dict[str, Any]:
    """What a place runs: the deployments with their image, and the pods that serve, for before-and-after."""
    deployments = {
        found["metadata"]["name"]: found["spec"]["template"]["spec"]["containers"][0]["image"]
        for found in get(place, "deployments")
    }
    pods = sorted(
        found["metadata"]["name"]
        for found in get(place, "pods", "-l", "app.kubernetes.io/name=scoring")
        if "deletionTimestamp" not in found["metadata"]
    )
    return {"deployments": deployments, "pods": pods}


def release_pods(place: str) -> list[str]:
    """Pods of a release that are still there."""
    return [found["metadata"]["name"] for found in get(place, "pods", "-l", "app.kubernetes.io/name=scoring-release")]


def until(reached: Callable[[], object], what: str, seconds: float = 90) -> None:
    """Wait for something that comes about by itself, such as the end of a pod that is being deleted."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"after {seconds} s it is not so that {what}"
        time.sleep(0.5)


def created_pods(place: str, name: str) -> int:
    """How many pods of this name were ever put on a node, from the cluster's events."""
    selector = f"involvedObject.kind=Pod,involvedObject.name={name},reason=Scheduled"
    return sum(found.get("count") or 1 for found in get(place, "events", "--field-selector", selector))


def service_address(place: str) -> str:
    """The scoring server's address within the cluster's network, which this machine reaches."""
    found = json.loads(kubectl("-n", namespace(place), "get", "service", "scoring", "-o", "json"))
    return f"http://{found['spec']['clusterIP']}"
