"""The collector of traces: its settings by its reference, its objects by Kubernetes' schema, and the way to it."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

from infrastructure.checks import configuration
from lifecycle import images

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "monitoring" / "collector"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS = [one for name in KUSTOMIZATION["resources"] for one in yaml.safe_load_all((FOLDER / name).read_text())]
SETTINGS = yaml.safe_load((FOLDER / "settings.yaml").read_text())
SERVER = {"endpoint": str, "max_request_body_size": int, "read_timeout": str, "write_timeout": str, "idle_timeout": str}
REFERENCE: dict[str, Any] = {
    "extensions": {"health_check": SERVER | {"path": str}},
    "receivers": {"otlp": {"protocols": {"http": SERVER | {"traces_url_path": str}, "grpc": {"endpoint": str}}}},
    "processors": {
        "memory_limiter": {
            "check_interval": str, "limit_mib": int, "spike_limit_mib": int, "limit_percentage": int,
            "spike_limit_percentage": int,
        }
    },
    "exporters": {
        "azuremonitor": {
            "connection_string": str, "maxbatchsize": int, "maxbatchinterval": str, "sending_queue": dict,
            "shutdown_timeout": str, "spaneventsenabled": bool, "custom_events_enabled": bool,
        }
    },
    "service": {
        "extensions": list,
        "pipelines": {"traces": {"receivers": list, "processors": list, "exporters": list}},
        "telemetry": dict,
    },
}  # fmt: skip
"""What these parts know, of the components' own config.schema.yaml and pages, as of the collector's 0.159.0."""


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [one for one in OBJECTS if one["kind"] == kind]


def container() -> dict[str, Any]:
    (found,) = of_kind("Deployment")[0]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def misfits(given: dict[str, Any], known: dict[str, Any], place: str = "") -> Iterator[str]:
    """Members that the collector does not know, and values of another kind."""
    for name, value in given.items():
        expected = known.get(name)
        if expected is None:
            yield f"{place}{name} is unknown: there are {', '.join(known)}"
        elif isinstance(expected, dict):
            yield from misfits(value, expected, f"{place}{name}.")
        elif not isinstance(value, expected):
            yield f"{place}{name} is a {type(value).__name__}, not a {expected.__name__}"


def members(given: dict[str, Any], place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in given.items():
        yield (*place, name)
        if isinstance(value, dict):
            yield from members(value, (*place, name))


def test_settings_are_those_that_the_collector_knows():
    assert list(misfits(SETTINGS, REFERENCE)) == []


@pytest.mark.parametrize("where", list(members(SETTINGS)), ids=".".join)
def test_misspelt_setting_is_found(where):
    planted = copy.deepcopy(SETTINGS)
    holder = planted
    for step in where[:-1]:
        holder = holder[step]
    holder[f"{where[-1]}s"] = holder.pop(where[-1])
    assert list(misfits(planted, REFERENCE))


def test_everything_that_is_set_up_is_used_and_what_is_used_is_set_up():
    (pipeline,) = SETTINGS["service"]["pipelines"].values()
    for part in ("receivers", "processors", "exporters"):
        assert pipeline[part] == list(SETTINGS[part])
    assert SETTINGS["service"]["extensions"] == list(SETTINGS["extensions"])


def test_objects_fit_kubernetes_schema_and_the_pod_is_hardened():
    for one in OBJECTS:
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    (namespace,) = of_kind("Namespace")
    assert namespace["metadata"]["name"] == KUSTOMIZATION["namespace"]
    assert namespace["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    pod = of_kind("Deployment")[0]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def test_image_is_one_of_the_list():
    assert container()["image"] in {image.reference for image in images.read()}


def test_settings_lie_where_the_program_looks_and_its_limit_is_below_the_pods():
    (made,) = KUSTOMIZATION["configMapGenerator"]
    (mount,) = container()["volumeMounts"]
    assert container()["args"] == [f"--config={mount['mountPath']}/{made['files'][0]}"]
    limit = SETTINGS["processors"]["memory_limiter"]["limit_mib"]
    variables = {one["name"]: one for one in container()["env"]}
    assert variables["GOMEMLIMIT"]["value"] == f"{limit}MiB"
    assert limit + 50 < int(container()["resources"]["limits"]["memory"].removesuffix("Mi")), "by its own page"
    asked = re.findall(r"\$\{env:(\w+)\}", str(SETTINGS["exporters"]))
    assert set(asked) <= variables.keys()


def test_ports_are_those_that_it_listens_at():
    ports = {one["name"]: str(one["containerPort"]) for one in container()["ports"]}
    http = SETTINGS["receivers"]["otlp"]["protocols"]["http"]
    assert ports == {
        "otlp": http["endpoint"].rpartition(":")[2],
        "health": SETTINGS["extensions"]["health_check"]["endpoint"].rpartition(":")[2],
    }
    for probe in ("readinessProbe", "livenessProbe"):
        assert container()[probe]["httpGet"]["port"] == "health"


def endpoint() -> str:
    """Where the Service is, as other namespaces reach it."""
    (service,) = of_kind("Service")
    (port,) = service["spec"]["ports"]
    assert port["targetPort"] == "otlp"
    return f"http://{service['metadata']['name']}.{KUSTOMIZATION['namespace']}:{port['port']}"


def test_scoring_servers_and_airflow_send_there(monkeypatch):
    component = yaml.safe_load((ROOT / "k8s" / "components" / "traces" / "kustomization.yaml").read_text())
    (generator,) = component["configMapGenerator"]
    (literal,) = generator["literals"]
    variables = {
        one["name"]: one["value"] for one in yaml.safe_load((ROOT / "delivery" / "values.yaml").read_text())["env"]
    }
    name, _, address = literal.partition("=")
    assert address == variables[name] == endpoint()
    monkeypatch.setenv(name, address)
    assert OTLPSpanExporter()._endpoint == f"{endpoint()}/v1/traces", "the receiver's own path"
    assert variables["OTEL_TRACES_EXPORTER"] == "otlp_proto_http", "the one protocol that it takes"


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return bool(selector["matchLabels"].items() <= labels.items())


def test_both_sides_let_spans_through():
    labels = {
        "app.kubernetes.io/name": "collector",
        **KUSTOMIZATION["labels"][0]["pairs"],
    }
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind("NetworkPolicy")}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    ours = policies["collector"]
    assert selects(ours["podSelector"], labels)
    (way_in,) = ours["ingress"]
    assert [one["port"] for one in way_in["ports"]] == ["otlp"]
    theirs = {
        one["metadata"]["name"]: one["spec"]
        for one in yaml.safe_load_all((ROOT / "k8s" / "rbac" / "network.yaml").read_text())
    }["scoring-traces"]
    to_collector = theirs["egress"][0]
    (peer,) = to_collector["to"]
    assert selects(peer["podSelector"], labels)
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": KUSTOMIZATION["namespace"]}
    assert [one["port"] for one in to_collector["ports"]] == ["otlp"]
    namespace = next(yaml.safe_load_all((ROOT / "k8s" / "rbac" / "namespace.yaml").read_text()))
    servers, airflow = way_in["from"]
    assert selects(servers["namespaceSelector"], namespace["metadata"]["labels"])
    assert servers["podSelector"]["matchLabels"].items() <= theirs["podSelector"]["matchLabels"].items()
    named = configuration.text(configuration.read().root.locals()["airflow_namespace"])
    assert airflow == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": named}}}


def test_page_makes_the_secret_that_the_pod_asks_for_from_what_apply_has_kept():
    reference = next(one["valueFrom"]["secretKeyRef"] for one in container()["env"] if "valueFrom" in one)
    page = (ROOT / "docs" / "azure.md").read_text()
    namespace = KUSTOMIZATION["namespace"]
    assert f"-n {namespace} create secret generic {reference['name']} --from-literal={reference['key']}=" in page
    kept = configuration.read().modules[ROOT / "infrastructure" / "modules" / "secrets"].of("resource")["insights"]
    assert configuration.text(kept.body["name"]) == reference["name"]
    assert f"--name {reference['name']} --query value" in page
