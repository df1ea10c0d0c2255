"""Build with a Docker engine, and push where the connection names a registry.

Connection type ``docker``: ``host`` (and port) is the registry, empty for none; ``login`` and
``password`` are the registry's; the extra ``engine`` is the engine's address, by default that of the
environment (``DOCKER_HOST`` or the local socket), and the extra ``api`` is where workers ask the registry
itself, where they do not reach it by the name that the engine pushes to.

Without a registry the image stays on the engine. It then has no repository digest, and is deployed by its image id.
"""

import logging
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound

from lifecycle.builders import BuildError, Memory, build_failed
from lifecycle.builders.context import DOCKERFILE, KEY_LABEL, Inputs, build_arguments
from lifecycle.hooks.image_registry import server
from lifecycle.image_reference import ImageReference

log = logging.getLogger(__name__)

_ENGINE_TIMEOUT = 60


def engine_of(connection: Any) -> docker.DockerClient:
    """The engine that a connection names, and that answers; raises ``BuildError``."""
    engine = connection.extra_dejson.get("engine")
    try:
        client = (
            docker.DockerClient(base_url=engine, timeout=_ENGINE_TIMEOUT)
            if engine
            else docker.from_env(timeout=_ENGINE_TIMEOUT)
        )
        client.ping()
    except DockerException as error:
        raise BuildError(f"connection {connection.conn_id!r}: the Docker engine does not answer: {error}") from error
    return client


class EngineBuilder:
    """Builds through docker-py; finds an image again by the label that holds its inputs' key."""

    def __init__(self, connection: Any) -> None:
        self._registry = server(connection)
        self._login = {"username": connection.login, "password": connection.password} if connection.login else None
        self._client = engine_of(connection)

    def find(self, inputs: Inputs) -> ImageReference | None:
        for image in self._client.images.list(filters={"label": f"{KEY_LABEL}={inputs.key}"}):
            if not self._registry:
                return self._local(inputs, image)
            if (built := self._pushed(inputs, image)) is not None:
                return built
        return None

    def build(self, inputs: Inputs, context: Path, memory: Memory) -> ImageReference:
        name = f"{self._repository(inputs)}:{inputs.tag}"
        image = self._client.images.get(self._run_build(name, inputs, context))
        if not self._registry:
            return self._local(inputs, image)
        self._push(inputs)
        image.reload()
        built = self._pushed(inputs, image)
        if built is None:
            raise BuildError(f"the registry took {name}, but the engine reports no digest of it")
        return built

    def base(self, inputs: Inputs) -> str:
        """The base image by name and by the engine's id, told from the layers that the built image begins with."""
        try:
            base = self._client.images.get(inputs.base_image)
        except NotFound:
            return f"{inputs.base_image}, of an id that this engine no longer knows"
        layers = base.attrs["RootFS"]["Layers"]
        for image in self._client.images.list(filters={"label": f"{KEY_LABEL}={inputs.key}"}):
            if image.attrs["RootFS"]["Layers"][: len(layers)] == layers:
                return f"{inputs.base_image}, image id {base.id}"
        return f"{inputs.base_image} of an earlier day: the engine has another one under this name by now"

    def cancel(self) -> None:
        """Closing the connection ends the build: the engine stops with its client."""
        self._client.close()

    def _repository(self, inputs: Inputs) -> str:
        return f"{self._registry}/{inputs.repository}" if self._registry else inputs.repository

    def _run_build(self, name: str, inputs: Inputs, context: Path) -> str:
        """Build, and return the id of the image: its tag may name another one by now."""
        lines: list[str] = []
        image_id = ""
        try:
            answers = self._client.api.build(
                path=str(context),
                dockerfile=DOCKERFILE,
                tag=name,
                rm=True,
                forcerm=True,
                decode=True,
                buildargs=build_arguments(inputs, context),
            )
            for answer in answers:
                if line := answer.get("stream", "").rstrip():
                    log.info("%s", line)
                    lines.append(line)
                if error := answer.get("error"):
                    raise build_failed(f"the image could not be built: {error.strip()}", "\n".join(lines))
                image_id = answer.get("aux", {}).get("ID", image_id)
        except APIError as error:
            raise BuildError(f"the Docker engine refused the build: {error.explanation or error}") from error
        if not image_id:
            raise build_failed(f"the Docker engine built {name} and did not say which image it is", "\n".join(lines))
        return image_id

    def _push(self, inputs: Inputs) -> None:
        answers = self._client.images.push(
            self._repository(inputs), tag=inputs.tag, auth_config=self._login, stream=True, decode=True
        )
        for answer in answers:
            if error := answer.get("error"):
                raise BuildError(f"the image could not be pushed to {self._registry}: {error}")

    def _local(self, inputs: Inputs, image: Any) -> ImageReference:
        """Tag an image by its own id: a later build takes ``inputs.tag`` away, and what has no tag gets pruned."""
        image.tag(inputs.repository, tag=f"{inputs.tag}-{image.id.removeprefix('sha256:')[:12]}")
        return ImageReference("", image.id)

    def _pushed(self, inputs: Inputs, image: Any) -> ImageReference | None:
        """The image by its digest in the registry; ``None`` where the registry does not hold it."""
        repository = self._repository(inputs)
        for reference in image.attrs.get("RepoDigests") or ():
            if not reference.startswith(f"{repository}@"):
                continue
            try:
                self._client.images.get_registry_data(reference, auth_config=self._login)
            except NotFound:
                continue
            return ImageReference.parse(reference)
        return None
