"""A request to stop that comes as a signal."""

import signal
import time

_POLL = 0.1  # seconds


class StopSignal:
    """Whether one of some signals has come.

    A plain flag that is looked at now and then: an ``Event`` waits for a lock of its own, which the very code that
    the signal interrupts may hold.
    """

    def __init__(self) -> None:
        self.given = False

    def listen(self, *numbers: signal.Signals) -> None:
        """Take these signals from now on; in the main thread."""
        for number in numbers:
            signal.signal(number, self._give)

    def wait(self, seconds: float) -> bool:
        """Wait until a signal comes, at most so long; whether one has."""
        end = time.monotonic() + seconds
        while not self.given and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _POLL))
        return self.given

    def _give(self, *_: object) -> None:
        self.given = True
