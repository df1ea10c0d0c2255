"""Debian's docker-registry: a real registry of images, as a process of this machine."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import requests

from tests.support.machine import eventually, free_port


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[int]:
    """One on a free port of this machine, which Docker engines take without TLS; ``folder`` is what it keeps."""
    port = free_port()
    configuration = folder / "registry.yaml"
    storage = {"filesystem": {"rootdirectory": str(folder / "storage")}, "delete": {"enabled": True}}
    configuration.write_text(json.dumps({"version": 0.1, "storage": storage, "http": {"addr": f"127.0.0.1:{port}"}}))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(configuration)], stdout=log, stderr=log)
    try:
        assert eventually(lambda: _answers(port)), f"no registry answers: {(folder / 'registry.log').read_text()}"
        yield port
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/v2/", timeout=5).ok
    except requests.ConnectionError:
        return False
