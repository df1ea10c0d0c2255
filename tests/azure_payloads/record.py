"""Write ``official.json``: what two official clients send and know that are not among this project's packages.

``python -m tests.azure_payloads.record`` where azure-containerregistry and azure-eventgrid 1.3.0 are installed too,
the last version with models of what Storage's events say.
"""

import contextlib
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


def answer(request: Request) -> tuple[int, Any]:
    """What a registry would; an image is shown to whoever has asked for a token."""
    if request.path == "/oauth2/exchange":
        return 200, {"refresh_token": REFRESH}
    if request.path == "/oauth2/token":
        return 200, {"access_token": "registry token"}
    return 401 if request.authorization != "Bearer registry token" else 200, {}


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


def placed(body: dict[str, str] | None, port: int) -> dict[str, str] | None:
    """A form without the double's port, which is another one every time."""
    return body and {name: value.replace(f":{port}", ":PORT") for name, value in body.items()}


def _event_members() -> dict[str, Any]:
    from azure.eventgrid import models

    kinds = (models.EventGridEvent, models.StorageBlobCreatedEventData)
    return {kind.__name__: sorted(entry["key"] for entry in kind._attribute_map.values()) for kind in kinds}


def main() -> None:
    """Write the file."""
    parts = {"azure-containerregistry": _registry_requests, "azure-eventgrid": _event_members}
    recorded = {name: {"version": importlib.metadata.version(name), **part()} for name, part in parts.items()}
    OFFICIAL.write_text(json.dumps(recorded, indent=1) + "\n")
    sys.stdout.write(f"{OFFICIAL}\n")


if __name__ == "__main__":
    main()
