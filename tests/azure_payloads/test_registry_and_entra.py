"""What the project writes by hand, beside official clients: a registry's tokens, Entra's keys, sign-in, events.

The clients of registries and of events are not among the project's packages: ``official.json`` has what one of them
sent to the same double, and what the other knows. ``tests/azure_payloads/record.py`` writes it.
"""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.models.connection import Connection

from lifecycle.builders import acr_registry
from lifecycle.events.feeds import _Blob
from lifecycle.hooks import registry
from serving.entra import EntraTokens
from serving.settings import Settings
from tests.azure_payloads.record import OFFICIAL, REPOSITORY, TAG, answer, placed
from tests.support import events
from tests.support.http_double import Request, serving

RECORDED = json.loads(OFFICIAL.read_text())
REGISTRY, EVENTS = RECORDED["azure-containerregistry"], RECORDED["azure-eventgrid"]
PUBLISHED = {
    "issuer": "https://login.microsoftonline.com/TENANT/v2.0",
    "jwks_uri": "https://login.microsoftonline.com/TENANT/discovery/v2.0/keys",
}
"""What a tenant's own document says, which is at ``/v2.0/.well-known/openid-configuration``."""


def asked(scopes: list[str]) -> list[Request]:
    """What a registry is asked for an image."""
    credential = SimpleNamespace(get_token=lambda *wanted: scopes.extend(wanted) or SimpleNamespace(token="arm token"))
    with serving(answer) as double:
        connection = Connection("registry", "azure", host="127.0.0.1", port=double.port, schema="http")
        acr_registry.find_image(connection, credential, repository=REPOSITORY, tag=TAG)
        return [request._replace(body=placed(request.body, double.port)) for request in double.seen]


def differences(ours: list[Request]) -> list[str]:
    """Where the project's requests and the official client's differ.

    That one asks without a token first, and is told the scope; and it names a version with its calls for tokens, which
    the registry's own description of them lacks.
    """
    official = [Request(**request)._replace(query={}) for request in REGISTRY["requests"]][1:]
    assert [request.path for request in official][:2] == ["/oauth2/exchange", "/oauth2/token"]
    return [f"{sent} and not {known}" for known, sent in zip(official, ours, strict=True) if sent != known]


def test_registry_is_asked_as_by_azures_own_client():
    scopes: list[str] = []
    assert differences(asked(scopes)) == []
    assert scopes == REGISTRY["scopes"]
    assert set(acr_registry.MANIFESTS.split(", ")) <= set(REGISTRY["accept"])


def test_misspelt_member_of_a_token_request_is_found():
    ours = asked([])
    count = 0
    for number, request in enumerate(ours):
        for name in request.body or {}:
            body = {f"{key}s" if key == name else key: value for key, value in request.body.items()}
            assert differences([*ours[:number], request._replace(body=body), *ours[number + 1 :]])
            count += 1
    assert count == 7


def test_keys_of_access_tokens_are_asked_for_where_the_tenant_says():
    tokens = EntraTokens(Settings(auth="entra", entra_tenant="TENANT", entra_audience="a"))
    assert tokens._server.uri == PUBLISHED["jwks_uri"]
    assert PUBLISHED["issuer"] in tokens._issuers


SIGN_IN: dict[str, dict[str, Any]] = {
    "pat": {"password": "token"},
    "oauth-m2m": {"login": "id", "password": "secret", "extra": {"service_principal_oauth": True}},
    "azure-client-secret": {"login": "id", "password": "secret", "extra": {"azure_tenant_id": "tenant"}},
    "azure-msi": {"login": "id", "extra": {"use_azure_managed_identity": True}},
}
"""Databricks' word for a way to sign in, and a connection that asks for it."""


def unread(variables: dict[str, str]) -> set[str]:
    """Variables that Databricks' SDK does not read."""
    from databricks.sdk.core import Config  # which takes a second

    return variables.keys() - {attribute.env for attribute in Config.attributes()}


@pytest.mark.parametrize("kind", SIGN_IN)
def test_databricks_sdk_reads_every_variable_that_it_is_given(kind):
    connection = Connection("mlflow", "databricks", host="adb-1.2.azuredatabricks.net", **SIGN_IN[kind])
    variables = registry._databricks_environment(connection)
    assert unread(variables) == set()
    for name in variables:
        assert unread({f"{name}S": "value"})


def misfits(event: dict[str, Any]) -> set[str]:
    """Members that only one of the two has: an event of the tests, or Event Grid's own models."""
    known = {*EVENTS["EventGridEvent"], *(f"data.{name}" for name in EVENTS["StorageBlobCreatedEventData"])}
    return known ^ {*event, *(f"data.{name}" for name in event["data"])}


def test_events_say_what_event_grids_own_models_know():
    assert misfits(events.blob_created("a.csv")) == set()
    assert set(_Blob.__struct_fields__) | {"api"} <= set(EVENTS["StorageBlobCreatedEventData"]), "what is read of one"


def test_misspelt_member_of_what_an_event_says_is_found():
    event = events.blob_created("a.csv")
    for name in event["data"]:
        data = {f"{key}s" if key == name else key: value for key, value in event["data"].items()}
        assert misfits({**event, "data": data}) == {f"data.{name}", f"data.{name}s"}
