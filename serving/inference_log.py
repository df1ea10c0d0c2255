"""The inference log: what was asked and what was answered, as JSON lines that no runtime cuts.

A container runtime splits lines at 16 KiB, so a larger request becomes several lines, each with whole records
and its place: ``chunk`` of ``chunks`` (from 1), and ``first_record``, the index of its first record.
"""

import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from serving.log_writer import LineWriter
from serving.scoring.bundle import DRIFT_KEYS, Result
from serving.scoring.contract import Contract
from serving.settings import Release, Settings

Piece = bytes | memoryview
Chunk = tuple[int, tuple[Piece, ...]]
"""How many records, and the pieces of their JSON: a large request is copied once, into the block of lines."""

LINE_LIMIT = 15 * 1024
_ENVELOPE = 1024  # room for everything but the data; names and ids are far shorter
_DATA_LIMIT = LINE_LIMIT - _ENVELOPE
_ANSWER_BYTES = 64  # two floats of at most 24 digits, signs and exponents, "false", commas
_RECORD_KEYS = tuple(key for key in Result.__struct_fields__ if key not in DRIFT_KEYS)


class InferenceLog:
    """Writes the input and the output of a request. Thread-safe."""

    def __init__(self, contract: Contract, release: Release, settings: Settings, writer: LineWriter) -> None:
        self._writer = writer
        self._service = msgspec.json.encode(contract.title)
        self._model = b',"model_name":%b,"model_version":%b,"client":' % (
            msgspec.json.encode(release.model_name),
            msgspec.json.encode(release.model_version),
        )
        self._redact = _redaction(contract, settings)

    def takes_lines(self) -> bool:
        """Whether lines can be expected to be taken without waiting."""
        return self._writer.ready()

    def lines(
        self, request_id: str, client: str, body: bytes, result: Result, encoded: bytes, trace_id: str = ""
    ) -> bytes:
        """What is logged of a valid request; ``encoded`` is ``result`` as JSON, ``trace_id`` the caller's."""
        head = b',"request_id":"%b"%b,"timestamp":%b%b%b' % (
            request_id.encode(),
            b',"trace_id":"%b"' % trace_id.encode() if trace_id else b"",
            msgspec.json.encode(datetime.now(UTC)),
            self._model,
            msgspec.json.encode(client),
        )
        records = len(result.outliers__score)
        lines = self._lines(b"InputData", head, self._input_chunks(body, records))
        return b"".join(lines + self._lines(b"OutputData", head, _output_chunks(result, encoded)))

    def write(self, lines: bytes) -> None:
        """Write the lines of one request, before it is answered. Raises ``LogUnavailable``."""
        self._writer.write(lines)

    def _lines(self, kind: bytes, head: bytes, chunks: list[Chunk]) -> list[Piece]:
        lines: list[Piece] = []
        first = 0
        for number, (records, data) in enumerate(chunks, start=1):
            lines.append(
                b'{"service_name":%b,"type":"%b"%b,"chunk":%d,"chunks":%d,"first_record":%d,"data":'
                % (self._service, kind, head, number, len(chunks), first)
            )
            lines += data
            lines.append(b"}\n")
            first += records
        return lines

    def _input_chunks(self, body: bytes, records: int) -> list[Chunk]:
        if self._redact is None:
            # Records are flat: unless a text holds a brace, every closing brace ends one. Line ends can only
            # stand between tokens, where a space does as well.
            text = body.strip().replace(b"\n", b" ").replace(b"\r", b" ")
            if len(text) <= _DATA_LIMIT:
                return [(records, (text,))]
            chunks = _split(text, records)
            if chunks is not None:
                return chunks
        decoded = msgspec.json.decode(body)
        if self._redact is not None:
            for record in decoded:
                self._redact(record)
        return _pack([msgspec.json.encode(record) for record in decoded])


def _split(text: bytes, records: int) -> list[Chunk] | None:
    """Cut ``[{...}, {...}]`` after closing braces; ``None`` where texts hold braces or a record fills a line."""
    characters = np.frombuffer(text, np.uint8)
    places = np.flatnonzero(characters >= ord("{"))  # few: braces, and what is not ASCII
    starts = places[characters[places] == ord("{")]
    ends = places[characters[places] == ord("}")] + 1
    if not len(starts) == len(ends) == records:
        return None
    chunks: list[Chunk] = []
    view = memoryview(text)
    first = 0
    while first < records:
        start = int(starts[first])
        last = int(ends.searchsorted(start + _DATA_LIMIT, "right"))
        if last == first:
            return None
        chunks.append((last - first, (b"[", view[start : int(ends[last - 1])], b"]")))
        first = last
    return chunks


def _pack(records: list[bytes]) -> list[Chunk]:
    """Encoded records -> as few lists as the line limit allows."""
    groups: list[list[bytes]] = [[]]
    size = 0
    for record in records:
        if groups[-1] and size + len(record) + 1 > _DATA_LIMIT:
            groups.append([])
            size = 0
        groups[-1].append(record)
        size += len(record) + 1
    return [(len(group), (b"[", b",".join(group), b"]")) for group in groups]


def _output_chunks(result: Result, encoded: bytes) -> list[Chunk]:
    """The answer as a whole, or cut by records: drift, which is the request's, is then in the first line."""
    count = len(result.outliers__score)
    if len(encoded) <= _DATA_LIMIT:
        return [(count, (encoded,))]
    columns = {key: getattr(result, key) for key in _RECORD_KEYS}
    drift = {key: getattr(result, key) for key in DRIFT_KEYS}
    room = _DATA_LIMIT - len(msgspec.json.encode(drift))
    chunks: list[Chunk] = []
    first = 0
    while first < count:
        records = (_DATA_LIMIT if chunks else room) // _ANSWER_BYTES
        part: dict[str, Any] = {key: values[first : first + records] for key, values in columns.items()}
        chunks.append((len(part["outliers__score"]), (msgspec.json.encode(part if chunks else part | drift),)))
        first += records
    return chunks


def _redaction(contract: Contract, settings: Settings) -> Callable[[dict[str, Any]], None] | None:
    """What drops or hashes the sensitive fields of a record in place; ``None`` where they are kept."""
    sensitive = [field.name for field in contract.fields if field.sensitive]
    if settings.log_sensitive == "keep" or not sensitive:
        return None
    key = settings.log_hash_key.encode()

    def drop(record: dict[str, Any]) -> None:
        for name in sensitive:
            record.pop(name, None)

    def hash_(record: dict[str, Any]) -> None:
        for name in sensitive:
            value = record.get(name)
            if value is not None:
                message = msgspec.json.encode([name, value])
                record[name] = hmac.new(key, message, hashlib.sha256).hexdigest()[:16]

    return drop if settings.log_sensitive == "drop" else hash_
