"""Ask a container registry of Azure for the image behind a tag: its digest, and what its labels say."""

from typing import Any

import msgspec

from lifecycle.hooks.registry_http import digest_of, open_acr
from serving.scoring.described import described

MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
"""What to accept when a tag's digest is asked for: the index of all systems counts before one system's manifest."""


class RegistryImage(msgspec.Struct, frozen=True):
    """What a registry keeps under a tag."""

    digest: str
    labels: dict[str, str]
    """Of the image's configuration; empty for an index of several images, which has none."""


class _Descriptor(msgspec.Struct):
    digest: str


@described
class _Manifest(msgspec.Struct):
    config: _Descriptor | None = None


class _Labels(msgspec.Struct, rename="pascal"):
    labels: dict[str, str] | None = None


@described
class _Configuration(msgspec.Struct):
    config: _Labels | None = None


def find_image(connection: Any, credential: Any, *, repository: str, tag: str) -> RegistryImage | None:
    """The image at ``repository:tag``, or ``None`` where the registry has no such tag.

    Raises ``requests.HTTPError`` for any answer but 200 and 404.
    """
    with open_acr(connection, lambda: credential, repository) as opened:
        content = opened.manifest(tag, MANIFESTS)
        if content is None:
            return None
        labels: dict[str, str] = {}
        # What is read is what the digest names: neither the tag nor the registry's header can say otherwise.
        if (described_by := msgspec.json.decode(content, type=_Manifest).config) is not None:
            configuration = opened.blob(described_by.digest)
            if configuration is not None:
                found = msgspec.json.decode(configuration, type=_Configuration).config
                labels = (found.labels if found else None) or {}
    return RegistryImage(digest_of(content), labels)
