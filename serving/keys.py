"""API keys: only their hashes are held, from a file that may change while the server runs."""

import hashlib
import hmac
import logging
import threading
import time
from pathlib import Path

import msgspec

from serving.errors import KeyMissing, KeyRefused, NotReady
from serving.mounted_file import MountedFile
from serving.settings import SettingsError

_GRACE_SECONDS = 3.0
"""For how long the keys stay known when their file cannot be used: an editor empties a file before it writes it."""
_log = logging.getLogger(__name__)


class ApiKeys:
    """The keys of a file ``{"client name": "sha256 of the key in hex"}``. Thread-safe.

    A changed file counts within a second. ``{}`` lets nobody in; so does a file that is gone, empty or broken.
    """

    def __init__(self, path: Path) -> None:
        """Read the file; raises ``SettingsError`` when it cannot be used."""
        self._file = MountedFile(path)
        self._lock = threading.Lock()
        self._hashes = self._read(self._file.changed() or b"")
        self._unusable_since: float | None = None

    def client(self, key: str | None) -> str:
        """The name of the client whose key it is; raises ``KeyMissing``, ``KeyRefused`` or ``NotReady``."""
        if not key:
            raise KeyMissing("send the key in the header X-API-Key")
        self._follow()
        unusable = self._unusable_since
        if unusable is not None and time.monotonic() - unusable > _GRACE_SECONDS:
            raise NotReady("this server's file of API keys cannot be used, so no key is known")
        digest = hashlib.sha256(key.encode("latin-1", "replace")).digest()
        found = ""
        for name, known in self._hashes:  # all of them, so that the time tells nothing
            if hmac.compare_digest(digest, known):
                found = name
        if not found:
            raise KeyRefused("this server does not know the key in X-API-Key")
        return found

    def _follow(self) -> None:
        """Take up a change of the file."""
        with self._lock:
            found = self._file.changed()
            if found is None:
                return
            try:
                self._hashes, self._unusable_since = self._read(found), None
                _log.info("API keys read again: %d clients", len(self._hashes))
            except SettingsError as error:
                if self._unusable_since is None:
                    self._unusable_since = time.monotonic()
                _log.error("no API key will be known until this is mended: %s", error)

    def _read(self, found: bytes | OSError) -> tuple[tuple[str, bytes], ...]:
        wanted = f'the API key file {self._file.path} must be {{"client name": "SHA-256 of the key in hex"}}'
        if isinstance(found, OSError):
            raise SettingsError(f"the API key file {self._file.path} cannot be read: {found.strerror}") from found
        try:
            hashes = msgspec.json.decode(found, type=dict[str, str])
            keys = tuple((name, bytes.fromhex(digest)) for name, digest in hashes.items())
        except ValueError:  # msgspec's errors too; their text may hold what the file holds
            raise SettingsError(f"{wanted}; it is not") from None
        if any(len(digest) != 32 or not name for name, digest in keys):
            raise SettingsError(f"{wanted}; it is not")
        return keys
