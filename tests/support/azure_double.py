"""A local double of what an ACR build talks to: the registry's ARM calls, blob storage, and the registry itself."""

import hashlib
import json
import re
import ssl
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

RUN_ID = "ca1"
DIGEST = "sha256:" + "cd" * 32


class AzureDouble:
    """What the double knows and has seen. ``statuses`` is what the run answers, poll by poll, the last for ever."""

    def __init__(self, certificate: Path) -> None:
        self.statuses = ["Queued", "Running", "Succeeded"]
        self.new_statuses: list[str] = []
        """What a run that is scheduled from now on answers, where that differs."""
        self.log = [b"", b"Step 1/2\n", b"Step 1/2\nStep 2/2\n"]
        """The run's log, poll by poll; empty means that the blob is not there yet."""
        self.error_message: str | None = None
        self.output_images = True
        self.content: dict[str, bytes] = {}
        """What the registry keeps: manifests by ``name:tag``, blobs by digest."""
        self.throttled: Counter[str] = Counter()
        """How many of the next calls, by action, are answered with 429 and told to come back in a second."""
        self.refuse: dict | None = None
        """Body of a 400 answer to scheduleRun."""
        self.calls: Counter[str] = Counter()
        self.scheduled: list[dict] = []
        self.context = b""
        self.upload_headers: dict[str, str] = {}
        self.polls = 0
        double = self

        class Handler(_Handler):
            known = double

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.url = f"https://localhost:{self.port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def push(self, name: str, labels: dict[str, str] | None) -> str:
        """Keep an image under ``repository:tag``, an index of several where it has no labels; returns its digest."""
        if labels is None:
            manifest = {"schemaVersion": 2, "manifests": []}
        else:
            blob = json.dumps({"architecture": "amd64", "config": {"Labels": labels}}).encode()
            self.content[_digest(blob)] = blob
            manifest = {"schemaVersion": 2, "config": {"digest": _digest(blob), "size": len(blob)}, "layers": []}
        self.content[name] = json.dumps(manifest).encode()
        return _digest(self.content[name])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def run(self) -> dict:
        status = self.statuses[min(self.polls, len(self.statuses) - 1)]
        images = []
        if status == "Succeeded" and self.output_images:
            repository, _, tag = (
                self.scheduled[-1]["imageNames"][0].partition(":") if self.scheduled else ("r", "", "t")
            )
            images = [{"registry": "r", "repository": repository, "tag": tag, "digest": DIGEST}]
        return {
            "properties": {
                "runId": RUN_ID,
                "status": status,
                "runErrorMessage": self.error_message,
                "outputImages": images,
            }
        }


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class _Handler(BaseHTTPRequestHandler):
    known: AzureDouble
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, body: object = None, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_POST(self) -> None:
        body, known = self._body(), self.known
        action = self.path.partition("?")[0].rpartition("/")[2]
        known.calls[action] += 1
        if self._throttle(action):
            return
        if action == "listBuildSourceUploadUrl":
            url = f"{known.url}/account/source/context.tar.gz?sig=upload"
            self._answer(200, {"uploadUrl": url, "relativePath": "source/context.tar.gz"})
        elif action == "scheduleRun":
            self._schedule(json.loads(body))
        elif action == "listLogSasUrl":
            self._answer(200, {"logLink": f"{known.url}/account/logs/run.log?sig=log"})
        elif action == "cancel":
            known.statuses = ["Canceled"]
            self._answer(200)
        elif action == "exchange":
            self._answer(200, {"refresh_token": "refresh"})
        elif action == "token":
            self._answer(200, {"access_token": "registry token"})
        else:
            self._answer(404, {"error": {"code": "NotFound", "message": self.path}})

    def _throttle(self, action: str) -> bool:
        """Answer 429 where this call is to be throttled."""
        if not self.known.throttled[action]:
            return False
        self.known.throttled[action] -= 1
        self._answer(429, {"error": {"code": "TooManyRequests", "message": "slow down"}}, {"Retry-After": "1"})
        return True

    def _schedule(self, request: dict) -> None:
        known = self.known
        if known.refuse:
            self._answer(400, known.refuse)
        else:
            known.scheduled.append(request)
            known.polls = 0
            known.statuses = known.new_statuses or known.statuses
            self._answer(200, known.run())

    def do_PUT(self) -> None:
        known = self.known
        known.calls["upload"] += 1
        known.context = self._body()
        known.upload_headers = dict(self.headers)
        self._answer(201, headers={"ETag": '"1"', "Last-Modified": "Sat, 21 Nov 2026 09:00:00 GMT"})

    def do_GET(self) -> None:
        known = self.known
        if "/runs/" in self.path:
            known.calls["get run"] += 1
            if self._throttle("get run"):
                return
            if f"/runs/{RUN_ID}" not in self.path:
                self._answer(404, {"error": {"code": "RunNotFound", "message": "no such run"}})
                return
            self._answer(200, known.run())
            known.polls += 1
        elif found := re.match(r"/v2/(?P<name>[^/]+)/(?P<kind>manifests|blobs)/(?P<reference>.+)", self.path):
            known.calls[found["kind"]] += 1
            kept = f"{found['name']}:{found['reference']}" if found["kind"] == "manifests" else found["reference"]
            self._answer(200 if kept in known.content else 404, known.content.get(kept, b""))
        else:
            self._log()

    def do_HEAD(self) -> None:
        self._log()

    def _log(self) -> None:
        known = self.known
        text = known.log[min(max(known.polls - 1, 0), len(known.log) - 1)]
        if not text:
            self._answer(404, headers={"x-ms-error-code": "BlobNotFound"})
            return
        about = {"Last-Modified": "Sat, 21 Nov 2026 09:00:00 GMT", "ETag": '"1"', "x-ms-blob-type": "AppendBlob"}
        asked = re.match(r"bytes=(\d+)-(\d+)", self.headers.get("x-ms-range") or self.headers.get("Range") or "")
        if asked and self.command == "GET":
            first, last = int(asked[1]), min(int(asked[2]), len(text) - 1)
            about["Content-Range"] = f"bytes {first}-{last}/{len(text)}"
            self._answer(206, text[first : last + 1], about)
        else:
            self._answer(200, text, about)
