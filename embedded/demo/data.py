"""The file that the demo trains on: the one it is given, or generated employees."""

import subprocess
import sys
from pathlib import Path

from embedded.environment import ROOT, Stack

_ROWS, _SEED = 1470, 7


class DataFileError(RuntimeError):
    """Raised when there is nothing to train on; the message says what to do."""


def given(name: str) -> Path:
    """The file that ``DATA`` names; a typing error should not cost a start of the stack, the job checks the rest."""
    path = Path(name).expanduser().resolve()
    if not path.is_file():
        raise DataFileError(f"there is no file {path}: DATA names a CSV or Parquet file of employees")
    if not path.stat().st_size:
        raise DataFileError(f"the file {path} is empty: DATA names a CSV or Parquet file of employees")
    return path


def generate(stack: Stack) -> None:
    """Write the default training data of ``config/embedded.toml``: synthetic employees, always the same."""
    path = stack.data
    part = path.with_name(f".{path.name}.csv")
    command = [sys.executable, "-m", "use_cases.attrition.sample", "--rows", str(_ROWS), "--seed", str(_SEED)]
    done = subprocess.run(
        [*command, "--out", str(part)], cwd=ROOT, env=stack.environment(), capture_output=True, text=True
    )
    if done.returncode:
        raise DataFileError(f"the data could not be generated:\n{done.stderr[-2000:]}")
    part.rename(path)
