"""A local double of a container registry: the calls of its HTTP API that a Docker engine pushes and asks with."""

import base64
import hashlib
import json
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs


class RegistryDouble:
    """Keeps blobs by digest and manifests by repository and reference; wants a login on every request.

    With ``token`` the login is taken for a token alone, by a server that a refusal names, as most registries do it.
    """

    def __init__(self, login: str, password: str, token: str = "") -> None:
        self.login = "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()
        self.token = token
        self.expected = f"Bearer {token}" if token else self.login
        self.scopes: list[str] = []
        """What tokens were asked for."""
        self.blobs: dict[str, bytes] = {}
        self.uploads: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        """Repository and tag or digest to media type and content."""
        double = self

        class Handler(_Handler):
            known = double

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    known: RegistryDouble
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, status: int, code: str, **headers: str) -> None:
        errors = {"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}
        self._answer(status, json.dumps(errors).encode(), Content_Type="application/json", **headers)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _handle(self) -> None:
        body, (path, _, query) = self._body(), self.path.partition("?")
        if path == "/token" and self.headers.get("Authorization") == self.known.login:
            self.known.scopes += parse_qs(query)["scope"]
            self._answer(200, json.dumps({"token": self.known.token}).encode())
        elif self.headers.get("Authorization") != self.known.expected:
            realm = f'realm="http://127.0.0.1:{self.known.port}/token",service="double"'
            self._refuse(
                401, "UNAUTHORIZED", WWW_Authenticate=f"Bearer {realm}" if self.known.token else f"Basic {realm}"
            )
        elif path == "/v2/":
            self._answer(200)
        elif found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            self._manifest(found[1], found[2], body)
        elif found := re.fullmatch(r"/v2/(.+)/blobs/uploads/(.*)", path):
            self._upload(found[1], found[2], body)
        elif (found := re.fullmatch(r"/v2/.+/blobs/(.+)", path)) and found[1] in self.known.blobs:
            self._answer(200, self.known.blobs[found[1]], Docker_Content_Digest=found[1])
        else:
            self._refuse(404, "BLOB_UNKNOWN")

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = _handle

    def _upload(self, repository: str, upload: str, body: bytes) -> None:
        uploads = self.known.uploads
        upload = upload or uuid.uuid4().hex
        uploads[upload] = uploads.get(upload, b"") + body
        place = {"Location": f"/v2/{repository}/blobs/uploads/{upload}", "Docker_Upload_UUID": upload}
        if self.command != "PUT":
            self._answer(202, **place, Range=f"0-{max(len(uploads[upload]) - 1, 0)}")
            return
        content = uploads.pop(upload)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.known.blobs[digest] = content
        self._answer(201, Location=f"/v2/{repository}/blobs/{digest}", Docker_Content_Digest=digest)

    def _manifest(self, repository: str, reference: str, body: bytes) -> None:
        manifests = self.known.manifests
        if self.command == "PUT":
            kept = (self.headers["Content-Type"], body)
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            manifests[repository, reference] = manifests[repository, digest] = kept
            self._answer(201, Docker_Content_Digest=digest)
        elif (repository, reference) in manifests:
            kind, content = manifests[repository, reference]
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            self._answer(200, content, Content_Type=kind, Docker_Content_Digest=digest)
        else:
            self._refuse(404, "MANIFEST_UNKNOWN")
