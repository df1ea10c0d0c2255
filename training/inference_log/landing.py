"""Copy new bytes of exported blobs into Parquet files of raw lines, each byte once.

A blob grows after it was read, and a late record is appended to an old folder, so what was copied is kept
as byte ranges per blob in each night's manifest. A night copies what no other night's manifest covers, up
to the last newline: a line that is half written waits for the next night.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training.inference_log import layout

LINES_SCHEMA = pa.schema([("file_no", pa.int32()), ("byte_offset", pa.int64()), ("line", pa.string())])
FILE_BYTES = 64 * 2**20
"""Bytes of lines per Parquet file, about."""
_GZIP = b"\x1f\x8b"
_NEWLINE = 10


class Blob(msgspec.Struct, frozen=True):
    """One exported blob: its name within the container and its present size in bytes."""

    name: str
    size: int


class Range(msgspec.Struct, frozen=True):
    """Bytes ``[start, end)`` of a blob that a night copied; ``file_no`` names the blob in the night's tables.

    For a compressed blob the positions count decompressed bytes, and ``stored`` is its compressed size.
    """

    file_no: int
    blob: str
    start: int
    end: int
    stored: int
    lines: int
    compressed: bool = False


class Manifest(msgspec.Struct, frozen=True):
    """What one night copied. It is written last: a landing without it does not count."""

    night: str
    files: tuple[str, ...]
    ranges: tuple[Range, ...]

    @property
    def lines(self) -> int:
        return sum(part.lines for part in self.ranges)

    @property
    def bytes(self) -> int:
        return sum(part.end - part.start for part in self.ranges)


class Source(Protocol):
    """Where exported blobs are read from."""

    def blobs(self, first: date, last: date) -> list[Blob]:
        """The blobs in the folders of these days (UTC, both inclusive), sorted by name."""

    def read(self, name: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes ``[start, end)`` of a blob, in pieces."""


def read_manifest(tables: Any, night: date) -> Manifest | None:
    """The manifest of a night's landing, or ``None`` when the night has not been copied completely."""
    content = layout.read_json(layout.night_folder(tables, "landing", night) / layout.MANIFEST)
    return None if content is None else msgspec.convert(content, Manifest)


def land(source: Source, tables: Any, night: date, first: date, last: date) -> Manifest:
    """Copy what is new in the folders of ``first`` to ``last`` as night ``night``, and return what was copied.

    A night that has been copied already is left as it is. ``tables`` is a ``Path`` or a path of an object store.
    """
    if done := read_manifest(tables, night):
        return done
    folder = layout.night_folder(tables, "landing", night)
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in layout.entries(folder):
        leftover.unlink()
    covered = _covered(tables)
    ranges: list[Range] = []
    with _LineWriter(folder) as writer:
        for blob in source.blobs(first, last):
            ranges += _land_blob(source, blob, covered.get(blob.name, []), writer, len(ranges))
    manifest = Manifest(night=night.isoformat(), files=tuple(writer.files), ranges=tuple(ranges))
    layout.write_json(folder / layout.MANIFEST, msgspec.to_builtins(manifest))
    return manifest


def gaps(covered: Iterable[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """The parts of ``[0, size)`` that no range covers; ranges may touch, overlap and come in any order."""
    found = []
    position = 0
    for start, end in sorted(covered):
        if start > position:
            found.append((position, min(start, size)))
        position = max(position, end)
    if position < size:
        found.append((position, size))
    return [(start, end) for start, end in found if start < end]


def _covered(tables: Any) -> dict[str, list[Range]]:
    covered: dict[str, list[Range]] = {}
    for night in layout.partitions(tables, "landing"):
        if manifest := read_manifest(tables, night):
            for part in manifest.ranges:
                covered.setdefault(part.blob, []).append(part)
    return covered


def _land_blob(
    source: Source, blob: Blob, covered: Sequence[Range], writer: "_LineWriter", file_no: int
) -> list[Range]:
    """Copy a blob's new lines; returns one range for each gap that held a whole line."""
    if blob.size == 0:
        return []
    head = b"".join(source.read(blob.name, 0, min(2, blob.size)))
    if head == _GZIP:
        return _land_gzip(source, blob, covered, writer, file_no)
    ranges: list[Range] = []
    for start, end in gaps(((part.start, part.end) for part in covered), blob.size):
        number = file_no + len(ranges)
        copied, lines = writer.copy(source.read(blob.name, start, end), number, start)
        if copied:
            ranges.append(Range(number, blob.name, start, start + copied, blob.size, lines))
    return ranges


def _land_gzip(
    source: Source, blob: Blob, covered: Sequence[Range], writer: "_LineWriter", file_no: int
) -> list[Range]:
    """A compressed blob has no byte positions to resume at: when it has grown it is read again from its start."""
    if any(part.stored == blob.size for part in covered):
        return []
    done = max((part.end for part in covered), default=0)
    text = _skip(_decompress(source.read(blob.name, 0, blob.size)), done)
    copied, lines = writer.copy(text, file_no, done)
    return [Range(file_no, blob.name, done, done + copied, blob.size, lines, True)] if copied else []


def _decompress(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The content of one or more gzip members; a member that is cut short ends the content without an error."""
    machine = zlib.decompressobj(wbits=31)
    for chunk in chunks:
        rest = chunk
        while rest:
            if machine.eof:
                machine = zlib.decompressobj(wbits=31)
            yield machine.decompress(rest)
            rest = machine.unused_data


def _skip(chunks: Iterable[bytes], count: int) -> Iterator[bytes]:
    for chunk in chunks:
        skipped = min(count, len(chunk))
        count -= skipped
        if skipped < len(chunk):
            yield chunk[skipped:]


class _LineWriter:
    """Whole lines of a byte stream to numbered Parquet files. Memory holds about one file's bytes."""

    def __init__(self, folder: Any) -> None:
        self.files: list[str] = []
        self._folder = folder
        self._stack: list[Any] = []
        self._room = 0

    def __enter__(self) -> "_LineWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def copy(self, chunks: Iterable[bytes], file_no: int, start: int) -> tuple[int, int]:
        """Write the whole lines of a stream that begins at byte ``start``; returns (bytes, lines) written."""
        position, lines, tail = start, 0, b""
        for chunk in chunks:
            tail += chunk
            if (cut := tail.rfind(b"\n") + 1) == 0:
                continue
            lines += self._write(tail[:cut], file_no, position)
            position += cut
            tail = tail[cut:]
        return position - start, lines

    def _write(self, text: bytes, file_no: int, start: int) -> int:
        if self._room <= 0:
            self._close()
            name = f"lines-{len(self.files):05d}.parquet"
            stream = (self._folder / name).open("wb")
            self._stack = [pq.ParquetWriter(stream, LINES_SCHEMA, compression="zstd", compression_level=1), stream]
            self.files.append(name)
            self._room = FILE_BYTES
        table = _line_table(text, file_no, start)
        self._stack[0].write_table(table)
        self._room -= len(text)
        return int(table.num_rows)

    def _close(self) -> None:
        for opened in self._stack:
            opened.close()
        self._stack = []


def _line_table(text: bytes, file_no: int, start: int) -> pa.Table:
    """Newline-terminated text to rows, without a Python object per line."""
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == _NEWLINE) + 1
    starts = np.concatenate(([0], ends[:-1]))
    offsets = np.concatenate(([0], ends)).astype(np.int32)
    lines = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(text))
    try:
        lines.validate(full=True)
    except pa.ArrowInvalid:
        # Some line is not UTF-8. A backslash escape such as \xff is not JSON, so just that line ends in quarantine.
        parts = [text[begin:end].decode("utf-8", "backslashreplace") for begin, end in zip(starts, ends, strict=True)]
        lines = pa.array(parts, pa.string())
    return pa.table(
        [pa.array(np.full(len(ends), file_no, np.int32)), pa.array(starts + start), lines], schema=LINES_SCHEMA
    )
