"""Copy new bytes of exported blobs into Parquet files of raw lines, each byte once.

A blob grows after it was read, and a late record is appended to an old folder, so what was copied is kept
as byte ranges per blob in each night's manifest. A night copies what no other night's manifest covers.

What follows the last newline of a blob is copied where it is a whole record (newlines may separate records and need
not end them). Otherwise it is a line that is half written, and waits. It waits until the blob has not grown from one
look to the next, or its folder is looked at for the last time: then it is copied as it is, and ends in quarantine
where it is not a record. Blank lines and byte-order marks hold nothing, and are not lines.

The folders of older days are not read again. What they hold and no night has read is told by day, once.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from training.inference_log import layout

LINES_SCHEMA = pa.schema([("file_no", pa.int32()), ("byte_offset", pa.int64()), ("line", pa.string())])
FILE_BYTES = 64 * 2**20
"""Bytes of lines per Parquet file, about."""
_GZIP = b"\x1f\x8b"
_MARK = b"\xef\xbb\xbf"
"""UTF-8's byte-order mark."""
_BLANK_BYTES = 8
"""Where no line is as short as this, none is looked at for being blank."""
_BROKEN = b"compressed bytes that cannot be unpacked"
_NEWLINE = 10


class Blob(msgspec.Struct, frozen=True):
    """One exported blob: its name within the container and its present size in bytes."""

    name: str
    size: int
    exported: bool = True
    """Its name is that of an export's blob. Others are not read."""
    day: date | None = None
    """The day of its folder, which is looked at a number of nights; one without a day is looked at every night."""


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
    whole: bool = True
    """Nothing of the blob as it was then is left to be read."""


class Waiting(msgspec.Struct, frozen=True):
    """The end of a blob that may be half a line: its bytes, and the blob's size when it was looked at."""

    blob: str
    bytes: int
    stored: int


class Unread(msgspec.Struct, frozen=True):
    """What the folder of a day holds that no night has read, although none will look at it again."""

    day: str
    blobs: int
    bytes: int
    """As stored: compressed ones of a compressed blob."""
    stored: int
    """The size of these blobs, which changes when more is appended to one."""


class Manifest(msgspec.Struct, frozen=True):
    """What one night copied. It is written last: a landing without it does not count."""

    night: str
    files: tuple[str, ...]
    ranges: tuple[Range, ...]
    waiting: tuple[Waiting, ...] = ()
    strange: tuple[str, ...] = ()
    """Files in the folders of the export that no export is named like; they are not read."""
    blobs: int = 0
    """Exported blobs that were looked at, with and without something new."""
    unread: tuple[Unread, ...] = ()
    """Of older days, what no earlier night has told already."""

    @property
    def lines(self) -> int:
        return sum(part.lines for part in self.ranges)

    @property
    def bytes(self) -> int:
        return sum(part.end - part.start for part in self.ranges)


class Source(Protocol):
    """Where exported blobs are read from."""

    def blobs(self, last: date) -> list[Blob]:
        """All blobs but those in the folders of days after ``last`` (UTC), sorted by name."""

    def read(self, name: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes ``[start, end)`` of a blob, in pieces."""


def read_manifest(tables: Any, night: date) -> Manifest | None:
    """The manifest of a night's landing, or ``None`` when the night has not been copied completely."""
    content = layout.read_json(layout.night_folder(tables, "landing", night) / layout.MANIFEST)
    return None if content is None else msgspec.convert(content, Manifest)


def land(source: Source, tables: Any, night: date, first: date, last: date) -> Manifest:
    """Copy what is new in the folders of ``first`` to ``last`` as night ``night``, and return what was copied.

    Of folders before ``first`` it is noted what no night has read. A night that has been copied already is left as it
    is. ``tables`` is a ``Path`` or a path of an object store.
    """
    if done := read_manifest(tables, night):
        return done
    folder = layout.night_folder(tables, "landing", night)
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in layout.entries(folder):
        leftover.unlink()
    covered, looked_at, told = _known(tables)
    listed = source.blobs(last)
    current = [blob for blob in listed if blob.day is None or blob.day >= first]
    exported = [blob for blob in current if blob.exported]
    ranges: list[Range] = []
    waiting: list[Waiting] = []
    with _LineWriter(folder) as writer:
        for blob in exported:
            complete = blob.size in looked_at.get(blob.name, ()) or blob.day == first
            copied, left = _land_blob(source, blob, covered.get(blob.name, []), writer, len(ranges), complete)
            ranges += copied
            waiting += [Waiting(blob.name, left, blob.size)] if left else []
    manifest = Manifest(
        night=night.isoformat(),
        files=tuple(writer.files),
        ranges=tuple(ranges),
        waiting=tuple(waiting),
        # Storage with folders of its own lists those as well, and they are empty.
        strange=tuple(blob.name for blob in current if blob.size and not blob.exported),
        blobs=len(exported),
        unread=tuple(one for one in _left_behind(listed, first, covered) if (one.day, one.stored) not in told),
    )
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


def _known(tables: Any) -> tuple[dict[str, list[Range]], dict[str, set[int]], set[tuple[str, int]]]:
    """Over all nights: by blob, what was copied and the sizes that it was seen with; and what was told as unread."""
    covered: dict[str, list[Range]] = {}
    looked_at: dict[str, set[int]] = {}
    told: set[tuple[str, int]] = set()
    for night in layout.partitions(tables, "landing"):
        if manifest := read_manifest(tables, night):
            for part in manifest.ranges:
                covered.setdefault(part.blob, []).append(part)
                looked_at.setdefault(part.blob, set()).add(part.stored)
            for end in manifest.waiting:
                looked_at.setdefault(end.blob, set()).add(end.stored)
            told |= {(one.day, one.stored) for one in manifest.unread}
    return covered, looked_at, told


def _left_behind(listed: Iterable[Blob], first: date, covered: dict[str, list[Range]]) -> list[Unread]:
    """What the folders of days before ``first`` hold that no night has read, in order."""
    days: dict[date, list[tuple[int, int]]] = defaultdict(list)
    for blob in listed:
        if blob.exported and blob.day is not None and blob.day < first:
            days[blob.day].append((_unread_bytes(covered.get(blob.name, []), blob.size), blob.size))
    found = []
    for day in sorted(days):
        if late := [(unread, size) for unread, size in days[day] if unread]:
            found.append(Unread(day.isoformat(), len(late), sum(one[0] for one in late), sum(one[1] for one in late)))
    return found


def _unread_bytes(covered: Sequence[Range], size: int) -> int:
    """How many bytes of a blob no range covers; of a compressed one, by how much it has grown since it was whole."""
    if any(part.compressed for part in covered):
        return max(size - max((part.stored for part in covered if part.whole), default=0), 0)
    return sum(end - start for start, end in gaps(((part.start, part.end) for part in covered), size))


def _land_blob(
    source: Source, blob: Blob, covered: Sequence[Range], writer: "_LineWriter", file_no: int, complete: bool
) -> tuple[list[Range], int]:
    """Copy a blob's new lines: one range for each gap that held a line, and the bytes that wait for their rest.

    ``complete``: no rest will come, so what looks like half a line is copied too.
    """
    if not _unread_bytes(covered, blob.size):
        return [], 0
    head = b"".join(source.read(blob.name, 0, min(2, blob.size)))
    if head == _GZIP:
        return _land_gzip(source, blob, covered, writer, file_no, complete)
    ranges: list[Range] = []
    left = 0
    for start, end in gaps(((part.start, part.end) for part in covered), blob.size):
        number = file_no + len(ranges)
        copied, lines = writer.copy(source.read(blob.name, start, end), number, start, complete or end < blob.size)
        left = end - start - copied
        if copied:
            ranges.append(Range(number, blob.name, start, start + copied, blob.size, lines))
    return ranges, left


def _land_gzip(
    source: Source, blob: Blob, covered: Sequence[Range], writer: "_LineWriter", file_no: int, complete: bool
) -> tuple[list[Range], int]:
    """A compressed blob has no byte positions to resume at: what is new in it is found by reading it from its start."""
    done = max((part.end for part in covered), default=0)
    content = _Unzipped(source.read(blob.name, 0, blob.size))
    copied, lines = writer.copy(_skip(iter(content), done), file_no, done, complete)
    left = max(content.bytes - done - copied, 0) or int(content.broken)
    if complete and content.broken:
        lines += writer.note(_BROKEN, file_no, done + copied)
        left = 0
    if not copied and not lines:
        return [], left
    return [Range(file_no, blob.name, done, done + copied, blob.size, lines, True, not left)], left


class _Unzipped:
    """The content of one or more gzip members, as far as it can be had."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.bytes = 0
        self.broken = False
        """It ends within a member, or in something that is not one."""

    def __iter__(self) -> Iterator[bytes]:
        machine = zlib.decompressobj(wbits=31)
        for chunk in self._chunks:
            rest = chunk
            while rest:
                if machine.eof:
                    machine = zlib.decompressobj(wbits=31)
                try:
                    text = machine.decompress(rest)
                except zlib.error:
                    self.broken = True
                    return
                self.bytes += len(text)
                yield text
                rest = machine.unused_data
        self.broken = not machine.eof


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

    def copy(self, chunks: Iterable[bytes], file_no: int, start: int, complete: bool) -> tuple[int, int]:
        """Write the lines of a stream that begins at byte ``start``; returns (bytes, lines) written.

        The last one need not end with a newline where it is a whole record, or the stream is ``complete``.
        """
        position, lines, tail = start, 0, b""
        for chunk in chunks:
            tail += chunk
            if (cut := tail.rfind(b"\n") + 1) == 0:
                continue
            lines += self._write(tail[:cut], file_no, position)
            position += cut
            tail = tail[cut:]
        if tail and (complete or _is_record(tail)):
            lines += self._write(tail + b"\n", file_no, position)
            position += len(tail)
        return position - start, lines

    def note(self, text: bytes, file_no: int, position: int) -> int:
        """Write a line that stands for bytes which cannot be had, so that it is counted as unreadable."""
        return self._write(text + b"\n", file_no, position)

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


def _is_record(text: bytes) -> bool:
    """Whether a text is a JSON object from end to end; no part of an object is one."""
    try:
        return isinstance(msgspec.json.decode(text.removeprefix(_MARK)), dict)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return False


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
    if _MARK in text:
        lines = pc.replace_substring_regex(lines, pattern="^\ufeff", replacement="")
    table = pa.table(
        [pa.array(np.full(len(ends), file_no, np.int32)), pa.array(starts + start), lines], schema=LINES_SCHEMA
    )
    if (ends - starts).min() > _BLANK_BYTES:
        return table
    return table.filter(pc.invert(pc.match_substring_regex(table["line"], pattern=r"^\s*$")))
