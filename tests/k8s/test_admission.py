"""The admission policies: rendered, checked against Kubernetes' schema, and their CEL evaluated on pods."""

import copy
import subprocess
from pathlib import Path
from typing import Any

import cel
import kubernetes_validate
import pytest
import yaml

SCRIPT = Path(__file__).resolve().parents[2] / "k8s" / "admission.sh"
REPOSITORY = "registry.example.com/attrition-scoring"
KUBECTL = "registry.k8s.io/kubectl:v1.32.0"
IMAGE = f"{REPOSITORY}@sha256:{'ab' * 32}"
OF_AN_ENGINE = f"sha256:{'ab' * 32}"
OPERATORS = Path(__file__).resolve().parents[1] / "plugins" / "operators" / "golden"
MANIFESTS = Path(__file__).with_name("golden")


def printed(*given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(SCRIPT), *given], capture_output=True, text=True, check=False)


def applied(repository: str) -> list[dict[str, Any]]:
    found = printed("attrition-staging", repository, KUBECTL)
    assert found.returncode == 0, found.stderr
    return [one for one in yaml.safe_load_all(found.stdout) if one]


@pytest.fixture(scope="module")
def policies() -> list[dict[str, Any]]:
    return applied(REPOSITORY)


@pytest.fixture(scope="module")
def without_registry() -> list[dict[str, Any]]:
    return applied("--engine")


def refusals(policies: list[dict[str, Any]], name: str, made: dict[str, Any]) -> list[str]:
    """The messages of the validations that an object does not meet, as the API server finds them."""
    (policy,) = (
        one["spec"]
        for one in policies
        if one["kind"] == "ValidatingAdmissionPolicy" and one["metadata"]["name"] == name
    )
    variables: dict[str, Any] = {}
    for variable in policy["variables"]:
        variables[variable["name"]] = cel.evaluate(variable["expression"], {"object": made, "variables": variables})
    known = {"object": made, "variables": variables}
    return [rule["message"] for rule in policy["validations"] if cel.evaluate(rule["expression"], known) is not True]


def pod(**spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "base", "image": IMAGE}], **spec}}


def test_policies_fit_the_schema_and_bind_one_namespace(policies, without_registry):
    for one in [*policies, *without_registry]:
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    bindings = [one["spec"] for one in policies if one["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert [one["policyName"] for one in bindings] == ["attrition-staging-pods", "attrition-staging-deployments"]
    for one in bindings:
        selector = one["matchResources"]["namespaceSelector"]["matchLabels"]
        assert selector == {"kubernetes.io/metadata.name": "attrition-staging"}
        assert one["validationActions"] == ["Deny"]


def test_what_a_release_makes_is_admitted(policies):
    """The pods of every step and the Deployments of every render, with an image of the listed repository."""
    for path in sorted(OPERATORS.glob("*.yaml")):
        made = yaml.safe_load(path.read_text())
        for container in [*made["spec"]["containers"], *made["spec"].get("initContainers", [])]:
            if container["image"] != KUBECTL:
                container["image"] = IMAGE
        assert refusals(policies, "attrition-staging-pods", made) == [], path.name
    for name in ("staging", "production", "production-canary"):
        for made in yaml.safe_load_all((MANIFESTS / f"{name}.yaml").read_text()):
            if made["kind"] == "Deployment":
                assert refusals(policies, "attrition-staging-deployments", made) == [], name


def test_images_of_an_engine_are_admitted_by_their_id_where_there_is_no_registry_and_nowhere_else(
    policies, without_registry
):
    for path in sorted(OPERATORS.glob("*.yaml")):
        made = yaml.safe_load(path.read_text())
        for container in [*made["spec"]["containers"], *made["spec"].get("initContainers", [])]:
            if container["image"] != KUBECTL:
                container["image"] = OF_AN_ENGINE
        assert refusals(without_registry, "attrition-staging-pods", made) == [], path.name
    (made,) = (
        one
        for one in yaml.safe_load_all((MANIFESTS / "production-on-an-old-cluster.yaml").read_text())
        if one["kind"] == "Deployment"
    )
    assert refusals(without_registry, "attrition-staging-deployments", made) == []
    for image in (OF_AN_ENGINE, f"{OF_AN_ENGINE}0", f"x/{OF_AN_ENGINE}", f"{OF_AN_ENGINE}\n", "sha256:latest"):
        given = pod(containers=[{"name": "a", "image": image}])
        assert len(refusals(policies, "attrition-staging-pods", given)) == 1, image
        found = refusals(without_registry, "attrition-staging-pods", given)
        assert len(found) == (image != OF_AN_ENGINE), image


def test_several_repositories_are_listed_with_commas():
    both = applied(f"{REPOSITORY},other.example.com/scoring")
    for repository in (REPOSITORY, "other.example.com/scoring"):
        made = pod(containers=[{"name": "a", "image": f"{repository}@sha256:{'ab' * 32}"}])
        assert refusals(both, "attrition-staging-pods", made) == []


def from_secret(name: str) -> dict[str, Any]:
    return {"name": "K", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}


REFUSED = {
    "an image by its tag": (pod(containers=[{"name": "a", "image": f"{REPOSITORY}:v3"}]), "neither listed"),
    "another repository": (pod(containers=[{"name": "a", "image": f"evil.example/x@sha256:{'ab' * 32}"}]), "neither"),
    "a longer name": (pod(containers=[{"name": "a", "image": f"{REPOSITORY}-evil@sha256:{'ab' * 32}"}]), "neither"),
    "an init container": (pod(initContainers=[{"name": "a", "image": "evil.example/x"}]), "neither listed"),
    "an ephemeral container": (pod(ephemeralContainers=[{"name": "a", "image": IMAGE}]), "may not be added"),
    "an account": (pod(serviceAccountName="admin"), "service account"),
    "the deployer with our image": (pod(serviceAccountName="scoring-deployer"), "as scoring-deployer"),
    "the switch with our image": (pod(serviceAccountName="scoring-switch"), "as scoring-deployer or scoring-switch"),
    "a Secret as volume": (pod(volumes=[{"name": "a", "secret": {"secretName": "scoring-tls"}}]), "a volume"),
    "a Secret in a projection": (
        pod(volumes=[{"name": "a", "projected": {"sources": [{"secret": {"name": "scoring-tls"}}]}}]),
        "a volume",
    ),
    "a folder of the node": (pod(volumes=[{"name": "a", "hostPath": {"path": "/"}}]), "a volume"),
    "a Secret as variable": (
        pod(containers=[{"name": "a", "image": IMAGE, "env": [from_secret("scoring-tls")]}]),
        "a variable",
    ),
    "a whole Secret": (
        pod(containers=[{"name": "a", "image": IMAGE, "envFrom": [{"secretRef": {"name": "scoring-api-keys"}}]}]),
        "a whole Secret",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_release_makes_is_refused_with_the_reason(policies, without_registry, case):
    made, reason = REFUSED[case]
    for name, given in (
        ("attrition-staging-pods", made),
        ("attrition-staging-deployments", {"spec": {"template": copy.deepcopy(made)}}),
    ):
        for applied_ones in (policies, without_registry):
            found = refusals(applied_ones, name, given)
            assert any(reason in message for message in found), (name, found)


@pytest.mark.parametrize(
    "given",
    [
        (),
        ("attrition-staging",),
        ("A", REPOSITORY, KUBECTL),
        ("a", "x'||true||'", KUBECTL),
        ("a", "b", "c d"),
        ("a", "--engines", KUBECTL),
        ("a", "", KUBECTL),
        ("a", "--engine"),
    ],
)
def test_names_that_are_none_are_refused_with_how_to_call_it(given):
    found = printed(*given)
    assert (found.returncode, found.stdout) == (2, "")
    assert "usage:" in found.stderr
