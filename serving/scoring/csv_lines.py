"""The lines of a CSV file, as the server, the training door and the outcomes feed read them."""

import codecs
import csv
import gzip
import io
import re
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

import msgspec

_NOT_UTF_8 = re.compile("[\ud800-\udfff]")
_EXPLAINED = {
    "field larger than field limit": "a cell of more than 131,072 characters: is a quotation mark left open?",
    "unexpected end of data": "a quotation mark is opened here and never closed",
    "expected after": "a quotation mark within a cell: write it twice, and the cell in quotation marks",
}


_OTHERS = (
    (b"PK\x03\x04", "a zip archive or a workbook of a spreadsheet: unpack it, or save it as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "a workbook of a spreadsheet: save it as CSV UTF-8"),
    (b"\x1f\x8b", "compressed with gzip: let its name end in .csv.gz"),
    (b"PAR1\x15", "a Parquet file: let its name end in .parquet"),
)
_HEAD = 8
"""Bytes that tell what a file is."""


class NotTextError(ValueError):
    """Raised for a file that is visibly something else than text in UTF-8; the message says what, and what to do."""


class BadLine(msgspec.Struct, frozen=True):
    """Stands for a line that no cells can be made of."""

    reason: str


def open_text(file: Any, *, compressed: bool) -> TextIO:
    """An open binary file as ``read_lines`` takes it, which is closed with it. Raises ``NotTextError``."""
    content = io.BufferedReader(gzip.GzipFile(fileobj=file) if compressed else file)
    head = content.peek(_HEAD)[:_HEAD]
    if other := next((words for begin, words in _OTHERS if head.startswith(begin)), None):
        raise NotTextError(f"it is {other}")
    if is_utf_16(head):
        raise NotTextError("it is in UTF-16 or UTF-32: save it as CSV UTF-8")
    return io.TextIOWrapper(content, encoding="utf-8-sig", errors="surrogateescape", newline="")


def is_utf_16(text: bytes) -> bool:
    """Whether a text looks like UTF-16 or UTF-32."""
    return text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in text[:4]


def read_lines(file: Iterable[str]) -> Iterator[tuple[int, list[str] | BadLine]]:
    """Each line that says something, from the header on, with its number as an editor counts; cells without blanks.

    ``file`` is what ``open_text`` gives. A cell in quotation marks may hold line breaks: the next line's number is
    larger by those. A line whose cells are all empty says nothing.
    """
    lines = csv.reader(file, skipinitialspace=True, strict=True)
    while True:
        number = lines.line_num + 1
        try:
            row = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, BadLine(_explained(str(error)))
            continue
        if row and any(cells := [cell.strip() for cell in row]):
            yield number, cells


def is_utf_8(cells: Iterable[str]) -> bool:
    """Whether all of these came from UTF-8; what did not is a surrogate."""
    joined = "".join(cells)
    return joined.isascii() or not _NOT_UTF_8.search(joined)


def _explained(message: str) -> str:
    return next((words for part, words in _EXPLAINED.items() if part in message), message)
