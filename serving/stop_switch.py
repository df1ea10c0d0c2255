"""The stop switch: as long as its file is there, no record is scored. Nothing else changes: probes stay green."""

import logging
import threading
from pathlib import Path

import msgspec

from serving.errors import Stopped
from serving.mounted_file import MountedFile
from serving.scoring.described import described

_TEXT_LIMIT = 500
_UNSAID = "the stop file does not say why"
_log = logging.getLogger(__name__)


@described
class Stop(msgspec.Struct, frozen=True):
    """What the file says: JSON of this shape, or the reason alone as text."""

    reason: str = ""
    since: str = ""
    """When it was written, RFC 3339; empty where nobody has said so."""


class StopSwitch:
    """Follows the file. Thread-safe.

    Whatever is in it stops, also what cannot be read: only a file that is gone lets the server go on.
    """

    def __init__(self, path: Path | None) -> None:
        """``None``: there is no switch."""
        self._file = MountedFile(path) if path else None
        self._lock = threading.Lock()
        self._stop: Stop | None = None

    @property
    def stop(self) -> Stop | None:
        """Why this server scores nothing; ``None`` where it does."""
        if self._file is not None:
            with self._lock:
                found = self._file.changed()
                if found is not None:
                    self._take(_read(found))
        return self._stop

    def _take(self, stop: Stop | None) -> None:
        if stop:
            _log.warning("no record is scored from now on: %s", stop.reason)
        elif self._stop:
            _log.warning("records are scored again")
        self._stop = stop

    def refuse(self) -> None:
        """Raises ``Stopped`` while the file is there."""
        if stop := self.stop:
            raise Stopped(f"this service has been stopped: {stop.reason}")


def _read(found: bytes | OSError) -> Stop | None:
    if isinstance(found, FileNotFoundError | NotADirectoryError):
        return None
    if isinstance(found, OSError):
        return Stop(f"the stop file cannot be read: {found.strerror}")
    text = found.decode("utf-8", "replace").strip()
    try:
        stop = msgspec.json.decode(text, type=Stop)
    except msgspec.MsgspecError:
        stop = Stop(text)
    return Stop(" ".join(stop.reason.split())[:_TEXT_LIMIT] or _UNSAID, stop.since[:_TEXT_LIMIT])
