"""A second thread for a share of a large request, where the process may use a second core."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Work = TypeVar("Work")
Outcome = TypeVar("Outcome")


class Assistant(Generic[Work, Outcome]):
    """Does one kind of work, for one request at a time. Make it after forking: threads do not survive a fork."""

    def __init__(self, function: Callable[[Work], Outcome]) -> None:
        self._function = function
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="assistant")
        self._free = threading.Lock()

    def begin(self, work: Work) -> "Future[Outcome] | None":
        """Start on ``work``; ``None`` while another request is helped: do it yourself, as waiting gains nothing."""
        if not self._free.acquire(blocking=False):
            return None
        return self._pool.submit(self._do, work)

    def _do(self, work: Work) -> Outcome:
        try:
            return self._function(work)
        finally:
            self._free.release()
