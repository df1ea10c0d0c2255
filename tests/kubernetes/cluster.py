"""The cluster of the tests: namespaces, rights and secrets as an administrator makes them, and questions to it."""

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving.scoring.contract import RELEASE_CLIENT
from training.use_case import load

ROOT = Path(__file__).resolve().parents[2]
USE_CASE = load("attrition")
"""The one that these tests release; any other would do."""
TARGETS = ("staging", "production")
STEPS = "steps"
"""A namespace with staging's rights for the tests of single steps, which may run beside whole releases."""
AIRFLOW_NAMESPACE = "lifecycle-airflow"
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


def namespace(target: str) -> str:
    return f"{USE_CASE.slug}-{target}"


def kubectl(*arguments: str, given: str | None = None) -> str:
    """Run kubectl as the administrator; its output."""
    found = subprocess.run(["kubectl", *arguments], input=given, capture_output=True, text=True, check=False)
    assert found.returncode == 0, f"kubectl {' '.join(arguments)}: {found.stderr}"
    return found.stdout


def get(target: str, kind: str, *arguments: str) -> list[dict[str, Any]]:
    """The objects of a kind at a target."""
    found: list[dict[str, Any]] = json.loads(kubectl("-n", namespace(target), "get", kind, "-o", "json", *arguments))[
        "items"
    ]
    return found


def reset(*targets: str) -> None:
    """Empty namespaces with the rights of ``k8s/rbac`` and the secrets that an administrator makes."""
    for target in targets:
        kubectl("delete", "namespace", namespace(target), "--ignore-not-found", "--wait")
        rights = _rights(target)
        # Airflow's accounts are shared, and another process of these tests may make them at this moment.
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=rights)
        hashed = json.dumps({RELEASE_CLIENT: hashlib.sha256(API_KEY.encode()).hexdigest()})
        for name, key, value in (
            ("scoring-client-key", "api-key", API_KEY),
            ("scoring-api-keys", "api-keys.json", hashed),
        ):
            kubectl("-n", namespace(target), "create", "secret", "generic", name, f"--from-literal={key}={value}")


def _rights(target: str) -> str:
    """What ``k8s/rbac.sh`` prints; single steps are staging's, in a namespace of their own."""
    given = USE_CASE.slug, "staging" if target == STEPS else target, namespace(target)
    return subprocess.run(
        ["bash", str(ROOT / "k8s" / "rbac.sh"), *given], capture_output=True, text=True, check=True
    ).stdout


def account(target: str) -> str:
    """Airflow's service account for a target."""
    return "airflow-production" if target == "production" else "airflow-staging"


def may(target: str, verb: str, resource: str, within: str) -> bool:
    """Whether Airflow's account for a target may do this in the namespace of another one."""
    user = f"system:serviceaccount:{AIRFLOW_NAMESPACE}:{account(target)}"
    command = ["kubectl", "-n", namespace(within), "auth", "can-i", verb, resource, "--as", user]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    assert answer in ("yes", "no"), answer
    return answer == "yes"


def airflow_kubeconfig(target: str, folder: Path) -> Path:
    """A kubeconfig of Airflow's service account for a target: with it, the tests run on the rights of ``k8s/rbac``."""
    cluster = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json"))["clusters"][0]
    token = kubectl("-n", AIRFLOW_NAMESPACE, "create", "token", account(target), "--duration=3h").strip()
    path = folder / f"kubeconfig-{target}.json"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "users": [{"name": "airflow", "user": {"token": token}}],
        "contexts": [{"name": target, "context": {"cluster": cluster["name"], "user": "airflow"}}],
        "current-context": target,
    }
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    return path


def running(target: str) -> dict[str, Any]:
    """What a target runs: the deployments with their image, and the pods that serve, for before-and-after."""
    deployments = {
        found["metadata"]["name"]: found["spec"]["template"]["spec"]["containers"][0]["image"]
        for found in get(target, "deployments")
    }
    pods = sorted(
        found["metadata"]["name"]
        for found in get(target, "pods", "-l", "app.kubernetes.io/name=scoring")
        if "deletionTimestamp" not in found["metadata"]
    )
    return {"deployments": deployments, "pods": pods}


def release_pods(target: str) -> list[str]:
    """Pods of a release that are still there."""
    return [found["metadata"]["name"] for found in get(target, "pods", "-l", "app.kubernetes.io/name=scoring-release")]


def until(reached: Callable[[], object], what: str, seconds: float = 90) -> None:
    """Wait for something that comes about by itself, such as the end of a pod that is being deleted."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"after {seconds} s it is not so that {what}"
        time.sleep(0.5)


def created_pods(target: str, name: str) -> int:
    """How many pods of this name were ever put on a node, from the cluster's events."""
    selector = f"involvedObject.kind=Pod,involvedObject.name={name},reason=Scheduled"
    return sum(found.get("count") or 1 for found in get(target, "events", "--field-selector", selector))


def service_address(target: str) -> str:
    """The scoring server's address within the cluster's network, which this machine reaches."""
    found = json.loads(kubectl("-n", namespace(target), "get", "service", "scoring", "-o", "json"))
    return f"http://{found['spec']['clusterIP']}"
