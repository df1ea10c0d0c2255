"""What is made once for all tests and workers of a session."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The file or folder ``name`` that ``make`` writes; whoever asks first makes it. It is read and copied alone."""
    shared = Path(os.environ["TESTS_SHARED"]) / name
    shared.parent.mkdir(exist_ok=True)
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            scratch = Path(f"{shared}.part")
            shutil.rmtree(scratch, ignore_errors=True)
            make(scratch)
            scratch.rename(shared)
    return shared
