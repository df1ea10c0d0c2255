"""Put log lines together that the container runtime has cut at its limit of 16 KiB.

Our own lines stay below it, so this is for what was configured otherwise. A cut line arrives as several
records of one stream: pieces as long as the limit, then a shorter rest. They may come in different nights.
"""

from collections.abc import Iterable
from itertools import groupby

import msgspec

CUT_BYTES = 16_000
"""A text of at least this many bytes that is not JSON was cut. containerd cuts at 16,384."""


class Piece(msgspec.Struct, frozen=True, order=True):
    """One text that may be part of a cut line. Pieces sort by stream, then by time."""

    stream: str
    generated: str
    night: str
    file_no: int
    byte_offset: int
    message: str

    @property
    def cut(self) -> bool:
        """Whether more of the line must follow."""
        return len(self.message.encode()) >= CUT_BYTES


class Joined(msgspec.Struct, frozen=True):
    """A line that was put together. It belongs to the night in which its last piece came."""

    pieces: tuple[Piece, ...]

    @property
    def message(self) -> str:
        return "".join(piece.message for piece in self.pieces)

    @property
    def last(self) -> Piece:
        """The piece that came last, by night and place."""
        return max(self.pieces, key=lambda piece: (piece.night, piece.file_no, piece.byte_offset))


class Sorting(msgspec.Struct, frozen=True):
    """What became of the pieces."""

    joined: tuple[Joined, ...]
    unfinished: tuple[Piece, ...]
    """Beginnings, and what follows them, whose rest is not there."""
    copies: tuple[Piece, ...]
    """Second deliveries of pieces in the other two lists. What is in no list is a foreign text."""


def join(pieces: Iterable[Piece], service: str) -> Sorting:
    """Join the pieces of our service's lines, whatever their order and however often each was delivered."""
    joined: list[Joined] = []
    unfinished: list[Piece] = []
    copies: list[Piece] = []
    for _, stream in groupby(sorted(pieces), key=lambda piece: piece.stream):
        firsts: dict[tuple[str, str], Piece] = {}
        repeated = []
        # The first delivery is the one of the earliest night.
        for piece in sorted(stream, key=lambda piece: (piece.night, piece.file_no, piece.byte_offset)):
            if firsts.setdefault((piece.generated, piece.message), piece) is not piece:
                repeated.append(piece)
        used: set[tuple[str, str]] = set()
        for chain, complete in _chains(sorted(firsts.values()), service):
            used |= {(piece.generated, piece.message) for piece in chain}
            if complete:
                joined.append(Joined(chain))
            else:
                unfinished += chain
        copies += [piece for piece in repeated if (piece.generated, piece.message) in used]
    return Sorting(tuple(joined), tuple(unfinished), tuple(copies))


def _chains(pieces: list[Piece], service: str) -> list[tuple[tuple[Piece, ...], bool]]:
    """Runs of pieces that begin like a line of ours, each with whether it came to its end."""
    chains: list[tuple[tuple[Piece, ...], bool]] = []
    chain: list[Piece] = []
    for piece in pieces:
        begins = piece.cut and piece.message.startswith("{") and service in piece.message
        if begins and chain:
            chains.append((tuple(chain), False))
            chain = []
        if begins or chain:
            chain.append(piece)
        if chain and not piece.cut:
            chains.append((tuple(chain), True))
            chain = []
    return [*chains, (tuple(chain), False)] if chain else chains
