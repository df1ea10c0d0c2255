"""What a smoke run may cost at most, in quantities: the hours that it has, times what docs/azure.md says of an hour."""

from pathlib import Path

from delivery.smoke.state import SmokeError
from infrastructure.checks import documented

_HEADING = "What it costs an hour"
_PART, _SMALL, _FULL, _METER = range(4)


def limit(hours: float, page: Path = documented.PAGE) -> str:
    """The limit in words, a line for each meter; raises ``SmokeError`` where the page has no such table."""
    rows = list(documented.rows(page.read_text(), _HEADING, 4))
    if not rows:
        raise SmokeError(f"{page.name} has no table under {_HEADING!r}, so the cost cannot be limited")
    lines = [
        f"  {row[_PART]}: {row[_SMALL] or 'by use'} (meter: {row[_METER]})" for row in rows if row[_SMALL] != "none"
    ]
    return "\n".join(
        [
            f"Cost limit: at most {hours:g} hours of the environment small, then it is taken down. An hour has:",
            *lines,
            "Prices differ by contract: multiply by those of your own price list.",
        ]
    )
