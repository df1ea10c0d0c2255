"""Compare a rendered text with a checked-in file; ``make golden`` renews them all."""

import os
from pathlib import Path

RENEW = "RENEW_GOLDEN"


def check_golden(path: Path, text: str) -> None:
    """Fail unless ``text`` is what the file holds; with ``RENEW_GOLDEN=1`` write it instead."""
    if os.environ.get(RENEW):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.is_file(), f"{path} is missing: make it with `make golden`"
    assert text == path.read_text(), f"{path.name} differs: look at the difference, then renew it with `make golden`"
