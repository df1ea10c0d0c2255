"""The head of a request, read while it still lies in the socket: the parser is llhttp, by httptools.

Only what nearly every client sends is read here. Whatever has anything unusual about it is left to gunicorn:
nothing has been taken from the socket then.
"""

import fcntl
import functools
import logging
import socket
import struct
import termios
from typing import NamedTuple

import httptools

LARGEST = 1 << 20
"""Bytes of a request that may wait in the kernel until all of it has come."""
_LOOK = 8192  # bytes in which the head of such a request has to end
_LONGEST_HEAD = 1 << 16  # bytes of any head; no kernel's buffer is smaller
_PATHS = {b"GET": {b"/healthz", b"/readyz", b"/version", b"/metrics"}, b"POST": {b"/predict"}}
"""Routes whose answers are short, and made without waiting for anybody."""
_LEFT_TO_GUNICORN = {"TRANSFER_ENCODING", "EXPECT", "UPGRADE", "TRAILER"}
_KEEPS = {"": True, "keep-alive": True, "close": False}
_FIELDS = 100  # gunicorn's limit
_log = logging.getLogger(__name__)


class HeadTooLong(Exception):
    """Raised for a head that nobody waits for."""


class Seen(NamedTuple):
    """A request that has begun to arrive."""

    size: int
    """Bytes that must have come before anything can be done; of a request whose head is whole, all of its bytes: a
    server that reads so many must have read the whole request, however it is parsed."""
    head: int = 0
    """Bytes before its body; 0 while the head is not whole."""
    environ: dict[str, str] = {}
    """Its part of the WSGI environment."""
    keeps: bool = False
    """The client goes on using the connection."""


def look(client: socket.socket, ahead: bytes = b"") -> Seen | None:
    """What has arrived; ``None`` for what is gunicorn's to read, and then the head is whole: no thread waits for one.

    ``ahead``: the request's first bytes, where gunicorn has taken them already, so that the rest is gunicorn's too.
    Raises ``HeadTooLong``, and ``OSError`` where the client has gone.
    """
    if _end_of_head(ahead) >= 0:
        return None
    seen = client.recv(_LOOK, socket.MSG_PEEK)
    if not seen:
        raise ConnectionResetError("the client has closed the connection")
    if (end := _end_of_head(ahead + seen)) >= 0:
        return None if ahead else _read(seen[:end])
    if len(seen) == _LOOK:
        seen = client.recv(_LONGEST_HEAD, socket.MSG_PEEK)
        if _end_of_head(ahead + seen) >= 0:
            return None
    if len(seen) == _LONGEST_HEAD:
        raise HeadTooLong(f"the header has more than the {_LONGEST_HEAD} bytes that are taken")
    return Seen(len(seen) + 1)


def _end_of_head(seen: bytes) -> int:
    """Where gunicorn, too, sees its end; below 0 where it has not come."""
    end = seen.find(b"\r\n\r\n")
    return end + 4 if end >= 0 else end


class _Head:
    """What the parser calls with what it reads."""

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


def _read(text: bytes) -> Seen | None:
    head = _Head()
    parser = httptools.HttpRequestParser(head)
    # The parser is more patient than gunicorn: with lines that go on in the next one, text that is not ASCII, more than
    # one space in the request line, and lines before it.
    if not text.isascii() or b"\r\n " in text or b"\r\n\t" in text:
        return None
    try:
        parser.feed_data(text)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    method = parser.get_method()
    path, _, query = head.target.partition(b"?")
    if not text.startswith(b"%b %b HTTP/1.1\r\n" % (method, head.target)):
        return None
    if path not in _PATHS.get(method, ()) or len(head.fields) > _FIELDS:
        return None
    environ = _environ(head.fields)
    if environ is None or "HTTP_HOST" not in environ:
        return None
    length = environ.get("CONTENT_LENGTH", "" if method == b"POST" else "0")
    keeps = _KEEPS.get(environ.get("HTTP_CONNECTION", "").lower())
    if keeps is None or not length.isdecimal() or (size := len(text) + int(length)) > LARGEST:
        return None
    line = {"REQUEST_METHOD": method.decode(), "PATH_INFO": path.decode(), "QUERY_STRING": query.decode()}
    return Seen(size, len(text), environ | line, keeps)


def _environ(fields: list[tuple[bytes, bytes]]) -> dict[str, str] | None:
    """The fields as WSGI has them; ``None`` where one is there twice, or more than a field."""
    environ: dict[str, str] = {}
    for field, value in fields:
        key = _key(field)
        if key is None or key in environ or not value.isascii():
            return None
        environ[key] = value.decode().strip(" \t")
    return environ


@functools.lru_cache(maxsize=256)  # the same few come with every request
def _key(field: bytes) -> str | None:
    """A field's name as WSGI has it; ``None`` for what is left to gunicorn."""
    name = field.decode().upper().replace("-", "_")
    if name in _LEFT_TO_GUNICORN or b"_" in field:
        return None
    return name if name in ("CONTENT_LENGTH", "CONTENT_TYPE") else f"HTTP_{name}"


def arrived(client: socket.socket) -> int:
    """Bytes that can be read at once."""
    count: int = struct.unpack("i", fcntl.ioctl(client, termios.FIONREAD, bytes(4)))[0]
    return count


def be_readable_at(client: socket.socket, count: int) -> None:
    """Count as readable only when so many bytes have arrived, the client has gone, or the kernel has no room."""
    try:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
    except OSError as error:  # macOS, for one whose client has gone: reading will tell
        _log.debug("the connection takes no option: %s", error)
