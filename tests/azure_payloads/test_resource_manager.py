"""What the project sends to ACR Tasks, Container Instances, alerts and workbooks is what the official models hold.

Each body is read into the SDK's model and written again. Reading alone proves nothing, for a model drops or keeps what
it does not know; so what comes back has to be equal, and models that keep everything are asked for the names that they
have. Of Event Grid's events the envelope is compared here: the SDK's newer versions have no model of what
``BlobCreated`` says inside (``test_registry_and_entra.py`` has that of an older one).
"""

import copy
import json
import re
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.models.connection import Connection
from airflow.providers.microsoft.azure.hooks.container_instance import AzureContainerInstanceHook
from airflow.sdk import BaseHook
from azure.core.messaging import CloudEvent
from azure.mgmt.applicationinsights.models import Workbook
from azure.mgmt.containerinstance.models import ContainerGroup
from azure.mgmt.containerregistrytasks.models import DockerBuildRequest
from azure.mgmt.monitor.models import ScheduledQueryRuleResource

from lifecycle import settings
from lifecycle.builders.acr import AcrBuilder
from lifecycle.builders.context import Inputs
from lifecycle.events.feeds import Event
from lifecycle.operators import group_step
from lifecycle.operators.release_step import ScoringStepOperator
from monitoring.render import template
from tests.support import container_instances, events
from tests.support.airflow import USE_CASE, make_settings
from tests.support.azure_double import AzureDouble
from tests.support.certificate import write_certificate
from tests.support.image_names import image
from training import use_case as definitions

REPOSITORY = "registry.example/attrition-scoring"
INPUTS = Inputs(
    model_name="employee_attrition", model_version="3", run_id="run", data_digest="d", revision="abc", code_hash="c",
    bundle_hash="b", repository="attrition-scoring", base_image="python:3.11-slim",
)  # fmt: skip
TEMPLATE = {
    "$schema", "contentVersion", "apiProfile", "languageVersion", "definitions", "parameters", "variables", "functions",
    "resources", "outputs",
}  # fmt: skip
PARAMETER = {
    "type", "defaultValue", "allowedValues", "minValue", "maxValue", "minLength", "maxLength", "metadata",
}  # fmt: skip
"""What a deployment template and a parameter of one may have; the SDK takes any JSON for them. From Microsoft's page
"Understand the structure and syntax of ARM templates"."""
OUTER = ("type", "apiVersion", "name")
"""What a resource of a template has beside its body: the path of the request says it."""


def misfits(model: Any, body: dict[str, Any]) -> list[str]:
    """Where an official model and a body differ; empty where the body is what the model holds."""
    if hasattr(model, "deserialize"):  # the older kind drops what it does not know, and so loses it
        again = model.deserialize(copy.deepcopy(body)).serialize()
        return [] if again == body else [f"{model.__name__}: {body} comes back as {again}"]
    return list(_unknown(model(body), body, model.__name__))


def _unknown(instance: Any, body: dict[str, Any], place: str) -> Iterator[str]:
    """Members that the newer kind of model keeps without knowing them."""
    fields = {field._rest_name: name for name, field in type(instance)._attr_to_rest_field.items()}
    yield from (f"{place} has no member {name}" for name in body.keys() - fields.keys())
    for member in body.keys() & fields.keys():
        held, sent = getattr(instance, fields[member]), body[member]
        pairs = zip(held, sent, strict=True) if isinstance(sent, list) else [(held, sent)]
        for inner, value in pairs:
            if hasattr(inner, "_attr_to_rest_field"):
                yield from _unknown(inner, value, f"{place}.{member}")


class Memory(dict[str, Any]):
    """Airflow's task state store has get and set."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


def build_request(abac: bool, monkeypatch: pytest.MonkeyPatch, folder: Any) -> dict[str, Any]:
    """What ``scheduleRun`` of a registry is sent."""
    certificate = write_certificate(folder)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    context = folder / "context"
    context.mkdir()
    (context / "release.json").write_text('{"created": "2026-11-21T09:00:00+00:00"}')
    double = AzureDouble(certificate)
    try:
        extra = {"subscription_id": "sub", "resource_group": "rg", "arm_url": double.url, "abac": abac}
        registry = Connection("registry", "azure_container_registry", host="localhost", port=double.port, extra=extra)
        token = SimpleNamespace(token="arm token", expires_on=time.time() + 3600)
        credential = SimpleNamespace(get_token=lambda *scopes, **_: token)
        AcrBuilder(registry, credential=lambda _: credential, poll_seconds=0.01).build(INPUTS, context, Memory())
    finally:
        double.close()
    (request,) = double.scheduled
    return request


def group_request(subnet: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a container group is made from."""
    place = {"resource_group": "qa", "region": "westeurope", "pull_identity": "/subscriptions/s/uami", "subnet": subnet}
    known = {
        "scoring_qa": Connection("scoring_qa", group_step.CONNECTION_TYPE, extra=place),
        "registry": Connection("registry", "azure", host="registry.example"),
    }
    monkeypatch.setattr(BaseHook, "get_connection", staticmethod(lambda conn_id: known[conn_id]))
    found = make_settings({"other_repositories": [REPOSITORY]}, release=settings.Release(qa="aci", qa_seconds=20))
    monkeypatch.setattr(settings, "load", lambda: found)
    monkeypatch.setattr(group_step, "_POLL_SECONDS", 0.01)
    seen: dict[str, Any] = {}
    with container_instances.running() as double:
        report = {"passed": True, "checks": [], "requests": 1, "errors": 0}
        double.output["verifier"] = f"{group_step.MARK}\n{json.dumps(report)}"
        double.before = lambda method, name: seen.update(copy.deepcopy(double.groups))
        monkeypatch.setattr(AzureContainerInstanceHook, "get_conn", lambda _: container_instances.client(double.port))
        instance = SimpleNamespace(
            dag_id="attrition_release",
            run_id="r1",
            task_id="try_image",
            map_index=-1,
            xcom_push=lambda key, value: None,
        )
        ScoringStepOperator(
            task_id="try_image",
            use_case=USE_CASE,
            target="staging",
            step="try",
            image=image("ab", REPOSITORY),
            version="7",
        ).execute({"ti": instance})
    (group,) = seen.values()
    del group["properties"]["provisioningState"]  # the double's answer
    return {name: value for name, value in group.items() if name not in ("id", "name")}


def monitoring(kind: str) -> list[dict[str, Any]]:
    """The rendered resources of a kind, of every use case with a server."""
    found = [
        {name: value for name, value in resource.items() if name not in OUTER}
        for name in definitions.names()
        if definitions.load(name).online
        for resource in template(definitions.load(name))["resources"]
        if resource["type"] == kind
    ]
    assert found
    return found


@pytest.mark.parametrize("abac", [False, True])
def test_build_is_asked_for_with_what_acr_tasks_knows(monkeypatch, tmp_path, abac):
    request = build_request(abac, monkeypatch, tmp_path)
    assert ("credentials" in request) is abac
    assert misfits(DockerBuildRequest, request) == []


@pytest.mark.parametrize("subnet", ["", "/subscriptions/s/subnets/qa"])
def test_group_is_asked_for_with_what_container_instances_know(monkeypatch, subnet):
    assert misfits(ContainerGroup, group_request(subnet, monkeypatch)) == []


def test_alerts_and_workbooks_are_what_azure_monitor_knows():
    for body in monitoring("Microsoft.Insights/scheduledQueryRules"):
        assert misfits(ScheduledQueryRuleResource, body) == []
    for body in monitoring("Microsoft.Insights/workbooks"):
        assert misfits(Workbook, body) == []


def strange(document: dict[str, Any]) -> set[str]:
    """Members of a deployment template that there are not, or that have to be there and are missing."""
    needed = {"$schema", "contentVersion", "resources"} - document.keys()
    needed |= {name for resource in document["resources"] for name in OUTER if name not in resource}
    parameters = {name for parameter in document["parameters"].values() for name in parameter}
    return needed | document.keys() - TEMPLATE | parameters - PARAMETER


def test_deployment_is_a_template_as_resource_manager_has_them():
    document = template(definitions.load(USE_CASE))
    assert strange(document) == set()
    used = set(re.findall(r"parameters\('(\w+)'\)", json.dumps(document)))
    assert used == document["parameters"].keys()


@pytest.mark.parametrize(
    "where",
    [("contentVersion",), ("parameters", "location", "defaultValue"), ("resources", 0, "apiVersion"), ("$schema",)],
)
def test_misspelt_member_of_a_deployment_is_found(where):
    assert strange(_misspelt(template(definitions.load(USE_CASE)), where))


def _misspelt(body: dict[str, Any], where: tuple[str | int, ...]) -> dict[str, Any]:
    """A copy with one member spelled otherwise."""
    copied = copy.deepcopy(body)
    holder: Any = copied
    for step in where[:-1]:
        holder = holder[step]
    holder[f"{where[-1]}s"] = holder.pop(where[-1])
    return copied


def test_misspelt_member_of_a_build_is_found(monkeypatch, tmp_path):
    body = build_request(True, monkeypatch, tmp_path)
    for where in (
        ("imageNames",),
        ("dockerFilePath",),
        ("platform", "architecture"),
        ("arguments", 1, "isSecret"),
        ("credentials", "sourceRegistry"),
        ("credentials", "sourceRegistry", "identity"),
    ):
        assert misfits(DockerBuildRequest, _misspelt(body, where)), where


def test_misspelt_member_of_a_group_is_found(monkeypatch):
    body = group_request("/subscriptions/s/subnets/qa", monkeypatch)
    for where in (
        ("identity", "userAssignedIdentities"),
        ("properties", "restartPolicy"),
        ("properties", "subnetIds", 0, "id"),
        ("properties", "imageRegistryCredentials", 0, "identity"),
        ("properties", "containers", 1, "properties", "environmentVariables", 0, "secureValue"),
        ("properties", "containers", 0, "properties", "resources", "requests", "memoryInGB"),
        ("properties", "containers", 0, "properties", "volumeMounts", 0, "mountPath"),
    ):
        assert misfits(ContainerGroup, _misspelt(body, where)), where


@pytest.mark.parametrize(
    "where",
    [
        ("location",),
        ("properties", "evaluationFrequency"),
        ("properties", "criteria", "allOf"),
        ("properties", "criteria", "allOf", 0, "timeAggregation"),
        ("properties", "criteria", "allOf", 0, "failingPeriods", "numberOfEvaluationPeriods"),
        ("properties", "actions", "actionGroups"),
    ],
)
def test_misspelt_member_of_an_alert_is_found(where):
    body = monitoring("Microsoft.Insights/scheduledQueryRules")[0]
    assert misfits(ScheduledQueryRuleResource, _misspelt(body, where))


@pytest.mark.parametrize("where", [("kind",), ("properties", "serializedData"), ("properties", "sourceId")])
def test_misspelt_member_of_a_workbook_is_found(where):
    assert misfits(Workbook, _misspelt(monitoring("Microsoft.Insights/workbooks")[0], where))


def told_officially(event: dict[str, Any]) -> dict[str, Any]:
    """An event's envelope by the official model; what that does not know ends up among its extensions."""
    told = CloudEvent.from_dict(event)
    assert not told.extensions, told.extensions
    named = {"specversion": told.specversion, "source": told.source, "type": told.type, "subject": told.subject}
    return {**named, "id": told.id, "data": told.data}


def test_events_that_the_tests_make_are_cloud_events_as_the_official_model_has_them():
    event = events.cloud_event("a.csv")
    assert told_officially(event) == {name: value for name, value in event.items() if name != "time"}
    assert set(Event.__struct_fields__) <= event.keys()


def test_misspelt_member_of_an_event_is_found():
    for name in ("subject", "type", "id", "source"):
        with pytest.raises((AssertionError, ValueError)):
            told_officially(_misspelt(events.cloud_event("a.csv"), (name,)))
