"""Gunicorn's threaded worker, with short requests served where all connections are watched: in the main thread.

A request that ``request_head`` can read waits in the poller until it is whole, and is then answered at once, as that
waits for nobody. All else goes to a thread, and to gunicorn's HTTP. Passing every request and the interpreter to and
fro between threads would cost a third of the requests.

Whoever is waited for has a time limit, whether the main thread or another one waits: no client can keep more than its
own connection from going on. When there is no room for a connection, the one whose limit is next makes room; when
answers that nobody takes need too much memory, the oldest one does.
"""

import functools
import io
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import closing
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey
from typing import Any, NamedTuple

from gunicorn import SERVER
from gunicorn.http import errors as http_errors
from gunicorn.http.wsgi import base_environ
from gunicorn.util import http_date
from gunicorn.workers.gthread import ThreadWorker

from serving.accounting import PROBLEM, request_id
from serving.errors import MEDIA_TYPE, InternalError, Problem, Refused
from serving.media import is_json
from serving.request_head import LARGEST, HeadTooLong, Seen, arrived, be_readable_at, look
from serving.service import Service

TICK = 0.1
_FOLLOWS = 0.001  # seconds: about as long as a close client takes for its next request
_LINGER = 2.0  # seconds that a client may take to close its end too
_PIECE = 1 << 16  # bytes of an unwanted body at a time
_MOST_HELD = 32 << 20
"""Bytes that all connections in the poller may hold: of requests, in the kernel, and as much of answers, here."""
_log = logging.getLogger(__name__)

_REFUSALS = {
    http_errors.LimitRequestLine: (HTTPStatus.REQUEST_URI_TOO_LONG, "the request line is longer than 4094 bytes"),
    http_errors.LimitRequestHeaders: (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "the header has more than 100 fields, or one of more than 8190 bytes",
    ),
    http_errors.UnsupportedTransferCoding: (HTTPStatus.NOT_IMPLEMENTED, "chunked is the one Transfer-Encoding taken"),
    http_errors.ExpectationFailed: (HTTPStatus.EXPECTATION_FAILED, "100-continue is the one Expect taken"),
}
_NOT_HTTP = (
    "the head of the request is not as HTTP/1.1 has it: a request line, then fields with nothing between name and "
    "colon, among them one Host, and either one Content-Length of digits or Transfer-Encoding: chunked"
)


class _Answered(NamedTuple):
    """What the access log wants to know of a response."""

    status: str
    sent: int


class _Wait(NamedTuple):
    """What a connection in the poller waits for."""

    ready: Callable[[Any], None]
    """Called with the socket when it can be read or written, whichever is waited for."""
    until: float
    give_up: Callable[[Any], None]
    """Called with the connection when nothing has come by then."""


class FastPathWorker(ThreadWorker):  # type: ignore[misc]
    """``ThreadWorker`` that serves short requests in its main thread."""

    alive: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.waiting: dict[Any, _Wait] = {}
        """The connections in the poller."""
        self._unread: dict[Any, int] = {}
        """Bytes of each answer that its client has not taken at once, the oldest first."""
        self._in_threads: dict[Any, float] = {}
        """When the connections that threads work on, or will, are cut off."""
        self._looked = 0.0
        self._base_environ = base_environ(self.cfg) | {
            "wsgi.multithread": True,
            "wsgi.url_scheme": "http",
            "SCRIPT_NAME": "",
            "SERVER_PROTOCOL": "HTTP/1.1",
        }

    @property
    def service(self) -> Service:
        service: Service = self.wsgi.extensions["scoring"]
        return service

    # ---- connections come, wait and go: gunicorn calls these ----

    def accept(self, listener: Any) -> None:
        """Take a connection. Where there are as many as may be, the one whose limit is next makes room."""
        if self.nr_conns >= self.worker_connections - 1 and self.waiting:
            self._drop(min(self.waiting, key=lambda conn: self.waiting[conn].until))
        super().accept(listener)

    def enqueue_req(self, conn: Any) -> None:
        """A new connection waits for its request in the poller, as idle ones do."""
        conn.wanted, conn.last_served, conn.ahead = 1, 0.0, b""
        conn.environ = self._base_environ | _addresses(conn)
        conn.on_readable = partial(self.on_client_socket_readable, conn)
        self._wait(conn, conn.on_readable, self._deadline, self._drop)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Go on while requests follow closely: what gunicorn does between takes time, and is due now and then.

        Who was served longest ago is first. A client that just misses a round would otherwise wait for two, every
        time.
        """
        end = time.monotonic() + TICK
        while events := self.poller.select(timeout):
            for key, _ in sorted(events, key=_last_served):
                key.data(key.fileobj)
            if not self.alive or self.nr_conns >= self.worker_connections or time.monotonic() > end:
                return
            timeout = _FOLLOWS

    def murder_keepalived(self, force: bool = False) -> None:
        """Between rounds: end the waits that are over (``force``: all in the poller), and write access lines."""
        now = time.monotonic()
        if force or now - self._looked >= TICK:
            self._looked = now
            self._end_waits(now, force)
        self.log.write_access()

    def _end_waits(self, now: float, force: bool) -> None:
        """In the poller and in threads."""
        for conn, wait in list(self.waiting.items()):
            if force or wait.until <= now:
                wait.give_up(conn)
        for conn, until in list(self._in_threads.items()):
            if conn.sock in self.service.waiting_for_us:
                self._in_threads[conn] = self._deadline
            elif until <= now:
                _cut_off(conn.sock)

    def finish_request(self, conn: Any, fs: "Future[Any]") -> None:
        """A thread is done with a request."""
        del self._in_threads[conn]
        kept = not fs.cancelled() and fs.exception() is None and fs.result() is True
        conn.ahead = conn.parser.unreader.buf.getvalue() if kept else b""
        if conn.sock.fileno() < 0:
            self.nr_conns -= 1
        elif conn.ahead:  # the next request, or a part of it, which gunicorn has read with the last one
            self._wait(conn, conn.on_readable, self._deadline, self._refuse_slow)
            self.on_client_socket_readable(conn, conn.sock)
        else:
            self._after_answer(conn, kept)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """In a thread: answer what gunicorn refuses: its own answer is HTML, and its log line quotes the client."""
        problem: Problem = InternalError("the log has the reason")
        if isinstance(exc, http_errors.ParseException | OSError):
            problem = Refused(*_REFUSALS.get(type(exc), (HTTPStatus.BAD_REQUEST, _NOT_HTTP)))
            _log.warning("a request was refused: %s", type(exc).__name__)
        else:
            _log.error("a request failed", exc_info=exc)
        try:
            self._refuse(problem, addr, client.sendall)
        except OSError as error:
            _log.debug("the client has gone: %s", error)

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        """In a thread, after the answer: whether the connection goes on. A thread waits for no body that nobody wants.

        Whoever has no key is answered by the head alone. Gunicorn would then wait for the body, and a client that sends
        it slowly would hold a thread. Here the rest is read as far as it has come; the poller throws the others away.
        """
        if not keepalive:
            return False
        conn.sock.setblocking(False)
        left = LARGEST
        try:
            while left > 0 and (piece := conn.parser.mesg.body.read(_PIECE)):
                left -= len(piece)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except http_errors.ParseException as error:
            _log.warning("what followed a request is not HTTP: %s", type(error).__name__)
            return False
        return left > 0

    # ---- the poller's callbacks ----

    def on_client_socket_readable(self, conn: Any, client: Any) -> None:
        """Serve a request here once it has arrived whole and nothing is to be waited for."""
        if self.cfg.is_ssl:  # nobody but OpenSSL knows what has arrived
            self._leave_to_thread(conn)
            return
        try:
            seen = look(client, conn.ahead)
            here = arrived(client)
        except BlockingIOError:
            return
        except HeadTooLong as error:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self._refuse_here(conn, Refused(status, str(error)))
            return
        except OSError as error:
            _log.debug("a connection has ended: %s", error)
            self._drop(conn)
            return
        if seen and conn.wanted < seen.size > here and self._has_room(seen):
            if conn.wanted == 1:
                self._wait(conn, conn.on_readable, self._deadline, self._refuse_slow)
            _want(conn, seen.size)
        elif seen and seen.head and seen.size <= here and self._may_serve(seen):
            _want(conn, 1)
            self._serve(conn, seen)
        else:  # also when the kernel has no room for all of it, or the client has half gone
            self._leave_to_thread(conn)

    def _has_room(self, seen: Seen) -> bool:
        """Whether the kernel may keep this request until it is whole; it keeps less of what threads read."""
        return not seen.head or sum(conn.wanted for conn in self.waiting) + seen.size <= _MOST_HELD

    def _may_serve(self, seen: Seen) -> bool:
        """Probes always; a prediction when no thread computes, and its log lines will be taken. Reasons and files take
        long, and so may a query that is not spelled plainly."""
        service = self.service
        if seen.environ["REQUEST_METHOD"] == "GET":
            return True
        query = seen.environ["QUERY_STRING"]
        if "explain" in query or "%" in query or service.may_wait_for_keys(seen.environ):
            return False
        if not is_json(seen.environ.get("CONTENT_TYPE", ""), seen.environ.get("HTTP_ACCEPT", "")):
            return False
        return service.log.takes_lines() and not service.computing.locked()

    def _serve(self, conn: Any, seen: Seen) -> None:
        began = time.perf_counter()
        try:
            whole = conn.sock.recv(seen.size)
        except OSError as error:
            _log.debug("a connection has ended: %s", error)
            self._drop(conn)
            return
        complete = len(whole) == seen.size
        environ = conn.environ | seen.environ | {"wsgi.input": io.BytesIO(whole[seen.head :])}
        del whole  # so that a large body is in memory once while it is worked on
        started: list[Any] = []
        try:
            with closing(self.wsgi(environ, lambda *start: started.extend(start))) as pieces:
                body = b"".join(pieces)
        except Exception as error:  # noqa: BLE001 - the boundary, as in a thread; Flask answers its own
            self.handle_error(None, conn.sock, conn.client, error)
            self._after_answer(conn, False)
            return
        status, headers = started[:2]
        self._count_request()
        kept = seen.keeps and self.alive and complete
        conn.last_served = time.monotonic()
        self._send(conn, memoryview(_head(status, headers, kept) + body), kept, self._deadline)
        took = timedelta(seconds=time.perf_counter() - began)
        self.log.access(_Answered(status, len(body)), None, environ, took)

    def _count_request(self) -> None:
        """As gunicorn does: after so many requests a worker is replaced."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False

    def _refuse_slow(self, conn: Any) -> None:
        """Tell a client that its request did not become whole in time."""
        seconds = self.service.settings.client_timeout
        detail = f"the request was not whole {seconds} s after it had begun"
        self._refuse_here(conn, Refused(HTTPStatus.REQUEST_TIMEOUT, detail))

    def _refuse_here(self, conn: Any, problem: Problem) -> None:
        """In the main thread: answer a request of which nothing has been taken from the socket."""
        _want(conn, 1)
        self._refuse(problem, conn.client, lambda answer: self._send(conn, memoryview(answer), False, self._deadline))

    def _send(self, conn: Any, answer: memoryview, kept: bool, until: float) -> None:
        """Send what the client takes at once, and the rest when it takes more."""
        try:
            sent = conn.sock.send(answer)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            _log.debug("the client has gone: %s", error)
            self._drop(conn)
            return
        if sent == len(answer):
            self._after_answer(conn, kept)
        else:
            rest = answer[sent:]
            self._wait(conn, lambda _: self._send(conn, rest, kept, until), until, self._drop, EVENT_WRITE)
            self._unread[conn] = max(len(answer), self._unread.get(conn, 0))
            while sum(self._unread.values()) > _MOST_HELD:
                self._drop(next(iter(self._unread)))

    def _after_answer(self, conn: Any, kept: bool) -> None:
        """Keep a connection whose client was told so, even if SIGTERM has come since; close others.

        Gunicorn would close the former, and the client's next request would be lost; that one's answer says close.
        A close waits for the client's, so that no reset takes the answer away.
        """
        self._unread.pop(conn, None)
        if kept:
            self._wait(conn, conn.on_readable, time.monotonic() + self.cfg.keepalive, self._drop)
            return
        _cut_off(conn.sock, socket.SHUT_WR)
        self._wait(conn, lambda client: self._linger(conn, client), time.monotonic() + _LINGER, self._drop)

    def _linger(self, conn: Any, client: Any) -> None:
        try:
            if client.recv(1 << 16):
                return
        except BlockingIOError:
            return
        except OSError as error:
            _log.debug("the client has gone: %s", error)
        self._drop(conn)

    def _refuse(self, problem: Problem, client: Any, send: Callable[[bytes], None]) -> None:
        """Answer a request that no route has seen. The log has its line afterwards, so that it cannot be in the way."""
        environ: dict[str, Any] = {"REMOTE_ADDR": client[0] if isinstance(client, tuple) else "", PROBLEM: problem.name}
        identity = request_id(environ)
        document = problem.document(identity)
        status = f"{int(problem.status)} {problem.status.phrase}"
        headers = [("Content-Type", MEDIA_TYPE), ("Content-Length", str(len(document))), ("X-Request-ID", identity)]
        send(_head(status, headers, False) + document)
        self.service.metrics.answered("other", int(problem.status), 0.0)
        self.log.access(_Answered(status, len(document)), None, environ, timedelta(0))

    # ---- the states of a connection ----

    @property
    def _deadline(self) -> float:
        return time.monotonic() + self.service.settings.client_timeout

    def _wait(
        self,
        conn: Any,
        ready: Callable[[Any], None],
        until: float,
        give_up: Callable[[Any], None],
        event: int = EVENT_READ,
    ) -> None:
        """Let a connection wait in the poller."""
        before = self.waiting.get(conn)
        if before is None:
            conn.sock.setblocking(False)
            self.poller.register(conn.sock, event, ready)
        elif before.ready is not ready:
            self.poller.modify(conn.sock, event, ready)
        self.waiting[conn] = _Wait(ready, until, give_up)

    def _leave_to_thread(self, conn: Any) -> None:
        _want(conn, 1)
        if self.waiting.pop(conn, None):
            self.poller.unregister(conn.sock)
        self._in_threads[conn] = self._deadline
        conn.data_ready = True  # so no thread waits for the first byte
        super().enqueue_req(conn)

    def _drop(self, conn: Any) -> None:
        """End a connection at once, if it has not ended already."""
        self._unread.pop(conn, None)
        if not self.waiting.pop(conn, None):
            return
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()


def _want(conn: Any, count: int) -> None:
    if conn.wanted != count:
        conn.wanted = count
        be_readable_at(conn.sock, count)


def _cut_off(client: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    """Wake whoever waits for this client: nothing more comes from it, or goes to it."""
    try:
        client.shutdown(how)
    except OSError as error:
        _log.debug("the client has gone: %s", error)


def _last_served(event: tuple[SelectorKey, int]) -> float:
    readable = event[0].data
    return getattr(readable.args[0], "last_served", 0.0) if isinstance(readable, partial) else 0.0


def _addresses(conn: Any) -> dict[str, str]:
    """Both ends of a connection, as WSGI has them; a Unix socket has neither host nor port."""
    client, server = (end if isinstance(end, tuple) else ("", "") for end in (conn.client, conn.server))
    return {
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
    }


_date = functools.lru_cache(maxsize=1)(http_date)
"""A second's date."""


def _head(status: str, headers: Iterable[tuple[str, str]], kept: bool) -> bytes:
    """What comes before the body of an answer."""
    lines = [f"HTTP/1.1 {status}", f"Server: {SERVER}", f"Date: {_date(int(time.time()))}"]
    lines.append(f"Connection: {'keep-alive' if kept else 'close'}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
