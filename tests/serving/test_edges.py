"""What strangers and clumsy clients do: nobody is held up, nothing is told, and everybody gets an answer."""

import contextlib
import http.client
import json
import os
import selectors
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from serving.app import create_app
from serving.errors import Problem, TooLarge
from serving.fast_path import FastPathWorker
from serving.files import csv_table
from serving.media import MEDIA_TYPES
from serving.predict import _read_body
from serving.settings import read_settings
from tests.support.serving_bundles import Attrition
from tests.support.serving_processes import KEY, Answer, Server

MIB = 1 << 20
LIMIT = 5 * MIB
POD_LIMIT_MIB = 384  # of the 512 that k8s/base/deployment.yaml gives


def raw(server: Server, message: bytes, *, ends: bool = True) -> Answer | None:
    """What comes back for bytes as they are; ``ends``: the client sends nothing more. ``None``: nothing came."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(message)
        if ends:
            client.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(client)
        try:
            answer.begin()
        except (http.client.BadStatusLine, ConnectionResetError):
            return None
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


def message(records: list[dict[str, Any]], extra: bytes = b"") -> bytes:
    body = json.dumps(records).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Type: application/json\r\n".encode()
    return head + extra + b"Content-Length: %d\r\n\r\n" % len(body) + body


def problem(answer: Answer | None) -> Any:
    assert answer is not None
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == answer.status
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    return answer.json


@contextlib.contextmanager
def held(server: Server, count: int, *first: bytes) -> Iterator[list[socket.socket]]:
    """So many connections at once, each of which has sent the next one of ``first`` and nothing else."""
    clients: list[socket.socket] = []
    try:
        for number in range(count):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(20)
            client.connect(("127.0.0.1", server.port))
            client.sendall(first[number % len(first)])
            clients.append(client)
        yield clients
    finally:
        for client in clients:
            client.close()


def probes_are_quick(server: Server, seconds: float = 1.0) -> None:
    for path in ("/healthz", "/readyz"):
        began = time.monotonic()
        assert server.request("GET", path).status == 200
        assert time.monotonic() - began < seconds


# ---- 1: what metrics tell, and to whom ----


def test_metrics_are_not_at_the_public_port(server: Server) -> None:
    answer = server.request("GET", "/metrics", headers={"Host": f"127.0.0.1:{server.metrics_port}"})
    assert problem(answer)["status"] == 404
    assert "scoring_build_info" in server.metrics()
    assert server.request("GET", "/version", port=server.metrics_port).status == 200


def test_metrics_tell_nothing_of_the_person_scored_last(attrition: Attrition, tmp_path: Path) -> None:
    with Server(tmp_path, attrition.folder) as server:
        assert server.predict(attrition.records(1)).status == 200
        before = server.metrics()
        for record in attrition.records(5, seed=3):
            server.predict([record])
        assert "scoring_drift_p_value{" not in before + server.metrics()


# ---- 2: connections that go on and on ----

BEGINNINGS = (
    b"G",
    b"POST /predict HTTP/1.1\r\nHost: x\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n0123456789",
    b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n0123456789",
    b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * 10,
    b"GET /nothing HTTP/1.1\r\nHost: x\r\n\n",
    b"",
)


@pytest.mark.stack
def test_thousand_connections_that_never_end_hold_up_neither_probes_nor_clients(
    attrition: Attrition, tmp_path: Path
) -> None:
    record = message(attrition.records(1))
    with (
        Server(tmp_path, attrition.folder, CLIENT_TIMEOUT=5) as server,
        held(server, 1000, *BEGINNINGS),
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as keyed,
    ):
        for _ in range(50):
            keyed.sendall(record)
            answer = http.client.HTTPResponse(keyed)
            answer.begin()
            answer.read()
            assert answer.status == 200
            probes_are_quick(server)
        # Each is told, or cut off, in the end; then the threads have time for others again.
        (worker,) = server.workers()
        deadline = time.monotonic() + 40
        while len(psutil.Process(worker).net_connections("tcp")) > 50:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert server.request("GET", "/docs/swagger-ui.css").status == 200


SLOW = (
    b"POST /predict?explain=true HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n",
    b"POST /predict HTTP/1.1\r\nHost: x\r\nX-API-Key: nobodys\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n",
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 4000000\r\n\r\na",
    b"GET /docs/swagger-ui.css HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n",
    b"POST /docs/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n",
    b"GET /nothing HTTP/1.1\r\nHost: x\n\n",
    b"GET /nothing HTTP/1.1\r\n" + b"X: 1\r\n" * 2000,
    b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\nGET /noth",
    b"\r\n\r\nGET /noth",
)
"""Requests of strangers that are never whole, each to a route that threads answer."""


@pytest.mark.parametrize("beginning", SLOW, ids=range(len(SLOW)))
def test_uploads_of_strangers_hold_no_thread(server: Server, attrition: Attrition, beginning: bytes) -> None:
    """Eight of them, as many as there are threads, kept files, reasons and pages waiting for half a minute."""
    csv = csv_table(attrition.records(1)).encode()
    keyed = {"X-API-Key": KEY, "Content-Type": "text/csv"}
    with held(server, 8, beginning):
        for method, path, body in (
            ("POST", "/predict", csv),
            ("POST", "/predict?explain=true", csv),
            ("GET", "/docs/swagger-ui.css", None),
        ):
            assert server.request(method, path, body, keyed, timeout=4).status == 200


def test_request_that_is_never_whole_is_told_so(attrition: Attrition, tmp_path: Path) -> None:
    with Server(tmp_path, attrition.folder, CLIENT_TIMEOUT=1) as server:
        for beginning in BEGINNINGS[:2]:
            assert problem(raw(server, beginning, ends=False))["status"] == 408
        (line,) = {
            (line["path"], line["status"])
            for line in map(json.loads, server.stderr.read_text().splitlines())
            if line["type"] == "Access" and line["status"] == 408
        }
        assert line == ("other", 408)
        assert 'status="408"} 2.0' in server.metrics()


def test_full_house_makes_room_for_who_comes(attrition: Attrition, tmp_path: Path) -> None:
    """More connections than a worker may have open."""
    limits = ("prlimit", "--nofile=400:400")
    with Server(tmp_path, attrition.folder, before=limits) as server, held(server, 390, b"G", b""):
        for _ in range(20):
            probes_are_quick(server)
            assert server.predict(attrition.records(1)).status == 200


# ---- 3: memory ----


class Connection:
    """As gunicorn's, for a worker that nobody runs."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.wanted, self.ahead = 1, b""
        sock.setblocking(False)

    def on_readable(self, client: socket.socket) -> None: ...

    def close(self) -> None:
        self.sock.close()


@contextlib.contextmanager
def idle_worker(count: int) -> Iterator[tuple[Any, list[Connection], list[socket.socket]]]:
    """A worker, as many connections in its poller as are asked for, and their clients."""
    worker: Any = FastPathWorker.__new__(FastPathWorker)
    worker.waiting, worker._unread, worker.poller, worker.nr_conns = {}, {}, selectors.DefaultSelector(), count
    worker.cfg = SimpleNamespace(keepalive=60, is_ssl=False)
    settings = SimpleNamespace(client_timeout=30)
    worker.wsgi = SimpleNamespace(extensions={"scoring": SimpleNamespace(settings=settings)})
    pairs = [socket.socketpair() for _ in range(count)]
    conns = [Connection(ours) for ours, _ in pairs]
    for conn in conns:
        worker._wait(conn, conn.on_readable, 0.0, worker._drop)
    yield worker, conns, [theirs for _, theirs in pairs]
    for end in (end for pair in pairs for end in pair):
        end.close()
    worker.poller.close()


def test_bodies_that_wait_in_the_kernel_have_a_limit_together() -> None:
    """More are left to threads, which read few at a time."""
    left = []
    with idle_worker(100) as (worker, conns, clients):
        worker._leave_to_thread = left.append
        for conn, client in zip(conns, clients, strict=True):
            client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1048000\r\n\r\n0123456789")
            worker.on_client_socket_readable(conn, conn.sock)
        assert left == conns[32:]
        assert sum(conn.wanted for conn in conns) < 33 * MIB


def test_answers_that_nobody_reads_have_a_limit_together() -> None:
    """The oldest makes room; what is taken after all does not count any more."""
    with idle_worker(3) as (worker, conns, clients):
        for conn in conns:
            worker._send(conn, memoryview(bytes(15 * MIB)), True, 0.0)
        assert [conn.sock.fileno() < 0 for conn in conns] == [True, False, False]
        assert worker.nr_conns == 2
        while conns[1] in worker._unread:
            assert clients[1].recv(MIB)
            for key, _ in worker.poller.select():
                key.data(key.fileobj)
        assert list(worker._unread) == [conns[2]]


JSON, CSV, NDJSON = MEDIA_TYPES


def filled(unit: str, head: str = "", tail: str = "") -> bytes:
    """As much as a request may have: ``head``, a unit as often as it fits, ``tail``."""
    room = LIMIT - len((head + tail).encode())
    return head.encode() + unit.encode() * (room // len(unit.encode())) + tail.encode()


def large_bodies(record: dict[str, Any]) -> dict[str, list[tuple[str, str, bytes]]]:
    """By what they try: query, media type and body of each."""
    long = {name: "}{" * 50 if isinstance(value, str) else value for name, value in record.items()}
    sent = json.dumps(record, separators=(",", ":"))
    braces = json.dumps(long, separators=(",", ":"))
    header, row = csv_table([record]).splitlines(keepends=True)
    controls = csv_table([record | {"JobRole": "\x01" * 128, "Department": "\x02" * 128}]).splitlines(keepends=True)[1]
    rows = f"{header}{row * ((LIMIT - 100) // (len(sent) + 1))}".encode()
    return {
        # Texts with braces take the longer way through the log, which needs most.
        "JSON": [
            ("", JSON, filled(f",{braces}", f"[{braces}", "]")),
            ("", JSON, filled(f",{sent}", f"[{sent}", "]")),
            ("", JSON, filled('{"":0},', "[", '{"":0}]')),
            ("", JSON, filled("[],", "[", "[]]")),
            ("", JSON, filled('{"a":[{}]},', "[", "{}]")),
            ("", JSON, filled('{"":0},', "[", "NaN]")),
            ("", JSON, b" " * 4 * LIMIT),
        ],
        "CSV": [
            ("", CSV, rows),
            ("", CSV, filled(row, header)),
            ("", CSV, filled(controls, header)),
            ("", CSV, filled("1\n", header)),
            ("", CSV, filled("\n", header)),
            ("", CSV, filled("ab,")),
            ("", CSV, filled("\u00e9a,", header)),
            ("", CSV, filled("x", f'{header}"')),
            ("", CSV, filled("\n", f'{header}"')),
            ("", CSV, filled('"\n",', header)),
            ("", CSV, filled("\U0001f600\n", header)),
        ],
        "JSON by line": [
            ("", NDJSON, filled(f"{sent}\n")),
            ("", NDJSON, filled(f"{braces}\n")),
            ("", NDJSON, filled("{}\n")),
            ("", NDJSON, filled("1\n")),
            ("", NDJSON, filled('{"":0}\n')),
            ("", NDJSON, filled('{"":0}\n', tail="NaN\n")),
            ("", NDJSON, filled("\n")),
            ("", NDJSON, filled("x", '{"a":"', '"}\n')),
        ],
        "reasons": [
            ("?explain=true", JSON, filled(f",{braces}", f"[{braces}", "]")),
            ("?explain=true&drift=false", JSON, filled(f",{sent}", f"[{sent}", "]")),
            ("?explain=true", NDJSON, filled(f"{braces}\n")),
            ("?explain=true", CSV, rows),
        ],
    }


@pytest.mark.stack
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["JSON", "CSV", "JSON by line", "reasons"])
def test_large_bodies_together_stay_within_the_pods_memory(attrition: Attrition, tmp_path: Path, kind: str) -> None:
    """Valid and hostile ones, of eight clients with a key at once, answered in each of the three forms."""
    bodies = large_bodies(attrition.records(1)[0])[kind]
    count = 2 * max(len(bodies), 8)
    work = iter([(*bodies[number % len(bodies)], MEDIA_TYPES[number % 3]) for number in range(count)])
    turn = threading.Lock()
    statuses: list[int] = []
    with open(os.devnull, "wb") as nowhere, Server(tmp_path, attrition.folder, nowhere.fileno()) as server:
        (worker,) = server.workers()

        def send() -> None:
            while True:
                with turn:
                    query, sent, body, wanted = next(work, ("", "", b"", ""))
                if not body:
                    return
                headers = {"X-API-Key": KEY, "Content-Type": sent, "Accept": wanted}
                statuses.append(server.request("POST", f"/predict{query}", body, headers, timeout=240).status)

        clients = [threading.Thread(target=send) for _ in range(8)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        status = Path(f"/proc/{worker}/status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    assert len(statuses) == count
    assert set(statuses) <= {200, 400, 413, 422}
    assert 200 in statuses
    print(f"peak: {peak:.0f} MiB")
    assert peak < POD_LIMIT_MIB


class Endless:
    """A body without an end, which says how much was asked for at once."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def read(self, size: int) -> bytes:
        self.sizes.append(size)
        return bytes(size)


@pytest.mark.parametrize("length", ["", str(100 * LIMIT)], ids=["chunked", "with a length"])
def test_body_that_is_too_large_is_thrown_away_in_pieces(length: str) -> None:
    """The client is to see the answer, and eight threads at once are not to hold four times the limit."""
    body = Endless()
    with pytest.raises(TooLarge):
        _read_body({"CONTENT_LENGTH": length, "wsgi.input": body}, LIMIT)
    kept = [size for size in body.sizes if size > 1 << 16]
    assert kept == ([] if length else [LIMIT + 1])
    assert sum(body.sizes) - sum(kept) == 4 * LIMIT


@pytest.mark.parametrize(
    ("sent", "body"), [(JSON, b'[{"":0}]'), (JSON, b"[NaN]"), (NDJSON, b"{}\n"), (NDJSON, b"NaN\n"), (CSV, b"Age\n1\n")]
)
def test_refusal_holds_nothing_of_what_was_read(attrition: Attrition, sent: str, body: bytes) -> None:
    """Its traceback would, for as long as it takes to answer, while the next request is being read."""
    app = create_app(read_settings({"SCORING_BUNDLE": str(attrition.folder), "SCORING_AUTH": "off"}))
    endpoint: Any = app.view_functions["predict"]
    with pytest.raises(Problem) as refused:
        endpoint._fields(body, sent)
    own, caught = traceback.extract_tb(refused.value.__traceback__)[-2:]
    assert caught.name == "_fields"
    assert own.name == "test_refusal_holds_nothing_of_what_was_read"
    assert refused.value.__cause__ is refused.value.__context__ is None


# ---- 4, 5: stderr ----


@pytest.mark.stack
def test_malformed_requests_leave_nothing_of_themselves_in_the_log(attrition: Attrition, tmp_path: Path) -> None:
    body = json.dumps(attrition.records(1)).encode()
    key = KEY.encode()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nX-API-Key: " + key + b"\r\nContent-Type: application/json\r\n"
    requests = [
        head + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"\r\n",
        head.replace(b"X-API-Key: " + key + b"\r\n", b"") + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"\r\n",
        head + b"Content-Length: 2\r\n\r\n[]" + body,
        head + b"\r\n" + body,
        head.replace(b"Key: ", b"Key : ") + b"Content-Length: 2\r\n\r\n[]",
        head.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\n[]" + b"\r\n\r\n",
        head.replace(b"Key: ", b"Key ") + b"Content-Length: 2\r\n\r\n[]",
        b"GET /predict?key=" + key + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + key + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /docs/" + key + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        key + b" /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"Z" * 6 * MIB + b"\r\n",
    ]
    with Server(tmp_path, attrition.folder, LOG_SENSITIVE="drop") as server:
        for request in requests:
            with contextlib.suppress(OSError):
                raw(server, request)
        assert server.request("GET", "/healthz").status == 200
    text = server.stderr.read_text()
    assert KEY not in text
    assert "MaritalStatus" not in text
    assert text.count('"type":"Access"') >= len(requests) - 1
    assert max(map(len, text.splitlines())) < 6000


@pytest.mark.stack
def test_server_goes_on_when_nobody_reads_stderr(attrition: Attrition, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with Server(tmp_path, attrition.folder, errors=writing, WORKERS=2) as server:
        os.close(writing)
        body = json.dumps(attrition.records(1)).encode()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        lost = 0.0
        deadline = time.monotonic() + 60
        while not lost:
            for _ in range(500):
                connection.request("POST", "/predict", body, {"X-API-Key": KEY, "Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200
            lost = float(server.metrics().partition("\nscoring_lost_lines_total ")[2].split()[0])
            assert time.monotonic() < deadline
        connection.close()
        # The master does not wait either: it replaces a worker, and says so to nobody.
        first = server.workers()
        psutil.Process(first[0]).kill()
        while set(server.workers()) == set(first) or len(server.workers()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        probes_are_quick(server)
        assert json.loads(os.read(reading, MIB).splitlines()[1])["type"] in ("Log", "Access")
    os.close(reading)


# ---- 6, 8: refusals ----


@pytest.mark.parametrize(
    "chunks", [b"zz\r\n", b"5\r\n[{}", b"2\r\n[]xx0\r\n\r\n", b"2;a=\r\r\n[]\r\n0\r\n\r\n", b"0\r\nno colon\r\n\r\n"]
)
def test_broken_chunks_are_the_clients_fault(server: Server, chunks: bytes) -> None:
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Type: application/json\r\n".encode()
    assert problem(raw(server, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks))["status"] == 400


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n[]", 400),
        (
            b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Type: text/csv\r\n"
            b"Content-Length: 2\r\n\r\n[]",
            400,
        ),
        (b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n[]", 400),
        (b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, rot13\r\n\r\n[]", 501),
        (b"GET /healthz\r\nHost: a\r\n\r\n", 400),
        (b"GET /healthz HTTP/9.7\r\nHost: a\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nA header\r\n\r\n", 400),
        (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 10_000 + b"\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 20_000, 431),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\n\r\n", 417),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    ],
)
def test_what_gunicorn_refuses_is_answered_with_a_problem(server: Server, request_: bytes, status: int) -> None:
    assert problem(raw(server, request_))["status"] == status


def test_answered_request_with_a_broken_rest_gets_no_second_answer(server: Server) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(head + b"zz\r\n")
        received = b"".join(iter(lambda: client.recv(MIB), b""))
    assert received.count(b"HTTP/1.1 ") == 1


def test_pipelined_requests_are_all_answered_in_order(server: Server) -> None:
    """Both those that the main thread serves and those of the threads, whose parser reads ahead."""
    paths = [("/healthz", "/docs/swagger-ui.css", "/nothing")[number % 3] for number in range(30)]
    lines = [f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Request-ID: p{n}\r\n\r\n" for n, path in enumerate(paths)]
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall("".join(lines).encode())
        with client.makefile("rb") as stream:
            for number in range(len(paths)):
                head = b"".join(iter(stream.readline, b"\r\n"))
                stream.read(int(head.lower().partition(b"content-length:")[2].split()[0]))
                assert f"X-Request-ID: p{number}\r\n".encode() in head


def test_request_that_has_begun_with_the_one_before_goes_on_later(server: Server) -> None:
    request = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        for parts in ((request + request[:9],), (request[9:20], request[20:] + request[:4]), (request[4:],)):
            for part in parts:
                client.sendall(part)
                probes_are_quick(server)  # so that it has been seen by itself
            answer = http.client.HTTPResponse(client)
            answer.begin()
            assert (answer.status, answer.read()[:1]) == (404, b"{")


# ---- 10: as gunicorn 27 reads ----


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n[]",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 2_0\r\n\r\n[]",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 0x2\r\n\r\n[]",
    ],
)
def test_stricter_reading_is_followed(server: Server, request_: bytes) -> None:
    assert problem(raw(server, request_))["status"] == 400
