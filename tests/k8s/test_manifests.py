"""The manifests that travel in the image: rendered, compared, checked against Kubernetes' schema."""

import os
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from lifecycle.builders import context
from tests.support.golden import check_golden

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
GOLDEN = Path(__file__).with_name("golden")
DIGEST = "sha256:" + "ab" * 32
IMAGE = f"registry.example.com/attrition-scoring@{DIGEST}"
OF_AN_ENGINE = DIGEST
"""An image that no registry stands behind, by its id."""

pytestmark = pytest.mark.tools("kubectl")  # `kubectl kustomize` renders them


def rights(use_case: str, target: str, namespace: str = "") -> str:
    """What an administrator applies for a use case and target."""
    command = ["bash", str(K8S / "rbac.sh"), use_case, target, namespace or f"{use_case}-{target}"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


def render(
    scratch: Path,
    *,
    step: str,
    target: str,
    use_case: str = "attrition",
    image: str = IMAGE,
    leave_out: str = "",
    extras: str = "",
) -> str:
    """What ``deploy.sh`` applies: its own function, run on a copy of the folder as in the pod."""
    copy = scratch / "k8s"
    shutil.copytree(K8S, copy, dirs_exist_ok=True)
    (copy / Path(context.EXTRAS_FILE).name).write_text(extras)
    environment = {
        "PATH": os.environ["PATH"],
        "STEP": step,
        "TARGET": target,
        "USE_CASE": use_case,
        "NAMESPACE": f"{use_case}-{target}",
        "IMAGE": image,
        "VERSION": "3",
        "REPLICAS": "2",
        "LEAVE_OUT": leave_out,
        "TIMEOUT": "60",
    }
    script = f"source {copy}/deploy.sh; cd {copy}; read_variables; render; cat rendered.yaml"
    found = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


RENDERS = {
    "staging": {"step": "deploy", "target": "staging"},
    "production": {"step": "deploy", "target": "production"},
    "production-canary": {"step": "canary", "target": "production"},
    "production-with-spans": {"step": "deploy", "target": "production", "extras": "entra\notlp\n"},
    "production-on-an-old-cluster": {
        "step": "deploy",
        "target": "production",
        "image": OF_AN_ENGINE,
        "leave_out": "autoscaling disruption-budget ingress",
    },
}


def objects(text: str) -> list[dict]:
    return list(yaml.safe_load_all(text))


def of_kind(text: str, kind: str) -> list[dict]:
    return [found for found in objects(text) if found["kind"] == kind]


@pytest.fixture(params=RENDERS, ids=str)
def rendered(request, tmp_path):
    return render(tmp_path, **RENDERS[request.param])


@pytest.mark.parametrize("name", RENDERS)
def test_render_is_the_checked_in_one(tmp_path, name):
    check_golden(GOLDEN / f"{name}.yaml", render(tmp_path, **RENDERS[name]))


@pytest.mark.parametrize("target", ["staging", "production"])
def test_rights_are_the_checked_in_ones_and_fit_the_schema(target):
    text = rights("attrition", target)
    check_golden(GOLDEN / f"rbac-{target}.yaml", text)
    for found in objects(text):
        kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)


def test_rights_of_two_use_cases_share_nothing_but_airflows_account():
    first, second = (
        {(found["kind"], found["metadata"].get("namespace"), found["metadata"]["name"]) for found in objects(text)}
        for text in (rights("attrition", "staging"), rights("churn", "staging"))
    )
    assert first & second == {
        ("Namespace", None, "lifecycle-airflow"),
        ("ServiceAccount", "lifecycle-airflow", "airflow-staging"),
    }
    assert {place for _, place, _ in second - first if place} == {"churn-staging"}


def test_rights_of_a_namespace_with_another_name_are_all_in_it():
    found = list(yaml.safe_load_all(rights("churn", "production", "hr-models")))
    airflow = {"lifecycle-airflow", None}
    assert {one["metadata"].get("namespace") for one in found} - airflow == {"hr-models"}
    assert {one["metadata"]["name"] for one in found if one["kind"] == "Namespace"} == {
        "hr-models",
        "lifecycle-airflow",
    }
    labels = {one["metadata"]["labels"].get("lifecycle/use-case") for one in found}
    assert labels == {"churn", None}


@pytest.mark.parametrize(
    "given",
    [
        ("attrition", "staging"),
        ("Attrition", "staging", "one"),
        ("a/b", "staging", "one"),
        ("attrition", "test", "one"),
        ("attrition", "staging", "a/b"),
    ],
)
def test_rights_for_a_name_that_is_not_one_are_refused_with_what_is_allowed(given):
    found = subprocess.run(["bash", str(K8S / "rbac.sh"), *given], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (2, "")
    assert "staging|production" in found.stderr


def test_every_object_fits_kubernetes_schema(rendered):
    for found in objects(rendered):
        kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)


def test_schema_check_notices_a_wrong_field(tmp_path):
    deployment = of_kind(render(tmp_path, step="deploy", target="staging"), "Deployment")[0]
    deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailble"] = 0
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, kubernetes_validate.latest_version(), strict=True)


def test_pods_are_hardened_and_take_no_request_before_they_can_answer(rendered):
    for deployment in of_kind(rendered, "Deployment"):
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        pod = deployment["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        # A Service named scoring would set SCORING_PORT, which the server refuses as a setting it lacks.
        assert pod["enableServiceLinks"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }
            assert container["resources"]["requests"]
            assert container["resources"]["limits"]
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert container[probe]["httpGet"]["port"] == "http"


def test_keys_come_from_a_secret_that_no_manifest_holds(rendered):
    assert not of_kind(rendered, "Secret")
    for deployment in of_kind(rendered, "Deployment"):
        volumes = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"]["volumes"]}
        assert volumes["api-keys"]["secret"]["secretName"] == "scoring-api-keys"


def test_settings_of_the_manifests_are_settings_of_the_server(rendered):
    from serving.settings import read_settings

    settings = of_kind(rendered, "ConfigMap")[0]["data"]
    assert read_settings(settings).auth == "keys"


def test_metrics_have_a_port_that_no_ingress_publishes(rendered):
    from lifecycle.hooks.targets import METRICS_PORT
    from serving.settings import read_settings

    settings = read_settings(of_kind(rendered, "ConfigMap")[0]["data"])
    for deployment in of_kind(rendered, "Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
        assert list(ports.values()) == [address.rpartition(":")[2] for address in settings.binds]
        assert ports["metrics"] == settings.metrics_port
    for service in of_kind(rendered, "Service"):
        named = {port["name"]: (port["port"], port["targetPort"]) for port in service["spec"]["ports"]}
        assert named == {"http": (80, "http"), "metrics": (METRICS_PORT, "metrics")}
    for ingress in of_kind(rendered, "Ingress"):
        paths = ingress["spec"]["rules"][0]["http"]["paths"]
        assert {path["backend"]["service"]["port"]["name"] for path in paths} == {"http"}
        assert {path["path"] for path in paths if path["pathType"] == "Prefix"} == {"/docs"}
        assert not {path["path"] for path in paths} & {"/metrics", "/healthz", "/readyz"}


@pytest.mark.parametrize("target", ["staging", "production"])
def test_namespace_denies_what_its_policies_do_not_allow(target, tmp_path):
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(rights("attrition", target), "NetworkPolicy")}
    assert set(policies) == {"default-deny", "scoring-callers", "release-pods", "deploy-pods", "scoring-traces"}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    callers = policies["scoring-callers"]
    for step in ("canary", "deploy"):
        (made,) = of_kind(render(tmp_path / step, step=step, target="production"), "Deployment")
        assert callers["podSelector"]["matchLabels"].items() <= made["spec"]["template"]["metadata"]["labels"].items()
    open_to = {str(rule["from"]): [port["port"] for port in rule["ports"]] for rule in callers["ingress"]}
    (monitoring,) = (ports for name, ports in open_to.items() if "monitoring" in name)
    (controllers,) = (ports for name, ports in open_to.items() if "ingress-nginx" in name)
    assert (monitoring, controllers) == (["metrics"], ["http"])
    outward = {
        name: [port["port"] for rule in one.get("egress", []) for port in rule["ports"]]
        for name, one in policies.items()
    }
    assert outward == {
        "default-deny": [],
        "scoring-callers": [],
        "release-pods": ["http", "metrics", 53, 53],
        "deploy-pods": [443, 6443],
        "scoring-traces": ["otlp", 53, 53],
    }
    (narrowed,) = policies["deploy-pods"]["podSelector"]["matchExpressions"]
    assert narrowed == {"key": "lifecycle/step", "operator": "NotIn", "values": ["verify", "watch"]}


@pytest.mark.parametrize("step", ["deploy", "canary"])
def test_servers_export_spans_to_the_collector_where_their_image_can(step, tmp_path):
    """A server without the packages refuses the variable, and a rollback goes back to images that lack them."""
    endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
    (policy,) = [
        one for one in of_kind(rights("attrition", "production"), "NetworkPolicy")
        if one["metadata"]["name"] == "scoring-traces"
    ]  # fmt: skip
    reach = policy["spec"]["podSelector"]["matchLabels"].items()
    for extras, leave_out, exported in (
        ("otlp\n", "", True),
        ("entra\notlp\n", "ingress", True),
        ("", "", False),
        ("entra\n", "", False),
        ("otlp\n", "traces", False),
    ):
        scratch = tmp_path / f"{extras}{leave_out}".replace("\n", "-")
        text = render(scratch, step=step, target="production", extras=extras, leave_out=leave_out)
        (configured,) = of_kind(text, "ConfigMap")
        assert (endpoint in configured["data"]) is exported
        assert configured["data"]["SCORING_AUTH"] == "keys", "what the base says stays"
        (deployment,) = of_kind(text, "Deployment")
        assert (reach <= deployment["spec"]["template"]["metadata"]["labels"].items()) is exported
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"configMapRef": {"name": configured["metadata"]["name"]}}]


def test_everything_is_pinned_to_one_digest_version_and_namespace(rendered):
    for found in objects(rendered):
        assert found["metadata"]["annotations"]["lifecycle/digest"] == DIGEST
        assert found["metadata"]["labels"]["app.kubernetes.io/version"] == "3"
        assert found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "lifecycle-release"
        assert found["metadata"]["labels"]["app.kubernetes.io/part-of"] == "lifecycle"
        assert found["metadata"]["labels"]["lifecycle/use-case"] == "attrition"
        assert found["metadata"]["namespace"].startswith("attrition-")


def test_two_use_cases_differ_in_nothing_but_names(tmp_path):
    first, second = (
        render(tmp_path / name, step="deploy", target="production", use_case=name) for name in ("attrition", "churn")
    )
    assert "attrition" not in second.replace(IMAGE, "")
    assert second.replace(IMAGE, "").replace("churn", "attrition") == first.replace(IMAGE, "")


@pytest.mark.parametrize(
    ("target", "host"), [("staging", "churn.staging.example.com"), ("production", "churn.example.com")]
)
def test_ingress_of_each_use_case_has_a_host_of_its_own(tmp_path, target, host):
    ingress = of_kind(render(tmp_path, step="deploy", target=target, use_case="churn"), "Ingress")[0]["spec"]
    assert [rule["host"] for rule in ingress["rules"]] == ingress["tls"][0]["hosts"] == [host]


def test_image_is_deployed_by_digest_or_by_its_id(tmp_path):
    for name, expected in (
        ("production", IMAGE),
        ("production-on-an-old-cluster", OF_AN_ENGINE),
    ):
        deployment = of_kind(render(tmp_path / name, **RENDERS[name]), "Deployment")[0]
        assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == expected


def test_canary_shares_the_service_and_nothing_else_with_the_release(tmp_path):
    stable = render(tmp_path / "stable", **RENDERS["production"])
    canary = render(tmp_path / "canary", **RENDERS["production-canary"])
    names = [{(found["kind"], found["metadata"]["name"]) for found in objects(text)} for text in (stable, canary)]
    assert names[0].isdisjoint(names[1])
    service = of_kind(stable, "Service")[0]["spec"]["selector"]
    deployment = of_kind(canary, "Deployment")[0]["spec"]
    assert deployment["replicas"] == 1
    assert service.items() <= deployment["template"]["metadata"]["labels"].items()
    selectors = [of_kind(text, "Deployment")[0]["spec"]["selector"]["matchLabels"] for text in (stable, canary)]
    assert selectors[0]["lifecycle/track"] != selectors[1]["lifecycle/track"]
    own = of_kind(canary, "Service")[0]["spec"]["selector"]
    assert own["lifecycle/track"] == "canary"


def test_left_out_parts_are_gone_and_replicas_are_set_instead(tmp_path):
    text = render(tmp_path, **RENDERS["production-on-an-old-cluster"])
    kinds = {found["kind"] for found in objects(text)}
    assert kinds == {"ServiceAccount", "ConfigMap", "Service", "Deployment"}
    assert of_kind(text, "Deployment")[0]["spec"]["replicas"] == 2


@pytest.mark.parametrize("part", ["autoscaling", "disruption-budget", "ingress"])
def test_leaving_one_part_out_leaves_the_others_in(tmp_path, part):
    kinds = {
        "autoscaling": "HorizontalPodAutoscaler",
        "disruption-budget": "PodDisruptionBudget",
        "ingress": "Ingress",
    }
    found = {one["kind"] for one in objects(render(tmp_path, step="deploy", target="staging", leave_out=part))}
    assert found & set(kinds.values()) == set(kinds.values()) - {kinds[part]}


def test_autoscaler_alone_owns_the_number_of_pods(tmp_path):
    text = render(tmp_path, **RENDERS["production"])
    assert "replicas" not in of_kind(text, "Deployment")[0]["spec"]
    assert of_kind(text, "HorizontalPodAutoscaler")[0]["spec"]["minReplicas"] == 2


@pytest.mark.parametrize("target", ["staging", "production"])
def test_rights_hold_no_wildcard_no_secret_and_no_further_rights(target):
    for role in of_kind(rights("attrition", target), "Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
            assert "secrets" not in rule["resources"]
            assert "rbac.authorization.k8s.io" not in rule["apiGroups"]


def test_deployer_changes_the_kinds_that_the_release_makes_and_no_others(tmp_path):
    roles = {role["metadata"]["name"]: role for role in of_kind(rights("attrition", "production"), "Role")}
    allowed = {
        (group, resource)
        for rule in roles["scoring-deployer"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        if "patch" in rule["verbs"]
    }
    irregular = {"Ingress": "ingresses"}
    made = {
        (
            found["apiVersion"].rpartition("/")[0],
            irregular.get(found["kind"], f"{found['kind'].lower()}s"),
        )
        for found in objects(render(tmp_path, **RENDERS["production"]))
    }
    # No pod, no Secret, no right, and no network policy: an administrator's stay as they are.
    assert made == allowed
