"""Which requests are told to be plain predictions, and how they are answered."""

import errno
import os
import select
import socket
from collections.abc import Iterator
from typing import cast

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from hypothesis import event, given, settings
from hypothesis import strategies as st

from serving.prediction_http import LARGEST, answer_head, be_readable_at, prediction, send_now

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client, and the server's end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    with client, accepted:
        yield client, accepted


def _readable(server: socket.socket, seconds: float) -> bool:
    return bool(select.select([server], [], [], seconds)[0])


def test_connection_whose_client_has_gone_may_refuse_options() -> None:
    class Gone:
        """As on macOS."""

        def setsockopt(self, *_: int) -> None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    be_readable_at(cast(socket.socket, Gone()), 1)


def test_prediction_is_whole_with_the_last_byte_of_its_body(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    assert prediction(server) is None  # nothing has come
    client.sendall(HEAD + b"[{}]")
    assert _readable(server, 5)
    seen = prediction(server)
    assert seen is not None
    assert (seen.head, seen.size, seen.whole) == (len(HEAD), len(HEAD) + 5, False)
    client.sendall(b" ")
    be_readable_at(server, len(HEAD) + 5)
    assert _readable(server, 5)
    assert prediction(server) == seen._replace(whole=True)
    assert server.recv(1000) == HEAD + b"[{}] "  # looking took nothing


def test_larger_body_than_is_looked_at_counts_by_what_the_kernel_holds(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    client, server = pair
    head = HEAD.replace(b" 5", b" 50000")
    client.sendall(head + b" " * 50_000)
    be_readable_at(server, len(head) + 50_000)
    assert _readable(server, 5)
    seen = prediction(server)
    assert seen is not None
    assert (seen.size, seen.whole) == (len(head) + 50_000, True)


def test_socket_is_readable_only_with_as_many_bytes_as_asked_for_or_at_the_end(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    client, server = pair
    be_readable_at(server, 100)
    client.sendall(b"x" * 99)
    assert not _readable(server, 0.2)
    client.sendall(b"x")
    assert _readable(server, 5)
    be_readable_at(server, 200)
    assert not _readable(server, 0.2)
    client.shutdown(socket.SHUT_WR)
    assert _readable(server, 5)


def test_headers_are_in_the_environment_as_wsgi_has_them(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    own = b"content-type:application/json\r\nX-API-Key: \t a key \r\nConnection: Close\r\nX-Request-ID:\r\n"
    client.sendall(HEAD.replace(b"Host: x\r\n", b"hOST: x\r\n" + own) + b"12345")
    assert _readable(server, 5)
    seen = prediction(server)
    assert seen is not None
    assert not seen.keeps
    assert seen.environ == {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/predict",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "x",
        "CONTENT_TYPE": "application/json",
        "HTTP_X_API_KEY": "a key",
        "HTTP_CONNECTION": "Close",
        "HTTP_X_REQUEST_ID": "",
        "CONTENT_LENGTH": "5",
    }


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345", id="another path"),
        pytest.param(HEAD.replace(b"predict", b"predict?a=1") + b"12345", id="a query"),
        pytest.param(HEAD.replace(b"1.1", b"1.0") + b"12345", id="HTTP 1.0"),
        pytest.param(b"\r\n\r\n" + HEAD + b"12345", id="empty lines before it"),
        pytest.param(HEAD.replace(b"Host", b"Ghost") + b"12345", id="no host"),
        pytest.param(HEAD.replace(b"Content-Length: 5\r\n", b""), id="no length"),
        pytest.param(HEAD.replace(b"Host", b"content-length: 7\r\nHost") + b"12345", id="two lengths"),
        pytest.param(HEAD.replace(b"Host", b"X-API-Key: a\r\nx-api-key: b\r\nHost") + b"12345", id="two keys"),
        pytest.param(HEAD.replace(b"Host", b"Request-Method: GET\r\nRequest-Method: GET\r\nHost"), id="twice"),
        pytest.param(HEAD.replace(b"5", b"+5") + b"12345", id="no number"),
        pytest.param(HEAD.replace(b"5", b"5, 5") + b"12345", id="a list"),
        pytest.param(HEAD.replace(b"Host", b"Content_Length: 7\r\nHost") + b"12345", id="underscore in a name"),
        pytest.param(HEAD.replace(b"Host", b"Host ") + b"12345", id="space before a colon"),
        pytest.param(HEAD.replace(b"x\r\n", b"x\r\n y\r\n") + b"12345", id="continued line"),
        pytest.param(HEAD.replace(b"x\r\n", b"x\n") + b"12345", id="line feed alone"),
        pytest.param(HEAD.replace(b"x", b"\x00") + b"12345", id="control character"),
        pytest.param(HEAD.replace(b"x", "ü".encode()) + b"12345", id="no ASCII"),
        pytest.param(HEAD.replace(b"Host", b"Transfer-Encoding: chunked\r\nHost") + b"12345", id="chunked"),
        pytest.param(HEAD.replace(b"Host", b"Expect: 100-continue\r\nHost"), id="waits to be asked"),
        pytest.param(HEAD.replace(b"Host", b"Connection: upgrade\r\nHost") + b"12345", id="becomes another protocol"),
        pytest.param(HEAD[:-2], id="half a head"),
        pytest.param(HEAD.replace(b"x", b"x" * 5000) + b"12345", id="long head"),
        pytest.param(HEAD.replace(b"5", b"%d" % LARGEST) + b"12345", id="large"),
    ],
)
def test_request_with_anything_unusual_is_left_alone(
    pair: tuple[socket.socket, socket.socket], request_: bytes
) -> None:
    client, server = pair
    client.sendall(request_)
    assert _readable(server, 5)
    assert prediction(server) is None


_WORDS = b"Host Content-Length Connection X-API-Key Transfer-Encoding Te x 5 05 chunked keep-alive close [{}]".split()
_SIGNS = [b"\r\n", b"\r", b"\n", b": ", b":", b" ", b"\t", b",", b"_", b"-", b"\x00", b"\xff"]
_PIECES = st.sampled_from(_WORDS + _SIGNS)


@st.composite
def _messages(draw: st.DrawFn) -> bytes:
    """A plain prediction with more header lines, of which some bytes are then replaced, or left out."""
    lines = draw(st.lists(st.lists(_PIECES, max_size=4).map(b"".join), max_size=3))
    message = HEAD.replace(b"Host", b"".join(line + b"\r\n" for line in lines) + b"Host") + b"[{}] "
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(message)))
        message = message[:place] + draw(st.just(b"") | _PIECES) + message[place + draw(st.integers(0, 3)) :]
    return message


@given(_messages())
@settings(max_examples=1000, deadline=None)
def test_what_is_taken_as_plain_is_what_gunicorn_reads(message: bytes) -> None:
    """Else a proxy in front, or gunicorn on the same connection, might see another request than we do."""
    client, server = socket.socketpair()
    with client, server:
        client.sendall(message)
        seen = prediction(server)
    event("left alone" if seen is None else "plain")
    if seen is None:
        return
    theirs = next(RequestParser(Config(), iter([message]), ("127.0.0.1", 1)))
    assert (theirs.method, theirs.path, theirs.query) == ("POST", "/predict", "")
    ours = {name.removeprefix("HTTP_"): value for name, value in seen.environ.items()}
    assert {name.replace("-", "_"): value for name, value in theirs.headers}.items() <= ours.items()
    assert len(theirs.headers) == len(seen.environ) - 3
    assert theirs.should_close() is not seen.keeps
    if seen.whole:
        assert theirs.body.read() == message[seen.head : seen.size]


def test_what_a_client_does_not_take_is_given_back(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    head = answer_head("200 OK", [("Content-Length", "20000000")], keeps=False)
    body = bytes(range(250)) * 80_000
    rest = send_now(server, head, body)
    assert 0 < len(rest) < len(body)
    while (left := send_now(server, b"", rest)) != rest:  # until the kernel has no room at all
        rest = left
    received = bytearray()
    while len(received) < len(head) + len(body) - len(rest):
        received += client.recv(1 << 20)
    assert bytes(received) + rest == head + body
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\nContent-Length: 20000000\r\n\r\n" in head
