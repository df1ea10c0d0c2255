"""What the scaffold needs for a large table: ``python -m benchmarks.scaffold [--rows 100000] [--columns 50]``.

Makes a table of made-up columns of every kind, runs the command on it in a process of its own, and prints seconds and
the largest resident memory. Not part of the tests.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd


def make_table(rows: int, columns: int, seed: int) -> pd.DataFrame:
    """``columns`` columns: key and label, and numbers, whole numbers, categories, texts, dates and gaps by turns."""
    rng = np.random.default_rng(seed)
    signal = np.zeros(rows)
    made: dict[str, object] = {"customer_id": [f"C-{number:07d}" for number in range(rows)]}
    days = pd.date_range("2020-01-01", periods=2000).strftime("%Y-%m-%d").to_numpy()
    for number in range(columns - 2):
        values = rng.normal(100, 30, rows)
        signal += 0.1 * (values - 100) / 30
        match number % 6:
            case 0:
                made[f"amount_{number}"] = values.round(2)
            case 1:
                made[f"count_{number}"] = np.clip(values, 0, None).astype(int)
            case 2:
                made[f"kind_{number}"] = np.array([f"kind {code}" for code in range(12)])[(values % 12).astype(int)]
            case 3:
                made[f"gap_{number}"] = np.where(rng.random(rows) < 0.2, np.nan, values.round(1))
            case 4:
                made[f"note_{number}"] = [f"called about order {one} twice" for one in rng.integers(0, rows, rows)]
            case _:
                made[f"day_{number}"] = rng.choice(days, rows)
    made["churned"] = np.where(rng.random(rows) < 1 / (1 + np.exp(1 - signal)), "yes", "no")
    return pd.DataFrame(made)


def main() -> None:
    """Print one line a run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaffold", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "table.csv"
        make_table(given.rows, given.columns, seed=1).to_csv(table, index=False)
        size = table.stat().st_size / 2**20
        options = [
            "--data",
            str(table),
            "--label",
            "churned",
            "--key",
            "customer_id",
            "--into",
            str(Path(scratch) / "to"),
        ]
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "training.scaffold", "--name", "churn", *options], check=True)
        seconds = time.perf_counter() - started
    # Kilobytes on Linux, bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    print(f"\n{given.rows:,} rows, {given.columns} columns, {size:.0f} MiB: {seconds:.1f} s, {peak:,.0f} MiB at most")


if __name__ == "__main__":
    main()
