"""What ``cluster.sh`` applies for several use cases; kubectl is a recorder that makes manifests by the real one.

``make test-kubernetes`` tests the rights themselves on a cluster.
"""

import base64
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from compose import init

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.tools("kubectl")
KUBECTL = """#!/bin/bash
case "$*" in
  *"config view"*certificate-authority-data*) printf %s Q0E= ;;
  *" apply "*) echo --- >>"$APPLIED"; cat >>"$APPLIED" ;;
  *"get secret"*) printf %s "$TOKEN" | base64 ;;
  *--dry-run=client*) exec {real} "$@" ;;
  *) echo "not expected: $*" >&2; exit 1 ;;
esac
"""
ADMIN = """
apiVersion: v1
kind: Config
current-context: admin
clusters: [{name: admin, cluster: {server: "https://k3s:6443"}}]
users: [{name: admin, user: {token: t}}]
contexts: [{name: admin, context: {cluster: admin, user: admin}}]
"""


@pytest.fixture
def made(tmp_path):
    """The volume of the service ``cluster``, as ``init`` fills it for two use cases."""
    secrets = init.with_use_cases(init.make_secrets(), ["first", "second-one"])
    for name, (_, content) in init.files(secrets).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "cluster"


@pytest.fixture
def run(tmp_path):
    """A function that runs the script over a folder of use cases; returns the process and what was applied."""
    (tmp_path / "bin").mkdir()
    kubectl = tmp_path / "bin" / "kubectl"
    kubectl.write_text(KUBECTL.replace("{real}", str(shutil.which("kubectl"))))
    kubectl.chmod(0o755)
    (tmp_path / "kube").mkdir()
    (tmp_path / "admin.yaml").write_text(ADMIN)
    applied = tmp_path / "applied.yaml"

    def run(made, **variables):
        environment = {
            "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "SERVER": "https://k3s:6443", "ACCESS": str(ROOT / "compose" / "access.yaml"), "K8S": str(ROOT / "k8s"),
            "MADE": str(made), "KUBE": str(tmp_path / "kube"), "OWNER": f"{os.getuid()}:{os.getgid()}",
            "APPLIED": str(applied), "TOKEN": "a token",
            "KUBECONFIG": str(tmp_path / "admin.yaml"),
        }  # fmt: skip
        command = ["bash", str(ROOT / "compose" / "cluster.sh")]
        done = subprocess.run(command, env=environment | variables, capture_output=True, text=True, timeout=120)
        found = yaml.safe_load_all(applied.read_text()) if applied.exists() else ()
        return done, [one for one in found if one]

    return run


NAMESPACES = {"first-staging", "first-production", "second-one-staging", "second-one-production"}


def test_every_use_case_gets_namespaces_with_its_own_keys_and_ports(made, run):
    done, applied = run(made)
    assert done.returncode == 0, done.stderr
    found = {one["metadata"]["name"] for one in applied if one["kind"] == "Namespace"}
    assert found == NAMESPACES | {"lifecycle-airflow"}
    for namespace in NAMESPACES:
        inside = [one for one in applied if one["metadata"].get("namespace") == namespace]
        secrets = {one["metadata"]["name"]: one["data"] for one in inside if one["kind"] == "Secret"}
        key = base64.b64decode(secrets["scoring-client-key"]["api-key"]).decode()
        assert key == (made / namespace / "api-key").read_text()
        hashed = base64.b64decode(secrets["scoring-api-keys"]["api-keys.json"]).decode()
        assert hashed == (made / namespace / "api-keys.json").read_text()
        (access,) = [one for one in inside if one["kind"] == "Service"]
        assert access["spec"]["ports"][0]["nodePort"] == int((made / namespace / "node-port").read_text())
        assert [one["metadata"]["name"] for one in inside if one["kind"] == "NetworkPolicy"] == ["scoring-access"]
    ports = [one["spec"]["ports"][0]["nodePort"] for one in applied if one["kind"] == "Service"]
    assert len(set(ports)) == len(ports)


def test_each_target_has_one_kubeconfig_for_all_its_namespaces(made, run, tmp_path):
    run(made)
    for target in ("staging", "production"):
        file = tmp_path / "kube" / target
        assert file.stat().st_mode & 0o777 == 0o600
        config = yaml.safe_load(file.read_text())
        assert config["users"] == [{"name": "airflow", "user": {"token": "a token"}}]
        namespaces = {context["context"].get("namespace") for context in config["contexts"]}
        assert namespaces == {None} | {name for name in NAMESPACES if name.endswith(target)}
        current = next(context for context in config["contexts"] if context["name"] == config["current-context"])
        assert "namespace" not in current["context"]


def test_tokens_are_those_of_an_account_for_each_target(made, run):
    _, applied = run(made)
    tokens = [one for one in applied if one.get("type") == "kubernetes.io/service-account-token"]
    accounts = [one["metadata"]["annotations"]["kubernetes.io/service-account.name"] for one in tokens]
    assert accounts == ["airflow-staging", "airflow-production"]
    made_accounts = {
        one["metadata"]["name"]
        for one in applied
        if one["kind"] == "ServiceAccount" and one["metadata"]["namespace"] == "lifecycle-airflow"
    }
    assert made_accounts == set(accounts)


def test_ones_own_cluster_gets_no_node_ports(made, run):
    done, applied = run(made, ACCESS="")
    assert done.returncode == 0, done.stderr
    assert [one for one in applied if one["kind"] == "Service"] == []


@pytest.mark.parametrize(
    ("empty", "variables", "message"),
    [(True, {}, "holds no use case"), (False, {"SERVER": "https://127.0.0.1:6443"}, "set LIFECYCLE_KUBE_SERVER")],
    ids=["no use case", "loopback"],
)
def test_what_cannot_work_is_refused_with_what_to_do(made, run, tmp_path, empty, variables, message):
    (tmp_path / "nothing").mkdir()
    done, applied = run(tmp_path / "nothing" if empty else made, **variables)
    assert done.returncode == 1
    assert message in done.stderr
    assert applied == []
