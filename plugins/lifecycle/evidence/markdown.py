"""Other people's text inside Markdown: it is read as text, whatever it holds."""

import re
import unicodedata
from typing import Any

_SPECIAL = re.compile(r"([\\`*_\[\]<>&~|!#$^])")
_AT_THE_START = re.compile(r"^(\d{1,9})([.)])(?=\s|$)|^([-+=:])(?=[-+=:\s]|$)")
_LINKED_BY_ITSELF = re.compile(r"(://|www|@)", re.IGNORECASE)
_JOINER = "\N{WORD JOINER}"
"""Invisible, and no part of an address: Airflow's pages turn addresses into links after Markdown was read."""


def plain(value: Any, limit: int | None = None) -> str:
    """A value on one line, without control and format characters, cut at ``limit`` characters."""
    visible = "".join(one for one in str(value) if one.isspace() or unicodedata.category(one)[0] != "C")
    kept = " ".join(visible.split())
    return kept if limit is None or len(kept) <= limit else f"{kept[: limit - 1].rstrip()}…"


def text(value: Any, limit: int | None = None) -> str:
    """A value as Markdown that shows exactly its characters: no structure, no link, no line of its own."""
    escaped = _SPECIAL.sub(r"\\\1", plain(value, limit))
    escaped = _AT_THE_START.sub(lambda found: f"{found[1] or ''}\\{found[2] or found[3]}", escaped)
    return _LINKED_BY_ITSELF.sub(lambda found: f"{found[0][0]}{_JOINER}{found[0][1:]}", escaped)


def code(value: Any) -> str:
    """A digest or a revision in a code span; a backtick in it becomes an apostrophe."""
    return f"`{plain(value).replace('`', chr(39)) or '-'}`"


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table; its cells are Markdown already."""
    return [f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *rows)]
