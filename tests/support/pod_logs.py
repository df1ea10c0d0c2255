"""Output of pods for the log export: a Kubernetes API that serves it, and a container in memory that takes it."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

LINES = [
    b'2026-11-02T09:04:59.999999999Z {"type":"InputData","level":"info"}',
    b"2026-11-02T09:05:00.000000001Z plain WARNING text",
    b'2026-11-02T09:05:00.000000001Z {"half',
]


class Kubernetes(http.server.BaseHTTPRequestHandler):
    """Two namespaces; the pod of ``some-staging`` has not started, the other has written ``LINES``."""

    def do_GET(self):
        path = urlsplit(self.path).path
        if path.endswith("/log"):
            ready = "production" in path
            self.answer(200 if ready else 400, b"".join(line + b"\n" for line in self.server.lines) if ready else b"{}")
            return
        namespace = path.split("/")[4]
        pod = {
            "metadata": {"name": "scoring-1", "uid": namespace},
            "spec": {"nodeName": "node-1", "containers": []},
            "status": {"containerStatuses": [{
                "name": "scoring", "image": "i", "imageID": "i", "ready": True, "restartCount": 0,
                "containerID": "containerd://c0ffee",
            }]},
        }  # fmt: skip
        self.answer(200, json.dumps({"kind": "PodList", "apiVersion": "v1", "items": [pod]}).encode())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Quiet."""


class Container:
    """Append blobs in memory, with the calls of Azure's client that the exporter makes."""

    def __init__(self):
        self.blobs = {}

    def get_blob_client(self, name):
        return Blob(self.blobs, name)


class Blob:
    def __init__(self, blobs, name):
        self.blobs, self.name = blobs, name

    def exists(self):
        return self.name in self.blobs

    def create_append_blob(self):
        self.blobs[self.name] = b""

    def append_block(self, block):
        self.blobs[self.name] += block


@contextmanager
def kubernetes_api() -> Iterator[http.server.ThreadingHTTPServer]:
    """A running ``Kubernetes``, which serves whatever its ``lines`` are."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Kubernetes) as server:
        server.lines = list(LINES)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def records(container):
    return [json.loads(line) for name in sorted(container.blobs) for line in container.blobs[name].splitlines()]
