"""Gunicorn's threaded worker, with a drain: readiness falls first, and nothing in the backlog is dropped."""

import time
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from serving.service import Lifecycle

_TICK = 0.1


class ScoringWorker(ThreadWorker):  # type: ignore[misc]
    """``ThreadWorker`` that serves on while its readiness has fallen, and empties the listen backlog."""

    @property
    def _lifecycle(self) -> Lifecycle:
        lifecycle: Lifecycle = self.wsgi.extensions["scoring"].lifecycle
        return lifecycle

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: ``/readyz`` answers 503 from now on."""
        self._lifecycle.draining.set()
        super().handle_exit(sig, frame)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Before the worker stops to accept for good, serve who is on the way and who is waiting."""
        if not enabled and not self.alive:
            self._drain()
        super().set_accept_enabled(enabled)

    def _drain(self) -> None:
        settings = self.wsgi.extensions["scoring"].settings
        # A worker that is merely replaced has others beside it, and the socket stays open in the master.
        seconds = settings.drain_seconds if self._lifecycle.draining.is_set() else 0.0
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.notify()
            self.wait_for_and_dispatch_events(timeout=min(left, _TICK))
            self.murder_keepalived()
            self.murder_pending()
        while self._backlog():
            self.wait_for_and_dispatch_events(timeout=0)

    def _backlog(self) -> bool:
        """Whether a connection waits to be accepted."""
        return any(key.data == self.accept for key, _ in self.poller.select(0))
