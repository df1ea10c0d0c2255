"""Struct types that several threads may read at the same time.

msgspec describes a type to itself when it first reads it. Two threads that do so at once end the whole process
with a segmentation fault (seen with msgspec 0.22.0, at the first look at a page with two use cases).
"""

from typing import TypeVar

import msgspec

_Kind = TypeVar("_Kind", bound=type[msgspec.Struct])

DESCRIBED: set[type[msgspec.Struct]] = set()


def described(kind: _Kind) -> _Kind:
    """Let msgspec describe a type as soon as it is defined, which one thread does: the one that imports it."""
    msgspec.json.Decoder(kind)
    DESCRIBED.add(kind)
    return kind
