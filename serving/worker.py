"""Gunicorn's threaded worker, with an end that loses nothing.

After SIGTERM readiness falls, requests are still taken for a while, the listen backlog is served, and a
connection that was promised to be kept is kept until its client has been told otherwise.
"""

import ctypes
import logging
import select
import selectors
import socket
import struct
import time
from functools import partial
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from serving.service import Service

_TICK = 0.1
_LINGER = 0.001
"""Seconds that a thread waits for the next request of its connection: about as long as a close client takes."""
_SO_ATTACH_FILTER = 26
_log = logging.getLogger(__name__)


class ScoringWorker(ThreadWorker):  # type: ignore[misc]
    """``ThreadWorker`` that drains."""

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
            self._finish_connections()

    def handle(self, conn: Any) -> Any:
        """Serve a connection's next request at once where it follows closely and every connection has its thread.

        Handing a connection back to gunicorn's main thread and out again is a third of what gunicorn does.
        """
        kept = super().handle(conn)
        while kept is True and self.alive and self.nr_conns <= self.cfg.threads and _readable(conn.sock, _LINGER):
            kept = super().handle(conn)
        return kept

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Keep a connection whose client was told so, though SIGTERM has come since.

        Gunicorn would close it, and the client's next request would be lost; that one's answer says close.
        """
        kept = not fs.cancelled() and fs.exception() is None and fs.result() is True
        if self.alive or not kept:
            super().finish_request(conn, fs)
            return
        conn.sock.setblocking(False)
        conn.set_timeout()
        self.keepalived_conns.append(conn)
        readable = partial(self.on_client_socket_readable, conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, readable)

    def _serve_on(self) -> None:
        # A worker that is merely replaced has others beside it; the socket stays open in the master.
        draining = self._service.lifecycle.draining
        self._serve_until(time.monotonic() + (self._service.settings.drain_seconds if draining else 0))

    def _empty_backlog(self) -> None:
        if self._service.lifecycle.stopping:
            for listener, address in zip(self.sockets, self._service.settings.binds, strict=True):
                if not address.startswith("fd://"):  # others listen on a socket that was handed to us
                    _refuse_new_connections(listener.sock)
        while any(key.data == self.accept for key, _ in self.poller.select(0)):
            self.wait_for_and_dispatch_events(timeout=0)

    def _finish_connections(self) -> None:
        end = time.monotonic() + self.cfg.graceful_timeout
        while self.nr_conns > 0 and time.monotonic() < end:
            self._serve_until(time.monotonic() + _TICK)

    def _serve_until(self, moment: float) -> None:
        while (left := moment - time.monotonic()) > 0:
            self.notify()
            self.wait_for_and_dispatch_events(timeout=min(left, _TICK))
            self.murder_keepalived()
            self.murder_pending()


def _refuse_new_connections(listener: socket.socket) -> None:
    """Let the kernel drop every further handshake on a socket that is about to be closed.

    Closing a listening socket resets what waits in its backlog. With a packet filter that lets nothing
    through, nothing can join the backlog while it is emptied; a client's connect is then refused, as
    it should be, instead of accepted and reset.
    """
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))
    except OSError as error:
        _log.warning("the backlog may lose a connection at the end: %s", error)


def _readable(sock: socket.socket, seconds: float) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
