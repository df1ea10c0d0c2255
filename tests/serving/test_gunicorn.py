"""Running under gunicorn: forks, drain, logs of many workers, rotation of keys, an unwritable stdout."""

import collections
import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificate import write_certificate
from tests.support.machine import eventually, free_port
from tests.support.serving_bundles import Attrition
from tests.support.serving_processes import KEY, ROOT, Server, key_file

pytestmark = pytest.mark.stack

HEADERS = {"X-API-Key": KEY, "Content-Type": "application/json"}


class Load:
    """Constant requests from several clients; some keep their connection, some make a new one each time."""

    def __init__(self, server: Server, bodies: list[bytes], clients: int) -> None:
        self.answers: collections.Counter[int] = collections.Counter()
        self.ids: list[str] = []
        self.failures: list[str] = []
        self._server, self._bodies = server, bodies
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        connection: http.client.HTTPConnection | None = None
        count = 0
        while not self._end.is_set():
            count += 1
            identity = f"load-{number}-{count}"
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=20)
                    connection.connect()
            except ConnectionRefusedError:
                return  # the server has gone: nothing was accepted, so nothing is lost
            try:
                body = self._bodies[count % len(self._bodies)]
                connection.request("POST", "/predict", body, HEADERS | {"X-Request-ID": identity})
                answer = connection.getresponse()
                answer.read()
                with self._lock:
                    self.answers[answer.status] += 1
                    self.ids.append(identity)
                if number % 2 or answer.will_close:
                    connection.close()
                    connection = None
            except OSError as error:
                with self._lock:
                    self.failures.append(f"{identity}: {error!r}")
                return
            except http.client.HTTPException as error:
                with self._lock:
                    self.failures.append(f"{identity}: {error!r}")
                return

    def stop(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


def _message(records: list[dict[str, Any]], request_id: str = "a-test") -> bytes:
    body = json.dumps(records).encode()
    headers = {"Host": "x", **HEADERS, "X-Request-ID": request_id, "Content-Length": str(len(body))}
    lines = ["POST /predict HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _answered(client: socket.socket) -> bytes:
    """One whole answer."""
    with client.makefile("rb") as stream:
        head = b"".join(iter(stream.readline, b"\r\n"))
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        return head + stream.read(length)


def test_sigterm_under_load_loses_no_request_and_logs_each_once(attrition: Attrition, tmp_path: Path) -> None:
    bodies = [json.dumps(attrition.records(count)).encode() for count in (1, 30, 100)]
    with Server(tmp_path, attrition.folder, WORKERS=2, DRAIN_SECONDS=1) as server:
        load = Load(server, bodies, clients=6)
        time.sleep(1.5)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(timeout=30)
        load.stop()
        assert server.process.returncode == 0
    assert load.failures == []
    assert set(load.answers) == {200}
    assert load.answers[200] > 50
    outputs = collections.Counter(
        line["request_id"] for line in server.log_lines() if line["type"] == "OutputData" and line["chunk"] == 1
    )
    assert outputs == collections.Counter(load.ids)


def test_readiness_falls_first_while_requests_are_still_served(attrition: Attrition, tmp_path: Path) -> None:
    with Server(tmp_path, attrition.folder, DRAIN_SECONDS=3) as server:
        server.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 2
        while (ready := server.request("GET", "/readyz")).status == 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert ready.status == 503
        assert "draining" in ready.json["detail"]
        assert server.request("GET", "/healthz").status == 200
        assert server.predict(attrition.records(1)).status == 200
        assert server.process.wait(timeout=20) == 0


def test_worker_that_is_told_to_end_before_it_listens_to_signals_ends(attrition: Attrition, tmp_path: Path) -> None:
    """Gunicorn's master waited 30 seconds for one that it had forked a moment before, and killed it then."""
    with Server(tmp_path, attrition.folder, config="tests.support.slow_fork", WORKERS=2, DRAIN_SECONDS=0.2) as server:
        assert eventually(lambda: len(server.workers()) == 2)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=10) == 0


def test_worker_that_gets_sigterm_over_and_over_ends_once(attrition: Attrition, tmp_path: Path) -> None:
    """From its master and from whoever stops the whole group, at the same moment."""
    with Server(tmp_path, attrition.folder, DRAIN_SECONDS=0) as server:
        (worker,) = server.workers()
        server.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(ProcessLookupError):
            for _ in range(20_000):
                os.kill(worker, signal.SIGTERM)
        assert server.process.wait(timeout=20) == 0


def test_listen_backlog_is_served_at_the_end(attrition: Attrition, tmp_path: Path) -> None:
    """Connections that wait while all threads are busy are answered after SIGTERM."""
    large, small = _message(attrition.records(3000)), _message(attrition.records(1))
    with Server(tmp_path, attrition.folder, THREADS=1, DRAIN_SECONDS=0) as server:
        waiting = []
        for message in [large, *[small] * 20]:
            client = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            client.sendall(message)
            waiting.append(client)
        server.process.send_signal(signal.SIGTERM)
        for client in waiting:
            assert client.recv(12) == b"HTTP/1.1 200"
            client.close()
        assert server.process.wait(timeout=30) == 0


def test_clients_that_send_slowly_hold_up_nobody_and_are_answered(attrition: Attrition, tmp_path: Path) -> None:
    """More of them than threads; the last one takes longer than an idle connection is kept."""
    message = _message(attrition.records(20))
    with Server(tmp_path, attrition.folder, THREADS=2, KEEPALIVE=1) as server:
        slow = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(6)]
        for client in slow:
            client.sendall(message[:-1])
        for _ in range(20):
            assert server.predict(attrition.records(1)).status == 200
        for client in slow[:-1]:
            client.sendall(message[-1:])
            assert _answered(client).startswith(b"HTTP/1.1 200")
        time.sleep(2.5)
        slow[-1].sendall(message[-1:])
        assert _answered(slow[-1]).startswith(b"HTTP/1.1 200")
        for client in slow:
            client.close()


def test_client_that_was_served_longest_ago_is_served_first(attrition: Attrition, tmp_path: Path) -> None:
    """Both ask while the server is busy, the other one first."""
    large, small = _message(attrition.records(1200)), attrition.records(1)
    rounds = 10
    with Server(tmp_path, attrition.folder) as server:
        clients = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(4)]
        earlier, later, *busy = clients
        for number in range(rounds):
            for client in (earlier, later):
                client.sendall(_message(small))
                _answered(client)
            for client in busy:
                client.sendall(large)
            later.sendall(_message(small, f"later-{number}"))
            earlier.sendall(_message(small, f"earlier-{number}"))
            for client in clients:
                _answered(client)
            earlier, later = later, earlier
        for client in clients:
            client.close()
        answered = [line["request_id"] for line in server.log_lines() if line.get("type") == "OutputData"]
    in_turn = [answered.index(f"earlier-{number}") < answered.index(f"later-{number}") for number in range(rounds)]
    assert sum(in_turn) > rounds / 2  # a busy machine may part the two so far that they are not both waiting


def test_upload_that_breaks_off_is_no_servers_fault(attrition: Attrition, tmp_path: Path) -> None:
    with Server(tmp_path, attrition.folder) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            client.sendall(_message(attrition.records(20))[:-100])
            time.sleep(0.2)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(12) == b"HTTP/1.1 400"
        assert server.predict(attrition.records(1)).status == 200


def test_clients_that_do_not_read_their_answers_hold_up_nobody(attrition: Attrition, tmp_path: Path) -> None:
    message = _message(attrition.records(900))
    with Server(tmp_path, attrition.folder, THREADS=2) as server:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        sent = 0
        client.settimeout(1)
        with contextlib.suppress(TimeoutError):  # the server reads no further while its answers are not taken
            while sent < 500:
                client.sendall(message)
                sent += 1
        assert sent < 500
        for _ in range(20):
            assert server.predict(attrition.records(1)).status == 200
        client.settimeout(20)
        assert _answered(client).startswith(b"HTTP/1.1 200")
        client.close()


def test_full_log_pipe_fails_predictions_and_leaves_the_probes_quick(attrition: Attrition, tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    message = _message(attrition.records(1000))
    with Server(tmp_path, attrition.folder, write_end, LOG_TIMEOUT=1) as server:
        os.close(write_end)
        clients = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(3)]
        statuses: list[bytes] = []
        while b"HTTP/1.1 503" not in statuses:  # nobody reads the pipe, so it fills
            clients[0].sendall(message)
            statuses.append(_answered(clients[0])[:12])
            assert len(statuses) < 50
        for client in clients:
            client.sendall(message)
        began = time.monotonic()
        assert server.request("GET", "/healthz").status == 200
        assert time.monotonic() - began < 1
        for client in clients:
            assert _answered(client).startswith(b"HTTP/1.1 503")
        reader = threading.Thread(target=_read_all, args=(read_end,))
        reader.start()
        clients[0].sendall(message)
        assert _answered(clients[0]).startswith(b"HTTP/1.1 200")
        for client in clients:
            client.close()
    reader.join(20)


def _read_all(descriptor: int) -> None:
    with open(descriptor, "rb") as stream:
        while stream.read(1 << 20):
            pass


def test_predictions_over_gunicorns_own_tls_are_answered_on_a_kept_connection(
    attrition: Attrition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = write_certificate(tmp_path)
    monkeypatch.setenv("GUNICORN_CMD_ARGS", f"--certfile {certificate} --keyfile {certificate}")
    trusted = ssl.create_default_context(cafile=str(certificate))
    server = Server(tmp_path, attrition.folder)
    try:
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=20, context=trusted)
        deadline = time.monotonic() + 30
        while True:
            try:
                connection.connect()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        kept = connection.sock
        for _ in range(3):
            connection.request("POST", "/predict", json.dumps(attrition.records(2)), HEADERS)
            answer = connection.getresponse()
            assert (answer.status, len(json.loads(answer.read())["outliers__score"])) == (200, 2)
            time.sleep(0.1)
        assert connection.sock is kept
        connection.close()
    finally:
        server.stop()


def test_master_has_one_thread_and_workers_share_its_memory(attrition: Attrition, tmp_path: Path) -> None:
    with Server(tmp_path, attrition.folder, WORKERS=2) as server:
        for _ in range(20):
            server.predict(attrition.records(5))
        master = server.process.pid
        assert len(os.listdir(f"/proc/{master}/task")) == 1
        workers = server.workers()
        assert len(workers) == 2
        for worker in workers:
            memory = dict(
                line.split(":", 1) for line in Path(f"/proc/{worker}/smaps_rollup").read_text().splitlines()[1:]
            )
            resident, own = (int(memory[key].split()[0]) for key in ("Rss", "Private_Dirty"))
            assert own < resident / 2


def test_killed_worker_is_replaced_and_recycled_ones_too(attrition: Attrition, tmp_path: Path) -> None:
    with Server(tmp_path, attrition.folder, WORKERS=2, MAX_REQUESTS=20) as server:
        first = set(server.workers())
        os.kill(min(first), signal.SIGKILL)
        statuses = {server.predict(attrition.records(1)).status for _ in range(100)}
        assert statuses == {200}
        server.wait_ready()
        assert not first & set(server.workers())
        text = server.metrics()
        assert 'scoring_requests_total{endpoint="predict",status="200"} 100.0' in text


def test_log_of_concurrent_workers_has_every_record_once_in_parsable_lines(
    attrition: Attrition, tmp_path: Path
) -> None:
    everyone = attrition.records(4000, seed=9)
    requests = [everyone[start : start + 200] for start in range(0, 4000, 200)]
    with Server(tmp_path, attrition.folder, WORKERS=3, THREADS=3) as server:

        def send(number: int) -> None:
            for position in range(number, len(requests), 4):
                answer = server.predict(requests[position], X_Request_ID=f"request-{position}")
                assert answer.status == 200

        threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    text = server.stdout.read_bytes()
    assert all(len(line) < 15 * 1024 for line in text.splitlines())
    lines = server.log_lines()
    for position, records in enumerate(requests):
        mine = [line for line in lines if line["request_id"] == f"request-{position}"]
        inputs = sorted((line for line in mine if line["type"] == "InputData"), key=lambda line: line["first_record"])
        outputs = [line for line in mine if line["type"] == "OutputData"]
        assert [record for line in inputs for record in line["data"]] == records
        assert sum(len(line["data"]["outliers__score"]) for line in outputs) == 200


def test_rotated_key_file_is_followed_without_a_restart(attrition: Attrition, tmp_path: Path) -> None:
    with Server(tmp_path, attrition.folder) as server:
        assert server.predict(attrition.records(1)).status == 200
        key_file(tmp_path, portal="the-next-key")
        deadline = time.monotonic() + 10
        while server.predict(attrition.records(1)).status == 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert server.predict(attrition.records(1)).status == 403
        assert server.predict(attrition.records(1), X_API_Key="the-next-key").status == 200


@pytest.mark.parametrize(("required", "status"), [("true", 503), ("false", 200)])
def test_unwritable_stdout_fails_the_request_unless_told_otherwise(
    attrition: Attrition, tmp_path: Path, required: str, status: int
) -> None:
    port = free_port()
    environ = os.environ | {
        "SCORING_BUNDLE": str(attrition.folder),
        "SCORING_AUTH": "off",
        "SCORING_BIND": f"127.0.0.1:{port}",
        "SCORING_WORKERS": "1",
        "SCORING_LOG_REQUIRED": required,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "gunicorn", "-c", "python:serving.gunicorn_config", "serving.wsgi:app"]
    with open("/dev/full", "wb") as full, (tmp_path / "stderr").open("wb") as errors:
        process = subprocess.Popen(command, env=environ, stdout=full, stderr=errors)
    try:
        answer = _post_when_up(port, json.dumps(attrition.records(1)).encode())
        assert answer.status == status
        if status == 503:
            assert answer.headers["Retry-After"] == "1"
            assert "No space left" in (tmp_path / "stderr").read_text()
    finally:
        process.terminate()
        process.wait(timeout=30)


def _post_when_up(port: int, body: bytes) -> Any:
    deadline = time.monotonic() + 30
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("POST", "/predict", body, HEADERS)
            answer = connection.getresponse()
            answer.read()
            return answer
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        finally:
            connection.close()


def test_development_server_needs_only_a_bundle(attrition: Attrition, tmp_path: Path) -> None:
    port = free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SCORING_")}
    command = [sys.executable, "-m", "serving", "--bundle", str(attrition.folder), "--bind", f"127.0.0.1:{port}"]
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(command, env=environ | {"PYTHONPATH": str(ROOT)}, stdout=out, stderr=out)
    try:
        assert _post_when_up(port, json.dumps(attrition.records(1)).encode()).status == 200
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0
    missing = subprocess.run([*command[:3], "--bundle", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert missing.returncode == 2
    assert "is not a model bundle" in missing.stderr
