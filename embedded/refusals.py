"""What the disk refuses a process that has to go on."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class Refusals:
    """Lets a loop go on after an ``OSError``, and tells of each only once while it lasts."""

    def __init__(self, log: logging.Logger, waits: str) -> None:
        """``waits``: what is not done meanwhile; the error follows it in the log."""
        self._log = log
        self._waits = waits
        self.last = ""
        """What was refused at the last try; empty where nothing was."""

    @contextmanager
    def told(self) -> Iterator[None]:
        """Around one try."""
        try:
            yield
        except OSError as error:
            if str(error) != self.last:
                self._log.error("%s: %s", self._waits, error)
            self.last = str(error)
        else:
            self.last = ""
