"""The lines of a CSV file, as the server, the training door and the outcomes feed read them."""

import csv
import re
from collections.abc import Iterable, Iterator

import msgspec

_NOT_UTF_8 = re.compile("[\ud800-\udfff]")
_EXPLAINED = {
    "field larger than field limit": "a cell of more than 131,072 characters: is a quotation mark left open?",
    "unexpected end of data": "a quotation mark is opened here and never closed",
    "expected after": "a quotation mark within a cell: write it twice, and the cell in quotation marks",
}


class BadLine(msgspec.Struct, frozen=True):
    """Stands for a line that no cells can be made of."""

    reason: str


def read_lines(file: Iterable[str]) -> Iterator[tuple[int, list[str] | BadLine]]:
    """Each line that says something, from the header on, with its number as an editor counts; cells without blanks.

    ``file`` is opened with ``newline=""`` and ``errors="surrogateescape"``. A cell in quotation marks may hold line
    breaks: the next line's number is larger by those. A line whose cells are all empty says nothing.
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
