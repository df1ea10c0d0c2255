"""Lines that fit a terminal."""

import textwrap

WIDTH = 80
"""Columns of a terminal that nobody has made wider."""


def filled(text: str, width: int = WIDTH) -> str:
    """The text in lines that break between words, and never within an address."""
    return "\n".join(
        textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) for line in text.splitlines()
    )


def with_address(text: str, address: str, width: int = WIDTH) -> str:
    """The text and an address: on one line if it fits; otherwise the address stands alone on the next."""
    line = f"{text} {address}".rstrip()
    return line if len(line) <= width else f"{text.rstrip()}\n{address}"
