"""The file that the demo trains on: the one it is given, the use case's own, or synthetic rows."""

import filecmp
import shutil
import subprocess
import sys
from pathlib import Path

from embedded.environment import ROOT, Stack
from training.use_case import UseCase

_ROWS, _SEED = 1470, 7


class DataFileError(RuntimeError):
    """Raised when there is nothing to train on; the message says what to do."""


def given(name: str, use_case: UseCase) -> Path:
    """The file that ``DATA`` names; a typing error should not cost a start of the stack, the job checks the rest."""
    path = Path(name).expanduser().resolve()
    wanted = f"DATA names a CSV or Parquet file of {use_case.entities}"
    if not path.is_file():
        raise DataFileError(f"there is no file {path}: {wanted}")
    if not path.stat().st_size:
        raise DataFileError(f"the file {path} is empty: {wanted}")
    return path


def own(stack: Stack, use_case: UseCase) -> Path | None:
    """The data file of the use case's folder, or ``None`` where it brings none.

    A CSV file is put where ``config/embedded.toml`` looks for the default, so that a training run which is started in
    Airflow without ``data`` uses it too.
    """
    if not use_case.data:
        return None
    path = use_case.folder / use_case.data
    if not path.is_file():
        raise DataFileError(
            f"use case {use_case.name} says that its data is {path}, but there is no such file: "
            "put it there, or give DATA=path/to/file or SYNTHETIC=yes"
        )
    if path.suffix != ".csv":
        return path
    default = stack.data(use_case.name)
    default.parent.mkdir(parents=True, exist_ok=True)
    if not (default.exists() and filecmp.cmp(path, default, shallow=False)):
        part = default.with_suffix(".part")
        shutil.copyfile(path, part)
        part.replace(default)
    return default


def synthetic(stack: Stack, use_case: UseCase) -> Path:
    """Made-up rows, always the same; the use case's default data where it brings none of its own.

    Where series are forecast, the plan that goes with them is written too.
    """
    default = stack.data(use_case.name)
    path = default.with_name(f"{use_case.name}-synthetic.csv") if use_case.data else default
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.csv")
    command = [sys.executable, "-m", "training.data.synthetic", use_case.name]
    if use_case.series:
        command += ["--plan", str(stack.plan(use_case.name))]
    done = subprocess.run(
        [*command, "--rows", str(_ROWS), "--seed", str(_SEED), "--out", str(part)],
        cwd=ROOT, env=stack.environment(), capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise DataFileError(f"the data could not be generated:\n{done.stderr[-2000:]}")
    part.replace(path)
    return path


def lay_plan(stack: Stack, use_case: UseCase, plan: str) -> Path:
    """Put a plan where ``config/embedded.toml`` names it, and return the place.

    A run that a file starts is given the file alone, and goes by the plan of the settings. Raises ``DataFileError``
    where there is none.
    """
    place = stack.plan(use_case.name)
    if plan == str(place):
        return place
    if Path(plan).suffix != place.suffix:
        raise DataFileError(
            f"a run that a file starts goes by the plan that the settings name, {place}: "
            "give PLAN=path/to/plan.csv, or leave DROP=yes out"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_suffix(".part")
    shutil.copyfile(plan, part)
    part.replace(place)
    return place


def rows_of(path: Path) -> int:
    """The rows of a CSV or Parquet file, counted without reading them; 0 where it cannot be read."""
    if path.suffix == ".csv":
        with path.open("rb") as content:
            return max(0, sum(1 for _ in content) - 1)
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        return int(ParquetFile(path).metadata.num_rows)
    except ArrowInvalid:
        return 0  # the job says what is wrong with it
