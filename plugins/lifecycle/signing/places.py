"""Where an image's signatures lie: beside the image, whatever kind of image it is.

In a registry under the tag ``sha256-....sig`` of the image's repository, as cosign puts them. Beside a folder as the
file ``....sig``. On an engine without a registry as an image of no content, whose labels are the signatures.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec
from airflow.sdk import BaseHook

from lifecycle.hooks import image_registry, registry_http
from lifecycle.hooks.registry_http import PULL, PULL_AND_PUSH, Repository
from lifecycle.image_reference import ImageReference
from lifecycle.signing.image import PAYLOAD_TYPE, SIGNATURE_ANNOTATION, Entry, tag
from serving.scoring.described import described
from training.signing.keys import SignatureError

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIGURATION = "application/vnd.oci.image.config.v1+json"
ENGINE_REPOSITORY = "lifecycle-signatures"
"""What the images on an engine are called whose labels are signatures."""
_ENGINE_LABEL = "lifecycle.signature."
_OF_AZURE = ("azure", "azure_container_registry")


class Place(Protocol):
    """Where the signatures of one image lie."""

    def read(self) -> list[Entry]:
        """All of them; none where nobody has signed it."""

    def write(self, entries: list[Entry]) -> None:
        """Keep these in place of what is there."""


def of(image: ImageReference) -> Place:
    """Where the signatures of an image lie; raises ``SignatureError`` for what is not an image."""
    if image.kind == "folder":
        return _BesideFolder(Path(image.place))
    if image.kind == "registry":
        return _UnderTag(image)
    if image.kind == "engine":
        return OnEngine(image)
    raise SignatureError(f"{image} is a model and code, not an image: its bundle is what is signed")


class _Layer(msgspec.Struct):
    digest: str
    media_type: str = msgspec.field(name="mediaType", default="")
    annotations: dict[str, str] = {}


@described
class _Manifest(msgspec.Struct):
    layers: list[_Layer] = []


class _UnderTag:
    def __init__(self, image: ImageReference) -> None:
        self._image = image

    def read(self) -> list[Entry]:
        with _repository(self._image, PULL) as repository:
            content = repository.manifest(tag(self._image.digest), _MANIFEST)
            if content is None:
                return []
            found = []
            for layer in msgspec.json.decode(content, type=_Manifest).layers:
                payload = repository.blob(layer.digest) if layer.media_type == PAYLOAD_TYPE else None
                if payload is not None:
                    found.append(Entry.read(payload, layer.annotations.get(SIGNATURE_ANNOTATION, "")))
            return [entry for entry in found if entry is not None]

    def write(self, entries: list[Entry]) -> None:
        with _repository(self._image, PULL_AND_PUSH) as repository:
            layers = [
                {
                    "mediaType": PAYLOAD_TYPE,
                    "digest": repository.put_blob(entry.payload),
                    "size": len(entry.payload),
                    "annotations": {SIGNATURE_ANNOTATION: entry.text},
                }
                for entry in entries
            ]
            roots = {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}
            configuration = msgspec.json.encode({"architecture": "", "os": "", "config": {}, "rootfs": roots})
            described_by = {
                "mediaType": _CONFIGURATION,
                "digest": repository.put_blob(configuration),
                "size": len(configuration),
            }
            document = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": described_by, "layers": layers}
            repository.put_manifest(tag(self._image.digest), msgspec.json.encode(document), _MANIFEST)


def _repository(image: ImageReference, actions: str) -> Repository:
    """The image's repository, asked with the credentials of connection ``registry`` where it is that registry's.

    Any other, such as a former one of ``other_repositories``, is asked without: it is to learn no secret of ours.
    """
    connection = BaseHook.get_connection(image_registry.CONNECTION_ID)
    host, _, name = image.place.partition("/")
    if host != image_registry.server(connection):
        return Repository(f"https://{host}", name, actions=actions)
    if connection.conn_type in _OF_AZURE:
        from lifecycle.builders.acr import azure_credential  # imported here: Azure's clients take a second

        return registry_http.open_acr(connection, lambda: azure_credential(connection), name, actions)
    login = (connection.login, connection.password or "") if connection.login else None
    return Repository(image_registry.api(connection), name, actions=actions, login=login)


@described
class _File(msgspec.Struct, frozen=True):
    signatures: list[Entry]


class _BesideFolder:
    def __init__(self, folder: Path) -> None:
        self._file = folder.with_name(f"{folder.name}.sig")

    def read(self) -> list[Entry]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_File).signatures
        except FileNotFoundError:
            return []
        except msgspec.MsgspecError as error:
            raise SignatureError(f"{self._file} cannot be read as signatures: {error}") from error

    def write(self, entries: list[Entry]) -> None:
        part = self._file.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(_File(entries)))
        part.replace(self._file)


def _engine() -> Any:
    from lifecycle.builders.docker_engine import engine_of  # imported here: docker-py takes a moment

    return engine_of(BaseHook.get_connection(image_registry.CONNECTION_ID))


class OnEngine:
    """On the engine of connection ``registry``, or the one that ``engine`` returns."""

    def __init__(self, image: ImageReference, engine: Callable[[], Any] = _engine) -> None:
        self.name = f"{ENGINE_REPOSITORY}:{tag(image.digest)}"
        self._engine = engine

    def read(self) -> list[Entry]:
        from docker.errors import ImageNotFound

        try:
            labels = self._engine().images.get(self.name).labels
        except ImageNotFound:
            return []
        held = [value for name, value in labels.items() if name.startswith(_ENGINE_LABEL)]
        try:
            return [msgspec.json.decode(bytes.fromhex(value), type=Entry) for value in held]
        except (msgspec.MsgspecError, ValueError) as error:
            raise SignatureError(f"the labels of {self.name} cannot be read as signatures: {error}") from error

    def write(self, entries: list[Entry]) -> None:
        # In hexadecimal digits, which no quoting of a Dockerfile touches.
        labels = [
            f'LABEL {_ENGINE_LABEL}{number}="{msgspec.json.encode(entry).hex()}"'
            for number, entry in enumerate(entries)
        ]
        dockerfile = "\n".join(["FROM scratch", *labels, ""])
        self._engine().images.build(fileobj=io.BytesIO(dockerfile.encode()), tag=self.name, rm=True, forcerm=True)
