"""The SQL files of this package."""

from pathlib import Path

_FOLDER = Path(__file__).parent / "sql"


def statement(name: str, **values: str) -> str:
    """The text of ``sql/<name>`` with ``{key}`` replaced. Values are ours, never data."""
    return (_FOLDER / name).read_text().format(**values)
