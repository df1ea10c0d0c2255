"""A signal ends a wait at once, however many come."""

import os
import signal
import threading
import time

from embedded.stop_signal import StopSignal


def test_wait_ends_with_the_signal_and_without_one_with_its_time():
    previous = signal.getsignal(signal.SIGUSR1)
    stop = StopSignal()
    try:
        stop.listen(signal.SIGUSR1)
        began = time.monotonic()
        assert not stop.wait(0.2)
        assert time.monotonic() - began >= 0.2
        threading.Timer(0.1, lambda: [os.kill(os.getpid(), signal.SIGUSR1) for _ in range(100)]).start()
        assert stop.wait(60)
        assert stop.given
    finally:
        signal.signal(signal.SIGUSR1, previous)
