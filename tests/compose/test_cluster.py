"""What ``cluster.sh`` applies for several use cases; kubectl is a recorder that makes manifests by the real one.

``make test-kubernetes`` tests the rights themselves on a cluster.
"""

import base64
import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
import yaml

from compose import init
from training.use_case import load

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.tools("kubectl")
KUBECTL = """#!/bin/bash
case "$*" in
  *"config view"*certificate-authority-data*) printf %s Q0E= ;;
  *" apply "*) echo --- >>"$APPLIED"; cat >>"$APPLIED" ;;
  *"get secret"*) printf %s "$TOKEN" | base64 ;;
  *"api-resources"*) printf %s "$KINDS" ;;
  *--dry-run=client*) exec {real} "$@" ;;
  *) echo "not expected: $*" >&2; exit 1 ;;
esac
"""
KINDS = """mutatingwebhookconfigurations.admissionregistration.k8s.io
validatingadmissionpolicies.admissionregistration.k8s.io
validatingadmissionpolicybindings.admissionregistration.k8s.io
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
def made(tmp_path, monkeypatch):
    """The volume of the service ``cluster``, as ``init`` fills it for two use cases."""
    use_cases = [msgspec.structs.replace(load("attrition"), name=name, data="") for name in ("first", "second_one")]
    secrets = init.with_use_cases(init.make_secrets(), [use_case.slug for use_case in use_cases])
    secret = {name: content for name, (_, content) in init.files(secrets).items()}
    for name in init.public_keys(secrets):
        monkeypatch.setenv(name, "")  # which the next line sets
    public = init.of_the_cluster(use_cases, secrets)
    for name, content in {**secret, **{f"cluster/{name}": content for name, content in public.items()}}.items():
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
            "KUBECONFIG": str(tmp_path / "admin.yaml"), "KINDS": KINDS, "REGISTRY": "registry.example.com",
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
        allowed = {one["metadata"]["name"] for one in inside if one["kind"] == "NetworkPolicy"}
        assert allowed == {
            "default-deny", "scoring-callers", "release-pods", "deploy-pods", "scoring-traces", "scoring-access",
        }  # fmt: skip
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


def policies(applied):
    """Name of each admission policy to the repositories that it lets images come from."""
    return {
        one["metadata"]["name"]: next(
            variable["expression"] for variable in one["spec"]["variables"] if variable["name"] == "repositories"
        )
        for one in applied
        if one["kind"] == "ValidatingAdmissionPolicy"
    }


def test_every_namespace_is_narrowed_to_its_own_images(made, run):
    (made / "first-production" / "other-repositories").write_text("old.example.com/first,old.example.com/second")
    done, applied = run(made)
    assert done.returncode == 0, done.stderr
    assert "admission" not in done.stderr
    found = policies(applied)
    assert found.keys() == {f"{name}-{kind}" for name in NAMESPACES for kind in ("pods", "deployments")}
    assert found["second-one-staging-pods"] == "['registry.example.com/second-one-scoring']"
    others = "'old.example.com/first', 'old.example.com/second'"
    assert found["first-production-deployments"] == f"['registry.example.com/first-scoring', {others}]"


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"KINDS": "validatingwebhookconfigurations.admissionregistration.k8s.io"}, "from 1.30 on"),
        ({"REGISTRY": ""}, "REGISTRY is not set"),
    ],
    ids=["an old cluster", "no registry"],
)
def test_cluster_without_the_admission_policy_says_why(made, run, variables, reason):
    done, applied = run(made, **variables)
    assert done.returncode == 0, done.stderr
    assert reason in done.stderr
    assert policies(applied) == {}
    assert {one["metadata"]["name"] for one in applied if one["kind"] == "Namespace"} >= NAMESPACES


def test_namespace_is_the_one_that_the_settings_name(made, run, tmp_path):
    (made / "first-production" / "namespace").write_text("hr-models")
    done, applied = run(made)
    assert done.returncode == 0, done.stderr
    found = {one["metadata"]["name"] for one in applied if one["kind"] == "Namespace"}
    assert found == NAMESPACES - {"first-production"} | {"hr-models", "lifecycle-airflow"}
    assert [one["metadata"]["namespace"] for one in applied if one["kind"] == "Service"].count("hr-models") == 1
    config = yaml.safe_load((tmp_path / "kube" / "production").read_text())
    namespaces = {context["context"].get("namespace") for context in config["contexts"]}
    assert namespaces == {None, "hr-models", "second-one-production"}
    assert "hr-models-pods" in policies(applied)


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
