"""The layout of a Log Analytics export of ContainerLogV2, and the export in a local folder."""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

from training.inference_log.landing import Blob

WORKSPACES = "WorkspaceResourceId="
_CHUNK = 8 * 2**20
# Documented as PT05M.json and PT05M_1.json; deployments with PT5M.json have been seen.
_NAME = re.compile(r"(^|/)PT0?5M(_\d+)?\.json(\.gz)?$")
_DAY = re.compile(r"(^|/)y=(\d{4})/m=(\d\d)/d=(\d\d)/")


def is_export(name: str) -> bool:
    """Whether a blob of this name holds exported records."""
    return _NAME.search(name) is not None


def blob_of(name: str, size: int) -> Blob:
    """What the name of a blob says of it."""
    day = _DAY.search(name)
    return Blob(name, size, is_export(name), date(*map(int, day.groups()[1:])) if day else None)


def day_folders(first: date, last: date) -> list[str]:
    """The folders of these days below a workspace's folder."""
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return [f"y={day:%Y}/m={day:%m}/d={day:%d}" for day in days]


class FolderSource:
    """A local folder with the container's content. A folder that is not there yet holds nothing."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def blobs(self, first: date, last: date) -> list[Blob]:
        found = []
        for workspace in sorted({path.parent for path in self._root.glob(f"{WORKSPACES}*/**/y=*")}):
            for folder in (workspace / day for day in day_folders(first, last)):
                found += [path for path in folder.rglob("*") if path.is_file()]
        named = {path.relative_to(self._root).as_posix(): path for path in found}
        return [blob_of(name, path.stat().st_size) for name, path in sorted(named.items())]

    def read(self, name: str, start: int, end: int) -> Iterator[bytes]:
        with (self._root / name).open("rb") as file:
            file.seek(start)
            while start < end and (chunk := file.read(min(_CHUNK, end - start))):
                start += len(chunk)
                yield chunk
