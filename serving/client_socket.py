"""A client's socket, as a thread needs it that must not wait for a client."""

import contextlib
import fcntl
import re
import socket
import struct
import termios
from typing import Any

LARGEST = 1 << 20
"""Bytes of a request that may wait in the kernel until all of it has come."""
_LOOK = 4096  # bytes in which the head of such a request has to end
_PREDICTION = b"POST /predict HTTP/1."
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,7})[ \t]*\r\n")
_UNTOLD = re.compile(rb"transfer-encoding|expect")
"""The request's end cannot be told from its head, or its client wants to be asked for the body."""


class ClientSocket:
    """A connected TCP socket that tells whether a prediction has arrived whole, and can send without waiting.

    Everything else is the socket's own.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.recv = sock.recv
        self.fileno = sock.fileno
        self._blocking = sock.getblocking()
        self.waits = True
        """Whether ``sendall`` waits for a client that does not read; else it keeps what was not taken."""
        self.unsent = bytearray()
        self.last_served = 0.0
        """A time of ``time.monotonic``."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def setblocking(self, flag: bool) -> None:
        """As a socket's; gunicorn sets it for every request."""
        if flag is not self._blocking:
            self._sock.setblocking(flag)
            self._blocking = flag

    def prediction(self) -> tuple[int, bool] | None:
        """Bytes of the ``POST /predict`` that has begun to arrive, and whether all are there.

        ``None`` for all else, and where it is not sure: a server that reads so many bytes must have read the whole
        request, however it is parsed.
        """
        try:
            seen = self._sock.recv(_LOOK, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return None
        end = seen.find(b"\r\n\r\n")
        if end < 0 or not seen.startswith(_PREDICTION):
            return None
        head = seen[: end + 2].lower()
        length = _LENGTH.search(head)
        if length is None or head.count(b"content-length") > 1 or _UNTOLD.search(head):
            return None
        size = end + 4 + int(length[1])
        if size > LARGEST:
            return None
        return size, size <= len(seen) or size <= self._arrived()

    def _arrived(self) -> int:
        """Bytes that can be read at once."""
        count: int = struct.unpack("i", fcntl.ioctl(self._sock, termios.FIONREAD, bytes(4)))[0]
        return count

    def be_readable_at(self, count: int) -> None:
        """Count as readable only when so many bytes have arrived, the client has gone, or the kernel has no room."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def sendall(self, data: bytes) -> None:
        """Send ``data``, or keep what the client does not take at once where this must not wait."""
        if self.waits:
            self._sock.sendall(data)
            return
        sent = 0
        if not self.unsent:
            with contextlib.suppress(BlockingIOError):
                sent = self._sock.send(data, socket.MSG_DONTWAIT)
        self.unsent += data[sent:]

    def send_rest(self) -> None:
        """Send what was kept, and wait for the client to take it."""
        self._sock.sendall(self.unsent)
        self.unsent.clear()
