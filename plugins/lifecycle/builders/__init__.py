"""Building the serving image: one small interface, three ways to do it.

The type of connection ``registry`` decides: ``azure_container_registry`` (or ``azure``) builds with ACR
Tasks, ``docker`` with a Docker engine, ``fs`` lays out a folder that gunicorn runs from. All three get
the same context folder and find again what they have built from the same inputs.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from airflow.sdk import BaseHook

from lifecycle.builders.context import Inputs
from lifecycle.image_reference import ImageReference

CHECK_FAILED = "FAILED bundle:"
"""What ``serving.verify bundle`` prints, in every kind of build, when the golden answers differ."""
_TAIL_LINES = 30


class BuildError(RuntimeError):
    """Raised when an image could not be built; the message ends with the builder's last log lines."""


class WrongModelError(BuildError):
    """Raised when the built image does not answer as its model was registered: building it again does not help."""


def build_failed(reason: str, output: str) -> BuildError:
    """The error for a build that ended badly; ``output`` is its log, of which the end is kept."""
    tail = "\n".join(output.strip().splitlines()[-_TAIL_LINES:])
    kind = WrongModelError if CHECK_FAILED in output else BuildError
    return kind(f"{reason}\n{tail}")


class Memory(Protocol):
    """What outlives a killed try: Airflow's task state store."""

    def get(self, key: str) -> Any:
        """The value kept under ``key``, or ``None``."""

    def set(self, key: str, value: Any) -> None:
        """Keep a JSON value under ``key``."""


class Builder(Protocol):
    """What a way of building offers. Both calls may be repeated; neither makes a thing twice."""

    def find(self, inputs: Inputs) -> ImageReference | None:
        """The image made from exactly these inputs, if there is one.

        Raises ``BuildError`` where an image of this name was not made from them.
        """

    def build(self, inputs: Inputs, context: Path, memory: Memory) -> ImageReference:
        """Build the folder ``context`` under the tag of ``inputs``; raises ``BuildError``.

        A builder whose work goes on without it keeps in ``memory`` what finds that work again.
        """

    def base(self, inputs: Inputs) -> str:
        """What the image of these inputs is made from, in words for the evidence, once it is there."""

    def cancel(self) -> None:
        """Stop the build that is under way, from a signal handler."""


def _bundle(connection: Any) -> Builder:
    from lifecycle.builders.folder import BundleBuilder

    return BundleBuilder(connection)


def _engine(connection: Any) -> Builder:
    from lifecycle.builders.docker_engine import EngineBuilder

    return EngineBuilder(connection)


def _acr(connection: Any) -> Builder:
    from lifecycle.builders.acr import AcrBuilder

    return AcrBuilder(connection)


_BUILDERS: dict[str, Callable[[Any], Builder]] = {
    "fs": _bundle,
    "docker": _engine,
    "azure_container_registry": _acr,
    "azure": _acr,
}


def choose(conn_id: str) -> Builder:
    """The builder for a connection; an unknown type raises ``BuildError`` that lists the known ones."""
    connection = BaseHook.get_connection(conn_id)
    make = _BUILDERS.get(connection.conn_type or "")
    if make is None:
        raise BuildError(
            f"connection {conn_id!r} has type {connection.conn_type!r}, which builds no image: "
            f"use one of {', '.join(_BUILDERS)}"
        )
    return make(connection)
