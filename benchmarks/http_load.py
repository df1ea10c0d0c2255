"""A lean HTTP/1.1 load generator: keep-alive connections, each with one request under way at a time."""

import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Measured:
    """Latencies in seconds, and the time that all of it took."""

    latencies: list[float]
    seconds: float

    @property
    def requests_per_s(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def tail(self) -> float:
        """How much longer the slowest hundredth takes than the median."""
        return self.percentile_ms(0.99) / self.percentile_ms(0.5)

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000


def http_request(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """The bytes of a ``POST``."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


class _Connection:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.began = 0.0
        self._received = bytearray()
        self._needed = 0

    def send(self, message: bytes) -> None:
        self._received.clear()
        self._needed = 0
        self.began = time.perf_counter()
        self.socket.sendall(message)

    def receive(self) -> bool:
        """Take what is there; whether the answer is complete. An answer other than 200 is an error."""
        piece = self.socket.recv(1 << 18)
        if not piece:
            raise ConnectionError("the server closed the connection")
        self._received += piece
        if not self._needed:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = bytes(self._received[:end]).lower()
            if not head.startswith(b"http/1.1 200"):
                raise ConnectionError(head.decode())
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            self._needed = end + 4 + length
        return len(self._received) >= self._needed


def measure(port: int, messages: Sequence[bytes], connections: int, seconds: float, at_least: int = 20) -> Measured:
    """Send ``messages`` in turn over so many connections for ``seconds``, and ``at_least`` so many."""
    clients = [_Connection(port) for _ in range(connections)]
    latencies: list[float] = []
    sent = 0
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.send(messages[sent % len(messages)])
            sent += 1
        began = time.perf_counter()
        end = began + seconds
        under_way = connections
        while under_way:
            for key, _ in selector.select():
                client = key.data
                if not client.receive():
                    continue
                now = time.perf_counter()
                latencies.append(now - client.began)
                if now < end or len(latencies) < at_least:
                    client.send(messages[sent % len(messages)])
                    sent += 1
                else:
                    under_way -= 1
        took = time.perf_counter() - began
    for client in clients:
        client.socket.close()
    return Measured(latencies, took)
