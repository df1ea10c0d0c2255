"""Made-up rows for any use case, from its fields alone: to try the rails with, and for tests.

The rows follow from the seed alone. How the label depends on the features follows from the use case's name alone, so
tables of one use case have the same pattern to learn. They say nothing about the real world.

``python -m training.data.synthetic USE_CASE --rows 1470 --seed 7 --out table.csv``; with ``--plan plan.csv`` the plan
of a use case that forecasts.
"""

import argparse
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serving.scoring.contract import Field
from training import use_case as use_cases
from training.use_case import UseCase

_SIGNAL_FIELDS = 6
_POSITIVE_SHARE = 0.3
_MISSING_SHARE = 0.05
_SIGNAL = 1.2
"""Standard deviation of each chosen feature's part of the log-odds; large enough for an AUC of about 0.85."""
_TEXTS = ("alpha", "beta", "gamma", "delta")


def make_rows(use_case: UseCase, rows: int, seed: int) -> pd.DataFrame:
    """``rows`` made-up rows with the fields and the label of a use case.

    A definition with a module ``sample`` makes its own (``make_sample(rows, seed)``).
    """
    if own := use_case.part("sample"):
        made: pd.DataFrame = own.make_sample(rows, seed)
        return made
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    log_odds = np.zeros(rows)
    effects = _effects(use_case)
    for field in use_case.fields:
        if field.name == use_case.key:
            columns[field.name] = _keys(field, rows)
            continue
        values, standing = _values(field, rows, rng)
        if field.name in effects:
            log_odds += effects[field.name] * standing
        if field.nullable and not field.required:
            values = pd.Series(values, dtype=object).where(rng.random(rows) >= _MISSING_SHARE, None).to_numpy()
        columns[field.name] = values
    label = use_case.binary
    cut = np.quantile(log_odds, 1 - _POSITIVE_SHARE)
    positive = rng.random(rows) < 1 / (1 + np.exp(-(log_odds - cut)))
    return pd.DataFrame({**columns, label.field: np.where(positive, label.positive, label.negative)})


def make_plan(use_case: UseCase, rows: int, seed: int) -> pd.DataFrame:
    """The plan that goes with ``make_rows`` of the same arguments, by the definition's module ``sample``."""
    own = use_case.part("sample")
    if own is None:
        raise use_cases.UseCaseError(f"use case {use_case.name!r} has no sample.py: series are made up there alone")
    made: pd.DataFrame = own.make_plan(rows, seed)
    return made


def _effects(use_case: UseCase) -> dict[str, float]:
    """The features that the label depends on, and how strongly: the same for every table of a use case."""
    rng = np.random.default_rng(zlib.crc32(use_case.name.encode()))
    names = [field.name for field in use_case.features]
    chosen = rng.choice(names, min(_SIGNAL_FIELDS, len(names)), replace=False)
    return {
        str(name): float(sign * _SIGNAL) for name, sign in zip(chosen, rng.choice([-1, 1], len(chosen)), strict=True)
    }


def _keys(field: Field, rows: int) -> NDArray[Any]:
    if field.kind == "category":
        return np.array([f"{field.name[:1].upper()}-{number:06d}" for number in range(1, rows + 1)], dtype=object)
    low = int(field.minimum or 0)
    return np.arange(low + 1, low + 1 + rows)


def _values(field: Field, rows: int, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Values of a field, and where each stands from -1.7 (lowest) to 1.7, with variance one."""
    if field.kind == "category":
        categories = field.categories or _TEXTS
        codes = rng.integers(0, len(categories), rows)
        spread = max(len(categories) - 1, 1)
        return np.array(categories, dtype=object)[codes], (codes / spread - 0.5) * np.sqrt(12)
    low, high = float(field.minimum or 0), float(field.maximum or 0)
    share = rng.random(rows)
    values = low + share * (high - low)
    if field.kind == "integer":
        values = np.clip(np.rint(values), np.ceil(low), np.floor(high)).astype(np.int64)
    else:
        values = np.round(values, 4).clip(low, high)
    return values, (share - 0.5) * np.sqrt(12)


def main() -> None:
    """Write a file: ``.parquet`` for Parquet, otherwise CSV."""
    parser = argparse.ArgumentParser(prog="python -m training.data.synthetic", description="Write made-up rows.")
    parser.add_argument("use_case")
    parser.add_argument("--rows", type=int, default=1470)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plan", type=Path, help="where series are forecast: the file for their plan")
    arguments = parser.parse_args()
    use_case = use_cases.load(arguments.use_case)
    _write(make_rows(use_case, arguments.rows, arguments.seed), arguments.out)
    if arguments.plan:
        _write(make_plan(use_case, arguments.rows, arguments.seed), arguments.plan)


def _write(frame: pd.DataFrame, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        frame.to_parquet(file, index=False)
    else:
        frame.to_csv(file, index=False)


if __name__ == "__main__":
    main()
