"""The lines of a CSV file, as the server, the training door and the outcomes feed read them."""

import codecs
import csv
import gzip
import io
import re
from collections.abc import Iterable, Iterator
from typing import IO, Any, TextIO

import msgspec

_NOT_UTF_8 = re.compile("[\ud800-\udfff]")
_EXPLAINED = {
    "field larger than field limit": "a cell of more than 131,072 characters: is a quotation mark left open?",
    "unexpected end of data": "a quotation mark is opened here and never closed",
    "expected after": "a quotation mark within a cell: write it twice, and the cell in quotation marks",
}
_LINE = 8 << 20
"""Characters of a line, at most: what is longer is not held in memory, whatever stands in it."""

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
    text: str = ""
    """What stands there; of a line that is too long, nothing."""


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


def read_lines(file: IO[str]) -> Iterator[tuple[int, list[str] | BadLine]]:
    """Each line that says something, from the header on, with its number as an editor counts; cells without blanks.

    ``file`` is what ``open_text`` gives. A cell in quotation marks may hold line breaks: the next line's number is
    larger by those. A line whose cells are all empty says nothing. After a line that no cells can be made of, reading
    goes on at the next line end.
    """
    lines = _Lines(file)
    rows = csv.reader(lines, skipinitialspace=True, strict=True)
    while True:
        number = lines.count + 1
        lines.held.clear()
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, BadLine(_explained(str(error)), "".join(lines.held))
            continue
        if row and any(cells := [cell.strip() for cell in row]):
            yield number, cells


class _Lines:
    """The lines of a text, of which one that is too long is an error of its own and of no other."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.count = 0
        self.held: list[str] = []
        """What was read since somebody last emptied it."""

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._file.readline(_LINE)
        if not line:
            raise StopIteration
        self.count += 1
        if len(line) < _LINE or _ends(line):
            self.held.append(line)
            return line
        while (rest := self._file.readline(_LINE)) and not _ends(rest):
            pass
        raise csv.Error(f"a line of more than {_LINE:,} characters: does it lack its line ends?")


def _ends(line: str) -> bool:
    return line.endswith(("\n", "\r"))


def surplus(cells: list[str], width: int) -> str:
    """What is wrong with a line that has cells beyond the columns; empty where those cells are empty."""
    return f"more cells than the header has columns ({width})" if any(cells[width:]) else ""


def is_utf_8(cells: Iterable[str]) -> bool:
    """Whether all of these came from UTF-8; what did not is a surrogate."""
    joined = "".join(cells)
    return joined.isascii() or not _NOT_UTF_8.search(joined)


def _explained(message: str) -> str:
    return next((words for part, words in _EXPLAINED.items() if part in message), message)
