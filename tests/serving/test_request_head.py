"""Which requests are served in the main thread, and that gunicorn would read them as we do."""

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

from serving.request_head import LARGEST, HeadTooLong, Seen, arrived, be_readable_at, look

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client, and the server's end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    with client, accepted:
        yield client, accepted


def _plain(server: socket.socket) -> Seen:
    """What is to be served in the main thread."""
    seen = look(server)
    assert seen
    assert seen.head
    return seen


def _readable(server: socket.socket, seconds: float) -> bool:
    return bool(select.select([server], [], [], seconds)[0])


def test_connection_whose_client_has_gone_may_refuse_options() -> None:
    class Gone:
        """As on macOS."""

        def setsockopt(self, *_: int) -> None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    be_readable_at(cast(socket.socket, Gone()), 1)


def test_request_is_whole_with_the_last_byte_of_its_body(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    client.sendall(HEAD + b"[{}]")
    assert _readable(server, 5)
    seen = _plain(server)
    assert (seen.head, seen.size, arrived(server)) == (len(HEAD), len(HEAD) + 5, len(HEAD) + 4)
    client.sendall(b" ")
    be_readable_at(server, seen.size)
    assert _readable(server, 5)
    assert _plain(server) == seen
    assert server.recv(1000) == HEAD + b"[{}] "  # looking took nothing


def test_head_that_is_not_whole_waits_for_one_more_byte_each_time(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        look(server)
    for count in range(1, len(HEAD)):
        client.sendall(HEAD[count - 1 : count])
        be_readable_at(server, count)
        assert _readable(server, 5)
        assert look(server) == Seen(count + 1)
    client.shutdown(socket.SHUT_WR)
    server.recv(1000)
    with pytest.raises(ConnectionResetError):
        look(server)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/version", "/metrics"])
def test_short_answers_without_a_body_are_served_too(pair: tuple[socket.socket, socket.socket], path: str) -> None:
    client, server = pair
    client.sendall(f"GET {path}?a=b HTTP/1.1\r\nHost: x\r\n\r\nGET".encode())
    assert _readable(server, 5)
    seen = _plain(server)
    assert (seen.environ["REQUEST_METHOD"], seen.environ["PATH_INFO"]) == ("GET", path)
    assert (seen.environ["QUERY_STRING"], seen.size, seen.keeps) == ("a=b", seen.head, True)


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
    seen = _plain(server)
    assert not seen.keeps
    assert seen.environ == {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/predict",
        "QUERY_STRING": "",
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
        pytest.param(HEAD.replace(b"predict", b"docs") + b"12345", id="another path"),
        pytest.param(HEAD.replace(b"POST", b"GET") + b"12345", id="another method"),
        pytest.param(HEAD.replace(b"predict", b"predict?\x01") + b"12345", id="control character in the path"),
        pytest.param(HEAD.replace(b"/predict", b"http://x/predict") + b"12345", id="a whole address"),
        pytest.param(HEAD.replace(b"/predict", b"/pre%64ict") + b"12345", id="an escaped path"),
        pytest.param(HEAD.replace(b"POST", b"POST ") + b"12345", id="two spaces"),
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
        pytest.param(HEAD.replace(b"x", b"x" * 9000) + b"12345", id="long head"),
        pytest.param(HEAD.replace(b"Host", b"".join(b"a%d: b\r\n" % n for n in range(99)) + b"Host"), id="many fields"),
        pytest.param(HEAD.replace(b"5", b"%d" % LARGEST) + b"12345", id="large"),
    ],
)
def test_request_with_anything_unusual_is_left_alone(
    pair: tuple[socket.socket, socket.socket], request_: bytes
) -> None:
    client, server = pair
    client.sendall(request_)
    assert _readable(server, 5)
    assert look(server) is None


@pytest.mark.parametrize(
    "beginning", [b"P", b"POST /predict HTTP/1.1\nHost: x\n\n", HEAD[:-2].replace(b"x", b"x" * 20_000), b"x" * 65_535]
)
def test_head_is_left_to_nobody_before_it_is_whole(pair: tuple[socket.socket, socket.socket], beginning: bytes) -> None:
    """Heads with a bare line feed, and long ones, went to threads, which then waited for their ends."""
    client, server = pair
    _send_all(client, server, beginning)
    assert look(server) == Seen(len(beginning) + 1)


def test_head_of_more_than_64_kib_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    _send_all(client, server, b"x" * 65_536)
    with pytest.raises(HeadTooLong, match="more than the 65536 bytes that are taken"):
        look(server)


def _send_all(client: socket.socket, server: socket.socket, text: bytes) -> None:
    client.sendall(text)
    be_readable_at(server, len(text))
    assert _readable(server, 5)


_WORDS = b"Host Content-Length Connection X-API-Key Transfer-Encoding Te x 5 05 chunked keep-alive close [{}]".split()
_SIGNS = [b"\r\n", b"\r", b"\n", b": ", b":", b" ", b"\t", b",", b"_", b"-", b"\x00", b"\xff"]
_PIECES = st.sampled_from(_WORDS + _SIGNS)


@st.composite
def _messages(draw: st.DrawFn) -> bytes:
    """A plain request with more header lines, of which some bytes are then replaced, or left out."""
    lines = draw(st.lists(st.lists(_PIECES, max_size=4).map(b"".join), max_size=3))
    head = draw(st.sampled_from([HEAD, HEAD, b"GET /readyz?a=1 HTTP/1.1\r\nHost: x\r\n\r\n"]))
    message = head.replace(b"Host", b"".join(line + b"\r\n" for line in lines) + b"Host") + b"[{}] "
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(message)))
        message = message[:place] + draw(st.just(b"") | _PIECES) + message[place + draw(st.integers(0, 3)) :]
    return message


def _check_reading(message: bytes) -> None:
    """If not, a proxy in front, or gunicorn on the same connection, might see another request than we do."""
    client, server = socket.socketpair()
    with client, server:
        client.sendall(message)
        seen = look(server)
    if seen is None or not seen.head:
        event("left to gunicorn" if seen is None else "not whole")
        return
    event("plain")
    theirs = next(RequestParser(Config(), iter([message]), ("127.0.0.1", 1)))
    ours = dict(seen.environ)
    line = ours.pop("REQUEST_METHOD"), ours.pop("PATH_INFO"), ours.pop("QUERY_STRING")
    assert (theirs.method, theirs.path, theirs.query) == line
    fields = {name.removeprefix("HTTP_"): value for name, value in ours.items()}
    assert {name.replace("-", "_"): value for name, value in theirs.headers} == fields
    assert len(theirs.headers) == len(fields)
    assert theirs.should_close() is not seen.keeps
    assert theirs.body.read() == message[seen.head : seen.size]


@given(_messages())
@settings(max_examples=1000, deadline=None)
def test_what_is_taken_as_plain_is_what_gunicorn_reads(message: bytes) -> None:
    _check_reading(message)


@pytest.mark.fuzz
@pytest.mark.timeout(900)  # 45 s of the processor's time, which a busy machine stretches
@given(_messages())
@settings(max_examples=10_000, deadline=None)
def test_what_is_taken_as_plain_is_what_gunicorn_reads_in_ten_thousand_cases(message: bytes) -> None:
    _check_reading(message)
