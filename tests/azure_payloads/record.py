"""Write ``official.json``: what official clients send and know that are not among this project's packages.

``python -m tests.azure_payloads.record`` where azure-containerregistry, azure-keyvault-keys, and azure-eventgrid 1.3.0
are installed too, the last version with models of what Storage's events say.
"""

import base64
import contextlib
import copy
import functools
import hashlib
import importlib.metadata
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.http_double import Request, serving

OFFICIAL = Path(__file__).with_name("official.json")
REPOSITORY, TAG = "attrition-scoring", "v3"
REFRESH = "e30.eyJleHAiOjQxMDI0NDQ4MDB9.e30"
"""A refresh token as a registry's, without a signature; it ends in 2100."""
VAULT, KEY = "https://lifecycle.vault.azure.net", "/keys/image-signing"
SIGNED = b"what is signed"
VAULT_API = "7.4"
_P256_X = "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY"
_P256_Y = "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"
"""A public key on P-256: the curve's own base point."""


def answer(request: Request) -> tuple[int, Any]:
    """What a registry would; an image is shown to whoever has asked for a token."""
    if request.path == "/oauth2/exchange":
        return 200, {"refresh_token": REFRESH}
    if request.path == "/oauth2/token":
        return 200, {"access_token": "registry token"}
    return 401 if request.authorization != "Bearer registry token" else 200, {}


def vault_answer(request: Request, place: str) -> tuple[int, Any]:
    """What a vault would that is at ``place``; it shows and uses its one key for whoever has asked for a token."""
    if request.authorization != "Bearer vault token":
        return 401, {"error": {"code": "Unauthorized", "message": "a token is missing"}}
    kid = f"{place}{KEY}/0a1b"
    if request.method == "POST":
        return 200, {"kid": kid, "value": base64.urlsafe_b64encode(bytes(range(64))).decode()}
    return 200, {"key": {"kid": kid, "kty": "EC", "crv": "P-256", "x": _P256_X, "y": _P256_Y}}


def vault_challenge(_: int) -> str:
    """What a vault answers to a call without a token."""
    return 'Bearer authorization="https://login.microsoftonline.com/TENANT", resource="https://vault.azure.net"'


def challenge(port: int) -> str:
    """What a registry answers to a call without a token."""
    place = f"127.0.0.1:{port}"
    return f'Bearer realm="http://{place}/oauth2/token",service="{place}",scope="repository:{REPOSITORY}:pull"'


def _registry_requests() -> dict[str, Any]:
    from azure.containerregistry import ContainerRegistryClient
    from azure.containerregistry._helpers import SUPPORTED_MANIFEST_MEDIA_TYPES

    scopes: list[str] = []

    def get_token(*wanted: str, **_: Any) -> Any:
        scopes.extend(wanted)
        return SimpleNamespace(token="arm token", expires_on=4102444800)

    with serving(answer, challenge) as double:
        client = ContainerRegistryClient(double.url, SimpleNamespace(get_token=get_token))
        with client, contextlib.suppress(KeyError):  # the double's manifest has no digest
            client.get_manifest(REPOSITORY, TAG, enforce_https=False)
        seen = [{**request._asdict(), "body": placed(request.body, double.port)} for request in double.seen]
    return {"scopes": scopes, "accept": SUPPORTED_MANIFEST_MEDIA_TYPES.split(", "), "requests": seen}


def _vault_requests() -> dict[str, Any]:
    """What the key is asked for, and then a signature. The client refuses anything but https, so its calls are led."""
    from azure.core.pipeline.transport import RequestsTransport
    from azure.keyvault.keys import KeyClient
    from azure.keyvault.keys.crypto import CryptographyClient, SignatureAlgorithm

    scopes: list[str] = []

    def get_token(*wanted: str, **_: Any) -> Any:
        scopes.extend(wanted)
        return SimpleNamespace(token="vault token", expires_on=4102444800)

    class Led(RequestsTransport):
        def send(self, request: Any, **options: Any) -> Any:
            led = copy.copy(request)  # the client looks at its own again, at the challenge
            led.url = request.url.replace(VAULT, double.url)
            return super().send(led, **options)

    with serving(functools.partial(vault_answer, place=VAULT), vault_challenge) as double:
        options: Any = {"credential": SimpleNamespace(get_token=get_token), "api_version": VAULT_API}
        with KeyClient(VAULT, transport=Led(), **options) as keys:
            key = keys.get_key(KEY.rpartition("/")[2])
        with CryptographyClient(key, transport=Led(), **options) as signer:
            signer.sign(SignatureAlgorithm.es256, hashlib.sha256(SIGNED).digest())
        return {"scopes": scopes, "requests": [request._asdict() for request in double.seen if request.authorization]}


def placed(body: dict[str, str] | None, port: int) -> dict[str, str] | None:
    """A form without the double's port, which is another one every time."""
    return body and {name: value.replace(f":{port}", ":PORT") for name, value in body.items()}


def _event_members() -> dict[str, Any]:
    from azure.eventgrid import models

    kinds = (models.EventGridEvent, models.StorageBlobCreatedEventData)
    return {kind.__name__: sorted(entry["key"] for entry in kind._attribute_map.values()) for kind in kinds}


def main() -> None:
    """Write the file."""
    parts = {
        "azure-containerregistry": _registry_requests,
        "azure-eventgrid": _event_members,
        "azure-keyvault-keys": _vault_requests,
    }
    recorded = {name: {"version": importlib.metadata.version(name), **part()} for name, part in parts.items()}
    OFFICIAL.write_text(json.dumps(recorded, indent=1) + "\n")
    sys.stdout.write(f"{OFFICIAL}\n")


if __name__ == "__main__":
    main()
