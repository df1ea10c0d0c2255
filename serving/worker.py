"""Gunicorn's threaded worker, which serves predictions without changing threads, and with an end that loses nothing.

The main thread watches all connections. A plain prediction that has arrived whole it serves itself, as that waits for
nobody; everything else is left to the threads, and to gunicorn's HTTP. Passing every request and the interpreter to
and fro between threads takes a fifth of the requests.

After SIGTERM readiness falls, requests are still taken for a while, the listen backlog is served, and a
connection that was promised to be kept is kept until its client has been told otherwise.
"""

import ctypes
import io
import logging
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from gunicorn.workers.gthread import ThreadWorker

from serving.prediction_http import Prediction, answer_head, be_readable_at, prediction, send_now
from serving.service import Service

_TICK = 0.1
_CALM = 1.0  # seconds to wait for a moment without connections
_LINGER = 0.001  # seconds: about as long as a close client takes for its next request
_SO_ATTACH_FILTER = 26  # Linux; Python has no name for it
_log = logging.getLogger(__name__)


class _Answered(NamedTuple):
    """What the access log wants to know of a response."""

    status_code: int
    sent: int


class ScoringWorker(ThreadWorker):  # type: ignore[misc]
    """``ThreadWorker`` that serves predictions in its main thread, and drains."""

    alive: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arriving: set[Any] = set()
        """Connections whose prediction has begun to arrive."""

    @property
    def _service(self) -> Service:
        service: Service = self.wsgi.extensions["scoring"]
        return service

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: ``/readyz`` answers 503 from now on."""
        self._service.lifecycle.draining = True
        super().handle_exit(sig, frame)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Called with ``False`` when the worker ends: the place for a drain."""
        ending = not enabled and not self.alive
        if ending:
            self._serve_on()
            self._empty_backlog()
        super().set_accept_enabled(enabled)
        if ending:
            self._serve_while(lambda: self.nr_conns > 0, self.cfg.graceful_timeout)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Go on while requests follow closely: what gunicorn does between takes time, and is due now and then."""
        end = time.monotonic() + _TICK
        while events := self.poller.select(timeout):
            for key, _ in sorted(events, key=_last_served):
                key.data(key.fileobj)
            if not self.alive or self.nr_conns >= self.worker_connections or time.monotonic() > end:
                return
            timeout = _LINGER

    def enqueue_req(self, conn: Any) -> None:
        """A new connection waits for its first request where idle ones do; else a request is a thread's."""
        if conn.data_ready:
            super().enqueue_req(conn)
            return
        self._keep(conn)

    def on_client_socket_readable(self, conn: Any, client: Any) -> None:
        """Serve a prediction here once it has arrived whole and its log lines will be taken."""
        # Under TLS nobody but OpenSSL knows what has arrived.
        may_serve = not self.cfg.is_ssl and not _read_ahead(conn) and self._service.log.takes_lines()
        seen = prediction(client) if may_serve else None
        if seen is None:
            self._leave_to_thread(conn)
        elif seen.whole:
            self._serve_here(conn, seen)
        elif conn not in self._arriving:
            self._arriving.add(conn)
            be_readable_at(client, seen.size)
            self._touch(conn)
        else:  # the kernel has no room for all of it, or the client has gone
            self._leave_to_thread(conn)

    def murder_keepalived(self) -> None:
        """Close idle connections; one whose prediction takes its time to arrive is a thread's to wait for."""
        now = time.monotonic()
        for conn in [conn for conn in self._arriving if conn.timeout <= now]:
            self._leave_to_thread(conn)
        super().murder_keepalived()

    def finish_request(self, conn: Any, fs: "Future[Any]") -> None:
        """A thread is done with a request."""
        self._keep_or_close(conn, not fs.cancelled() and fs.exception() is None and fs.result() is True)

    def _keep_or_close(self, conn: Any, kept: bool) -> None:
        """Keep a connection whose client was told so, even if SIGTERM has come since; close others in a thread.

        Gunicorn would close the former, and the client's next request would be lost; that one's answer says close.
        It would close the latter in this thread, and wait up to two seconds for the client to close its end too.
        """
        if kept:
            self._keep(conn)
        else:
            self.nr_conns -= 1
            self.tpool.submit(conn.close, graceful=True)

    def _serve_here(self, conn: Any, seen: Prediction) -> None:
        self._no_longer_arriving(conn)
        try:
            kept, unsent = self._answer(conn, seen)
        except OSError as error:
            _log.debug("the client has gone: %s", error)
            kept, unsent = False, b""
        conn.last_served = time.monotonic()
        if kept and not unsent:
            self._touch(conn)
            return
        self.poller.unregister(conn.sock)
        self.keepalived_conns.remove(conn)
        if unsent:
            sending = self.tpool.submit(_send_rest, conn.sock, unsent, kept)
            sending.add_done_callback(lambda sent: self.method_queue.defer(self.finish_request, conn, sent))
        else:
            self._keep_or_close(conn, kept)

    def _answer(self, conn: Any, seen: Prediction) -> tuple[bool, bytes]:
        """Answer a prediction; returns whether its connection is kept, and what the client has not taken yet."""
        began = time.perf_counter()
        conn.sock.recv(seen.head)
        content = conn.sock.recv(seen.size - seen.head)
        address = conn.client[0] if isinstance(conn.client, tuple) else ""
        environ = {**seen.environ, "REMOTE_ADDR": address, "wsgi.input": io.BytesIO(content)}
        started: list[Any] = []
        body = b"".join(self.wsgi(environ, lambda *start: started.extend(start)))
        status, headers = started
        self._count_request()
        kept = (
            seen.keeps
            and self.alive
            and self.cfg.keepalive > 0
            and len(self.keepalived_conns) <= self.max_keepalived
            and len(content) == seen.size - seen.head
        )
        try:
            unsent = send_now(conn.sock, answer_head(status, headers, kept), body)
        finally:
            took = timedelta(seconds=time.perf_counter() - began)
            self.log.access(_Answered(int(status[:3]), len(body)), None, environ, took)
        return kept, unsent

    def _count_request(self) -> None:
        """As gunicorn does: after so many requests a worker is replaced."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False

    def _leave_to_thread(self, conn: Any) -> None:
        self._no_longer_arriving(conn)
        conn.data_ready = True  # so no thread waits for the first byte
        super().on_client_socket_readable(conn, conn.sock)

    def _no_longer_arriving(self, conn: Any) -> None:
        if conn in self._arriving:
            self._arriving.remove(conn)
            be_readable_at(conn.sock, 1)

    def _keep(self, conn: Any) -> None:
        conn.sock.setblocking(False)
        conn.set_timeout()
        self.keepalived_conns.append(conn)
        readable: Callable[[Any], None] = partial(self.on_client_socket_readable, conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, readable)

    def _touch(self, conn: Any) -> None:
        """Count the time of a kept connection anew; the one that times out first is in front."""
        conn.set_timeout()
        self.keepalived_conns.remove(conn)
        self.keepalived_conns.append(conn)

    def _serve_on(self) -> None:
        # A worker that is merely replaced has others beside it; the socket stays open in the master.
        draining = self._service.lifecycle.draining
        self._serve_while(lambda: True, self._service.settings.drain_seconds if draining else 0)

    def _empty_backlog(self) -> None:
        """Accept until nobody waits, best at a moment when nobody is served: a socket is closed at once then.

        What comes between the last look at the backlog and the closing is reset.
        """
        if self._service.lifecycle.stopping:
            for listener, address in zip(self.sockets, self._service.settings.binds, strict=True):
                if not address.startswith("fd://"):  # others listen on a socket that was handed to us
                    _refuse_new_connections(listener.sock)
        self._serve_while(lambda: self.nr_conns > 0 or self._backlog(), _CALM)
        self._serve_while(self._backlog, self.cfg.graceful_timeout)

    def _backlog(self) -> bool:
        return any(key.data == self.accept for key, _ in self.poller.select(0))

    def _serve_while(self, needed: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and needed():
            self.notify()
            self.wait_for_and_dispatch_events(timeout=min(left, _TICK))
            self.murder_keepalived()


def _last_served(event: tuple[selectors.SelectorKey, int]) -> float:
    """Who was served longest ago is first: a client that just misses a round would else wait for two, every time."""
    readable = event[0].data
    return getattr(readable.args[0], "last_served", 0.0) if isinstance(readable, partial) else 0.0


def _refuse_new_connections(listener: socket.socket) -> None:
    """Let the kernel drop every further handshake on a socket that is about to be closed.

    Closing a listening socket resets what waits in its backlog. With a packet filter that lets nothing
    through, nothing can join the backlog while it is emptied; a client's connect is then refused, as
    it should be, instead of accepted and reset. Other systems than Linux have no such filter.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))
    except OSError as error:
        _log.warning("the backlog may lose a connection at the end: %s", error)


def _read_ahead(conn: Any) -> bool:
    """Whether the parser holds bytes of a request to come, so that the socket has only its rest."""
    return bool(conn.initialized and conn.parser.unreader.buf.getbuffer().nbytes)


def _send_rest(client: socket.socket, unsent: bytes, kept: bool) -> bool:
    client.setblocking(True)
    client.sendall(unsent)
    return kept
