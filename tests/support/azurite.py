"""Azurite, the emulator of Azure Storage, as a process of the tests."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.support.machine import free_ports

# Azurite's documented key of its one account: no secret.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextmanager
def running(home: Path) -> Iterator[str]:
    """Blobs and queues of an account that is empty at first: its connection string."""
    program = os.environ.get("AZURITE") or shutil.which("azurite")
    assert program, "Azurite is not installed: make test-azurite installs it"
    blobs, queues, tables = free_ports(3)
    ports = ["--blobPort", str(blobs), "--queuePort", str(queues), "--tablePort", str(tables)]
    command = [str(Path(program).absolute()), "--silent", "--location", str(home), "--skipApiVersionCheck", *ports]
    server = subprocess.Popen([*command, "--disableTelemetry"], start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        for port in (blobs, queues):
            while not _answers(port):
                assert server.poll() is None, "Azurite ended"
                assert time.monotonic() < deadline, "Azurite did not answer within 60 s"
                time.sleep(0.2)
        yield (
            f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={KEY};"
            f"BlobEndpoint=http://127.0.0.1:{blobs}/devstoreaccount1;"
            f"QueueEndpoint=http://127.0.0.1:{queues}/devstoreaccount1;"
        )
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def _answers(port: int) -> bool:
    try:
        requests.get(f"http://127.0.0.1:{port}/devstoreaccount1", timeout=2)
    except requests.ConnectionError:
        return False
    return True
