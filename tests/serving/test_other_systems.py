"""The server where nothing is left that only Linux has: it predicts, logs, and stops without a loss."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.serving_bundles import flats_columns
from tests.support.serving_processes import ROOT, Server

OTHER_SYSTEM = ROOT / "tests" / "other_system"


@pytest.fixture
def elsewhere() -> str:
    """``PYTHONPATH`` of a system that is not Linux."""
    return f"{OTHER_SYSTEM}{os.pathsep}{ROOT}"


def _records(count: int) -> list[dict[str, object]]:
    columns = flats_columns(count)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_names_and_folders_of_linux_are_gone_in_the_simulation(elsewhere: str) -> None:
    program = (
        "import os, fcntl, select, selectors, json; from pathlib import Path; from serving.system import *;"
        "print(json.dumps([hasattr(os, 'memfd_create'), hasattr(select, 'epoll'), Path('/proc/self').exists(),"
        "os.access('/dev/shm', os.W_OK), memory_folder(), usable_cpus() == os.cpu_count(),"
        "selectors.DefaultSelector.__name__]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": elsewhere}, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == [False, False, False, False, None, True, "PollSelector"]


@pytest.mark.parametrize("to_a_pipe", [False, True], ids=["log to a file", "log to a pipe"])
def test_server_predicts_logs_and_stops(flats: Path, tmp_path: Path, elsewhere: str, to_a_pipe: bool) -> None:
    reading, writing = os.pipe()
    received = bytearray()

    def read() -> None:
        while chunk := os.read(reading, 1 << 16):
            received.extend(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    descriptor = writing if to_a_pipe else None
    with Server(tmp_path, flats, descriptor, pythonpath=elsewhere, WORKERS=2, DRAIN_SECONDS=0.2) as server:
        os.close(writing)
        answers = [server.predict(_records(count), X_Request_ID=f"request-{count}") for count in (1, 100, 1000)]
        metrics = server.request("GET", "/metrics").body.decode()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=40) == 0
    reader.join()
    os.close(reading)
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert 'scoring_requests_total{endpoint="predict",status="200"} 3.0' in metrics
    text = received.decode() if to_a_pipe else server.stdout.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {line["request_id"] for line in lines} == {"request-1", "request-100", "request-1000"}
    assert {line["type"] for line in lines} >= {"InputData", "OutputData"}
