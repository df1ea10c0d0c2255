"""What a socket tells of the prediction that is arriving, and sending without waiting for the client."""

import select
import socket
import threading
from collections.abc import Iterator

import pytest

from serving.client_socket import LARGEST, ClientSocket

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, ClientSocket]]:
    """A client, and the server's end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    with client, accepted:
        yield client, ClientSocket(accepted)


def _readable(server: ClientSocket, seconds: float) -> bool:
    return bool(select.select([server], [], [], seconds)[0])


def test_prediction_is_whole_with_the_last_byte_of_its_body(pair: tuple[socket.socket, ClientSocket]) -> None:
    client, server = pair
    assert server.prediction() is None  # nothing has come
    client.sendall(HEAD + b"[{}]")
    assert _readable(server, 5)
    assert server.prediction() == (len(HEAD) + 5, False)
    client.sendall(b" ")
    server.be_readable_at(len(HEAD) + 5)
    assert _readable(server, 5)
    assert server.prediction() == (len(HEAD) + 5, True)
    assert server.recv(1000) == HEAD + b"[{}] "  # looking took nothing


def test_larger_body_than_is_looked_at_counts_by_what_the_kernel_holds(
    pair: tuple[socket.socket, ClientSocket],
) -> None:
    client, server = pair
    size = len(HEAD) + 4 + 50_000
    client.sendall(HEAD.replace(b" 5", b" 50000").replace(b"x", b"abcde") + b" " * 50_000)
    server.be_readable_at(size)
    assert _readable(server, 5)
    assert server.prediction() == (size + 4, True)


def test_socket_is_readable_only_with_as_many_bytes_as_asked_for_or_at_the_end(
    pair: tuple[socket.socket, ClientSocket],
) -> None:
    client, server = pair
    server.be_readable_at(100)
    client.sendall(b"x" * 99)
    assert not _readable(server, 0.2)
    client.sendall(b"x")
    assert _readable(server, 5)
    server.be_readable_at(200)
    assert not _readable(server, 0.2)
    client.shutdown(socket.SHUT_WR)
    assert _readable(server, 5)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"GET /healthz HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345", id="another path"),
        pytest.param(b"\r\n\r\n" + HEAD + b"12345", id="empty lines before it"),
        pytest.param(b"POST /predict HTTP/1.1\r\nHost: x\r\n\r\n", id="no length"),
        pytest.param(HEAD.replace(b"Host: x", b"content-length: 7") + b"12345", id="two lengths"),
        pytest.param(HEAD.replace(b"5", b"+5") + b"12345", id="no number"),
        pytest.param(HEAD.replace(b"5", b"5, 5") + b"12345", id="a list"),
        pytest.param(HEAD.replace(b"Host: x", b"Transfer-Encoding: chunked") + b"12345", id="chunked"),
        pytest.param(HEAD.replace(b"Host: x", b"Expect: 100-continue"), id="waits to be asked"),
        pytest.param(HEAD[:-2], id="half a head"),
        pytest.param(HEAD.replace(b"x", b"x" * 5000) + b"12345", id="long head"),
        pytest.param(HEAD.replace(b"5", b"%d" % LARGEST) + b"12345", id="large"),
    ],
)
def test_request_whose_end_is_not_sure_is_none(pair: tuple[socket.socket, ClientSocket], request_: bytes) -> None:
    client, server = pair
    client.sendall(request_)
    assert _readable(server, 5)
    assert server.prediction() is None


def test_what_a_client_does_not_take_is_kept_and_sent_later_in_order(
    pair: tuple[socket.socket, ClientSocket],
) -> None:
    client, server = pair
    server.waits = False
    blocks = [bytes([number]) * 1_000_000 for number in range(20)]
    for block in blocks:
        server.sendall(block)
    assert server.unsent
    received = bytearray()

    def read() -> None:
        while len(received) < 20_000_000:
            received.extend(client.recv(1 << 20))

    reader = threading.Thread(target=read)
    reader.start()
    server.send_rest()
    reader.join(20)
    assert bytes(received) == b"".join(blocks)
    assert not server.unsent
