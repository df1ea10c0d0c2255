"""A server that answers as it is told, and keeps what it was asked."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit


class Request(NamedTuple):
    """One request, as a server sees it."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    """JSON as it is, a form as a dictionary, a stream of bytes as text; ``None`` where there is none."""
    authorization: str = ""


def _read(content: bytes, kind: str) -> Any:
    if kind == "application/octet-stream":
        return content.decode()
    return dict(parse_qsl(content.decode())) if "form" in kind else json.loads(content)


Answer = Callable[[Request], tuple[int, Any]]
Challenge = Callable[[int], str]


class Double:
    """One server on a port of this machine."""

    def __init__(self, answer: Answer, challenge: Challenge | None = None) -> None:
        """``answer`` says status and JSON; ``challenge``, of the port, what a 401 has in its header."""
        self.seen: list[Request] = []
        double = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                parts = urlsplit(self.path)
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = _read(content, self.headers.get("Content-Type", "")) if content else None
                authorization = self.headers.get("Authorization") or ""
                request = Request(self.command, parts.path, dict(parse_qsl(parts.query)), body, authorization)
                double.seen.append(request)
                status, found = answer(request)
                text = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                if status == 401 and challenge:
                    self.send_header("WWW-Authenticate", challenge(double.port))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *arguments: Any) -> None:
                """Nothing: the test says what went wrong."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked(self, doing: Callable[[], object]) -> list[Request]:
        """What is asked while something is done."""
        before = len(self.seen)
        doing()
        return self.seen[before:]


@contextmanager
def serving(answer: Answer, challenge: Challenge | None = None) -> Iterator[Double]:
    """A double, as long as it is needed."""
    double = Double(answer, challenge)
    try:
        yield double
    finally:
        double.close()
