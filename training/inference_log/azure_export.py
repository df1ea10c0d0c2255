"""The layout of a Log Analytics export of ContainerLogV2, and the export in a local folder."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

from training.inference_log.landing import Blob

_CHUNK = 8 * 2**20
# Documented as PT05M.json and PT05M_1.json; deployments with PT5M.json have been seen.
_NAME = re.compile(r"(^|/)PT0?5M(_\d+)?\.json(\.gz)?$")
_DAY = re.compile(r"(^|/)y=(\d{4})/m=(\d\d)/d=(\d\d)/")


def is_export(name: str) -> bool:
    """Whether a blob of this name holds exported records."""
    return _NAME.search(name) is not None


def blob_of(name: str, size: int) -> Blob:
    """What the name of a blob says of it. A folder whose name is not a date has no day."""
    day = None
    if found := _DAY.search(name):
        with contextlib.suppress(ValueError):
            day = date(*map(int, found.groups()[1:]))
    return Blob(name, size, is_export(name), day)


def blobs_until(last: date, found: Iterable[tuple[str, int]]) -> list[Blob]:
    """The blobs of these names and sizes, in order, but those in the folders of days after ``last``."""
    blobs = [blob_of(name, size) for name, size in sorted(found)]
    return [blob for blob in blobs if blob.day is None or blob.day <= last]


class FolderSource:
    """A local folder with the container's content. A folder that is not there yet holds nothing."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def blobs(self, last: date) -> list[Blob]:
        files = (path for path in self._root.rglob("*") if path.is_file())
        return blobs_until(last, ((path.relative_to(self._root).as_posix(), path.stat().st_size) for path in files))

    def read(self, name: str, start: int, end: int) -> Iterator[bytes]:
        with (self._root / name).open("rb") as file:
            file.seek(start)
            while start < end and (chunk := file.read(min(_CHUNK, end - start))):
                start += len(chunk)
                yield chunk
