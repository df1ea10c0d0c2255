"""The end of a worker, which loses nothing.

After SIGTERM readiness falls, requests are still taken for a while, the listen backlog is served, and a connection
that was promised to be kept is kept a while longer, for its client may be sending a request already. Every answer
says by now that the connection closes.
"""

import ctypes
import logging
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

from serving.fast_path import TICK, FastPathWorker

_CALM = 1.0  # seconds to wait for a moment without connections
_KEPT = 5.0  # seconds that idle connections are kept at the end
_SO_ATTACH_FILTER = 26
_log = logging.getLogger(__name__)


class ScoringWorker(FastPathWorker):
    """The worker that ``serving.gunicorn_config`` names: ``FastPathWorker`` with a drain."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: ``/readyz`` answers 503 from now on. A worker that has not begun has nothing to drain."""
        if self.booted:
            self.service.lifecycle.draining = True
        super().handle_exit(sig, frame)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Called with ``False`` when the worker ends: the place for a drain."""
        ending = not enabled and not self.alive
        if ending:
            self._serve_on()
            self._empty_backlog()
        super().set_accept_enabled(enabled)
        if ending:
            last = time.monotonic() + _KEPT
            for conn, wait in self.waiting.items():
                self.waiting[conn] = wait._replace(until=min(wait.until, last))
            self._serve_while(lambda: self.nr_conns > 0, self.cfg.graceful_timeout)

    def _serve_on(self) -> None:
        # A worker that is merely replaced has others beside it; the socket stays open in the master.
        draining = self.service.lifecycle.draining
        self._serve_while(lambda: True, self.service.settings.drain_seconds if draining else 0)

    def _empty_backlog(self) -> None:
        """Accept until nobody waits, best at a moment when nobody is served: a socket is closed at once then.

        What comes between the last look at the backlog and the closing is reset.
        """
        if self.service.lifecycle.stopping:
            for listener, address in zip(self.sockets, self.service.settings.binds, strict=True):
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
            self.wait_for_and_dispatch_events(timeout=min(left, TICK))
            self.murder_keepalived()


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
