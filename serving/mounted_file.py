"""A file that others change while the server runs: a mounted Secret or ConfigMap, or a file on a laptop."""

import time
from pathlib import Path

LOOK_SECONDS = 0.5
"""For how long what was read counts: a change is obeyed by the first request after that."""


class MountedFile:
    """Reads a small file again once in ``LOOK_SECONDS``, when somebody asks: no request waits for it otherwise.

    The content itself is compared, as two versions of a file may have the same time and size.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._looked = -LOOK_SECONDS
        self._found: bytes | OSError | None = None

    def changed(self) -> bytes | OSError | None:
        """What is found now, if it is time to look and it is something else than before; otherwise ``None``.

        An ``OSError`` says why the file cannot be read, ``FileNotFoundError`` among others.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return None
        self._looked = now
        try:
            found: bytes | OSError = self.path.read_bytes()
        except OSError as error:
            found = error
        same = _told(found) == _told(self._found)
        self._found = found
        return None if same else found


def _told(found: bytes | OSError | None) -> object:
    return found.errno if isinstance(found, OSError) else found
