"""The files in a watched folder, as the sweep finds them: the same versions that events tell of."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lifecycle.events import feeds
from lifecycle.events.feeds import File

SETTLE_SECONDS = 2.0
"""A file of a local folder counts once it has not changed for so long: it may still be written. Blobs appear whole.

One that is dated further ahead than this, by another machine's clock, counts too: nobody has written it just now.
"""


def listed(feed: str, folder: str) -> list[File]:
    """The files that count in a folder, local or ``abfs://connection@container/folder``; a missing one holds none."""
    return sorted(_blobs(feed, folder) if "://" in folder else local(feed, Path(folder)), key=lambda file: file.name)


def local(feed: str, folder: Path) -> Iterator[File]:
    """The files of a local folder that are not being written."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if not feeds.counts(feed, name):
            continue
        try:
            found = path.stat()
        except FileNotFoundError:  # moved away in between
            continue
        if path.is_file() and abs(time.time() - found.st_mtime) >= SETTLE_SECONDS:
            written = datetime.fromtimestamp(found.st_mtime, UTC).isoformat()
            yield File(feed, name, local_version(path), written, found.st_size)


def local_version(path: Path) -> str:
    """What stands for the ETag of a local file."""
    found = path.stat()
    return f"{found.st_mtime_ns:x}-{found.st_size:x}"


def _blobs(feed: str, folder: str) -> Iterator[File]:
    # Imported here: the Azure client takes seconds, and DAG files import this package.
    from airflow.sdk import ObjectStoragePath

    place = ObjectStoragePath(folder)
    top = f"{place.path.strip('/')}/"
    # What was listed before is another answer.
    place.fs.invalidate_cache()
    found: dict[str, dict[str, Any]] = place.fs.find(place.path, detail=True)
    for path, blob in found.items():
        name = path.strip("/").removeprefix(top)
        if feeds.counts(feed, name):
            written = blob["last_modified"].astimezone(UTC).isoformat()
            yield File(feed, name, str(blob["etag"]).strip('"'), written, int(blob["size"]))
