"""The public addresses of the scoring servers: a pair of loopback ports for each use case, which it keeps.

The use case that is released first has the ports of the settings, each further one the next free pair. ``ports.json``
in the folder of slots remembers which; the scoring host writes it, everybody may read it.
"""

import json
import socket
from pathlib import Path

from embedded.environment import TARGETS, Stack
from training.use_case import Target

_LAST_PORT = 65535

Pair = dict[Target, int]


class AddressError(RuntimeError):
    """Raised when no port is left; the message says what to do."""


class Addresses:
    """The assignments of one stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.file: Path = stack.slots / "ports.json"

    def assigned(self) -> dict[str, Pair]:
        """Use case to its ports, in the order in which they were assigned."""
        try:
            pairs: dict[str, Pair] = json.loads(self.file.read_text())
        except FileNotFoundError:
            return {}
        if first := next(iter(pairs), None):
            pairs[first] = self._first()  # a setting that has changed since wins
        return pairs

    def further(self) -> dict[str, Pair]:
        """The assignments that do not follow from the settings."""
        return dict(list(self.assigned().items())[1:])

    def url(self, use_case: str, target: Target) -> str | None:
        """``None`` for a use case that has never been released."""
        pair = self.assigned().get(use_case)
        return f"http://127.0.0.1:{pair[target]}" if pair else None

    def assign(self, use_case: str) -> Pair:
        """The ports of a use case, new ones where it has none; raises ``AddressError`` when none are free."""
        pairs = self.assigned()
        if use_case not in pairs:
            pairs[use_case] = self._next(pairs) if pairs else self._first()
            self.file.parent.mkdir(parents=True, exist_ok=True)
            part = self.file.with_suffix(".part")
            part.write_text(json.dumps(pairs, indent=1))
            part.replace(self.file)
        return pairs[use_case]

    def _first(self) -> Pair:
        return {target: int(getattr(self._stack.ports, target)) for target in TARGETS}

    def _next(self, pairs: dict[str, Pair]) -> Pair:
        taken = {*vars(self._stack.ports).values(), *(port for pair in pairs.values() for port in pair.values())}
        start = max(self._first().values()) + 1
        for port in range(start, _LAST_PORT):
            pair: Pair = {"production": port, "staging": port + 1}
            if taken.isdisjoint(pair.values()) and all(is_free(number) for number in pair.values()):
                return pair
        raise AddressError(
            f"no two neighbouring ports above {start - 1} are free: lower LIFECYCLE_PRODUCTION_PORT and "
            "LIFECYCLE_STAGING_PORT, then start the stack again"
        )


def is_free(port: int) -> bool:
    """Whether a server could listen on a loopback port."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections linger after a stop is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
