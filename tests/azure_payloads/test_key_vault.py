"""A Key Vault is asked as by Azure's own client: ``official.json`` has what that sent to the same double."""

import json
from types import SimpleNamespace

import pytest

from tests.azure_payloads.record import KEY, OFFICIAL, SIGNED, VAULT, VAULT_API, vault_answer
from tests.support.http_double import Request, serving
from training.signing import keys
from training.signing.keys import VaultKey

RECORDED = json.loads(OFFICIAL.read_text())["azure-keyvault-keys"]


def asked() -> list[Request]:
    """What the vault is asked until something is signed."""
    with serving(lambda request: vault_answer(request, double.url)) as double:
        VaultKey(f"{double.url}{KEY}", lambda: "vault token").sign(SIGNED)
        return list(double.seen)


def differences(ours: list[Request]) -> list[str]:
    """Where the project's requests and the official client's differ; that one puts / in the place of a version."""
    official = [Request(**request) for request in RECORDED["requests"]]
    official = [request._replace(path=request.path.removesuffix("/")) for request in official]
    return [f"{sent} and not {known}" for known, sent in zip(official, ours, strict=True) if sent != known]


def test_vault_is_asked_as_by_azures_own_client():
    ours = asked()
    assert differences(ours) == []
    assert [(request.method, request.path) for request in ours] == [("GET", KEY), ("POST", f"{KEY}/0a1b/sign")]
    assert {request.query["api-version"] for request in ours} == {VAULT_API}


@pytest.mark.parametrize("part", ["method", "path", "query", "body", "authorization"])
def test_request_that_is_misspelt_is_found(part):
    ours = asked()
    count = 0
    for number, request in enumerate(ours):
        found = getattr(request, part)
        if isinstance(found, dict):
            planted = [{f"{key}s" if key == name else key: value for key, value in found.items()} for name in found]
        else:
            planted = [f"{found}s"] if found else []
        for value in planted:
            assert differences([*ours[:number], request._replace(**{part: value}), *ours[number + 1 :]])
            count += 1
    assert count


def test_token_is_asked_for_with_the_scope_of_azures_own_client(monkeypatch):
    scopes: list[str] = []

    def provider() -> SimpleNamespace:
        return SimpleNamespace(get_token=lambda scope: scopes.append(scope) or SimpleNamespace(token="t"))

    monkeypatch.setattr("azure.identity.DefaultAzureCredential", provider)
    keys._azure_token(f"{VAULT}{KEY}", "")
    assert scopes == RECORDED["scopes"][:1]
    assert set(RECORDED["scopes"]) == set(scopes)
