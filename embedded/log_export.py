"""What Log Analytics data export does for a cluster: scoring servers' output as ContainerLogV2 blobs in a folder.

Lines go to ``am-containerlogv2/WorkspaceResourceId=.../y=/m=/d=/h=/m=/PT05M.json`` by the time at which
they were read. Every line is exported once: what is about to be appended is noted before, and a batch
that a killed exporter left half written is cut off and written again.
"""

import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from embedded.emulators.container_log import CONTAINER, Origin, blob_name, encoded, record
from embedded.environment import TARGETS
from embedded.refusals import Refusals
from training.use_case import Target

log = logging.getLogger("scoring_host")

_STATE_FILE = "export.json"
_POLL = 0.2
_BATCH = 4 * 2**20
_LINE_LIMIT = 16 * 2**10
"""Container runtimes split longer lines."""
_KEPT = 4
"""Output files of ended servers that are kept for reading, per slot."""

Namespace = Callable[[str, Target], str | None]
"""Use case and target to the namespace that the lines are from; ``None`` lets them wait."""


@dataclass
class _Pending:
    """A batch on its way: ``source`` up to ``end`` is appended to ``target``, which has ``size`` bytes before."""

    source: str
    end: int
    target: str
    size: int
    length: int


@dataclass
class _State:
    offsets: dict[str, int] = field(default_factory=dict)
    """Output file, relative to the folder of slots, to the number of bytes that are exported."""
    pending: _Pending | None = None


class Exporter:
    """Tails ``<slots>/<use case>/<target>/output/*.log`` into ``<exports>``; the only writer there."""

    def __init__(self, slots: Path, exports: Path, *, live_names: Callable[[], set[str]], namespace: Namespace) -> None:
        self._slots = slots
        self._exports = exports
        self._live_names = live_names
        self._namespace = namespace
        self._stop = threading.Event()
        self._state_file = slots / _STATE_FILE
        self._refusals = Refusals(log, "the output of the servers waits, for it cannot be exported")
        slots.mkdir(parents=True, exist_ok=True)
        self._state = self._load()
        self._recover()

    def run(self) -> None:
        """Export until ``stop`` is called, then once more. What a full disk refuses waits until there is room."""
        while not self._stop.wait(_POLL):
            self._try()
        self._try()

    def _try(self) -> None:
        with self._refusals.told():
            if self._refusals.last:  # what is in memory may be ahead of the files
                self._state = self._load()
                self._recover()
            self.export()

    def stop(self) -> None:
        self._stop.set()

    def export(self) -> int:
        """Export what has been written since the last time and return the number of records."""
        live = self._live_names()
        count = 0
        for path, namespace in self._files():
            count += self._export_file(path, namespace, finished=_server(path) not in live)
        self._delete_old(live)
        return count

    def _files(self) -> Iterator[tuple[Path, str]]:
        """The output files whose namespace is known, with it."""
        for target in TARGETS:
            for folder in sorted(self._slots.glob(f"*/{target}/output")):
                if namespace := self._namespace(folder.parent.parent.name, target):
                    yield from ((path, namespace) for path in sorted(folder.glob("*.log")))

    def _export_file(self, path: Path, namespace: str, *, finished: bool) -> int:
        name = str(path.relative_to(self._slots))
        count = 0
        while True:
            start = self._state.offsets.get(name, 0)
            with path.open("rb") as file:
                file.seek(start)
                data = file.read(_BATCH)
            end = data.rfind(b"\n") + 1
            if finished and len(data) < _BATCH:
                end = len(data)  # the last line of a killed server may lack its end
            if not end:
                return count
            count += self._append(name, _origin(path, namespace), start + end, data[:end])

    def _append(self, name: str, origin: Origin, end: int, data: bytes) -> int:
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
        lines = _split(data)
        content = b"".join(encoded(record(origin, now, line.decode(errors="replace"))) for line in lines)
        target = self._exports / CONTAINER / blob_name("embedded", now)
        target.parent.mkdir(parents=True, exist_ok=True)
        size = target.stat().st_size if target.exists() else 0
        relative = str(target.relative_to(self._exports))
        self._state.pending = _Pending(name, end, relative, size, len(content))
        self._save()
        with target.open("ab") as file:
            file.write(content)
        self._finish(self._state.pending)
        return len(lines)

    def _finish(self, pending: _Pending) -> None:
        self._state.offsets[pending.source] = pending.end
        self._state.pending = None
        self._save()

    def _recover(self) -> None:
        """Complete or undo what an earlier exporter was writing when it was killed."""
        pending = self._state.pending
        if pending is None:
            return
        target = self._exports / pending.target
        size = target.stat().st_size if target.exists() else 0
        if size == pending.size + pending.length:
            self._finish(pending)
            return
        if size > pending.size:
            os.truncate(target, pending.size)
        self._state.pending = None
        self._save()

    def _delete_old(self, live: set[str]) -> None:
        """Drop the output of servers that ended long ago, once all of it is exported."""
        for folder in self._slots.glob("*/*/output"):
            ended = [path for path in folder.glob("*.log") if _server(path) not in live]
            for path in sorted(ended, key=lambda item: item.stat().st_mtime)[: -2 * _KEPT]:
                name = str(path.relative_to(self._slots))
                if self._state.offsets.get(name, 0) == path.stat().st_size:
                    path.unlink()
                    self._state.offsets.pop(name, None)

    def _load(self) -> _State:
        if not self._state_file.exists():
            return _State()
        content = json.loads(self._state_file.read_text())
        pending = _Pending(**content["pending"]) if content["pending"] else None
        return _State(content["offsets"], pending)

    def _save(self) -> None:
        part = self._state_file.with_suffix(".part")
        part.write_text(json.dumps(asdict(self._state)))
        part.replace(self._state_file)


def _server(path: Path) -> str:
    return path.name.split(".")[0]


def _origin(path: Path, namespace: str) -> Origin:
    """``<use case>/<target>/output/<server>.<stdout or stderr>.log``"""
    server, source, _ = path.name.split(".")
    return Origin(namespace, server, socket.gethostname(), server, source)


def _split(data: bytes) -> list[bytes]:
    """Lines, long ones in pieces as a container runtime hands them on."""
    return [
        line[start : start + _LINE_LIMIT]
        for line in data.splitlines()
        if line
        for start in range(0, len(line), _LINE_LIMIT)
    ]
