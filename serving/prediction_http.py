"""``POST /predict`` over plain HTTP/1.1, as nearly every client sends it: read from what a socket holds, and answered.

Whatever else arrives, and every request with anything unusual about it, is left to gunicorn: nothing has been taken
from the socket then.
"""

import fcntl
import logging
import re
import socket
import struct
import termios
from collections.abc import Iterable
from typing import NamedTuple

from gunicorn import SERVER
from gunicorn.util import http_date

LARGEST = 1 << 20
"""Bytes of a request that may wait in the kernel until all of it has come."""
_LOOK = 4096  # bytes in which the head of such a request has to end
_LINE = b"POST /predict HTTP/1.1\r\n"
_HEAD = re.compile(re.escape(_LINE) + rb"(?:[A-Za-z0-9-]+:[\t\x20-\x7e]*\r\n)+\r\n")
_LENGTH = re.compile(r"[0-9]{1,7}")
_LEFT_TO_GUNICORN = {"TRANSFER_ENCODING", "EXPECT", "UPGRADE", "TRAILER"}
_KEEPS = {"": True, "keep-alive": True, "close": False}
_log = logging.getLogger(__name__)


class Prediction(NamedTuple):
    """A request that has begun to arrive."""

    environ: dict[str, str]
    """Its part of the WSGI environment."""
    head: int
    """Bytes before its body."""
    size: int
    """Bytes of it all: a server that reads so many must have read the whole request, however it is parsed."""
    whole: bool
    """All of them have arrived."""
    keeps: bool
    """The client goes on using the connection."""


def prediction(client: socket.socket) -> Prediction | None:
    """The prediction whose head has arrived; ``None`` for all else."""
    try:
        seen = client.recv(_LOOK, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return None
    head = _HEAD.match(seen)
    if head is None:
        return None
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/predict", "SERVER_PROTOCOL": "HTTP/1.1"}
    for line in seen[len(_LINE) : head.end() - 4].decode("ascii").split("\r\n"):
        header, _, value = line.partition(":")
        name = header.upper().replace("-", "_")
        key = name if name in ("CONTENT_LENGTH", "CONTENT_TYPE") else f"HTTP_{name}"
        if key in environ or name in _LEFT_TO_GUNICORN:
            return None
        environ[key] = value.strip(" \t")
    length = environ.get("CONTENT_LENGTH", "")
    keeps = _KEEPS.get(environ.get("HTTP_CONNECTION", "").lower())
    if keeps is None or "HTTP_HOST" not in environ or not _LENGTH.fullmatch(length):
        return None
    size = head.end() + int(length)
    if size > LARGEST:
        return None
    return Prediction(environ, head.end(), size, size <= len(seen) or size <= _arrived(client), keeps)


def _arrived(client: socket.socket) -> int:
    """Bytes that can be read at once."""
    count: int = struct.unpack("i", fcntl.ioctl(client, termios.FIONREAD, bytes(4)))[0]
    return count


def be_readable_at(client: socket.socket, count: int) -> None:
    """Count as readable only when so many bytes have arrived, the client has gone, or the kernel has no room."""
    try:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
    except OSError as error:  # macOS, for one whose client has gone: reading will tell
        _log.debug("the connection takes no option: %s", error)


def answer_head(status: str, headers: Iterable[tuple[str, str]], keeps: bool) -> bytes:
    """What comes before the body of an answer."""
    lines = [f"HTTP/1.1 {status}", f"Server: {SERVER}", f"Date: {http_date()}"]
    lines.append(f"Connection: {'keep-alive' if keeps else 'close'}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def send_now(client: socket.socket, head: bytes, body: bytes) -> bytes:
    """Send what the client takes without waiting; returns the rest."""
    try:
        sent = client.sendmsg([head, body], [], socket.MSG_DONTWAIT)
    except BlockingIOError:
        sent = 0
    return b"" if sent == len(head) + len(body) else (head + body)[sent:]
