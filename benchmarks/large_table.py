"""What a large table costs: ``make bench-large-table`` (``ROWS=100000 TRIALS=6``), 50 columns.

Makes a table of columns of every kind, drafts a use case from it into a temporary folder as ``make use-case`` does, and
runs the four tasks of ``training/training_job.py``, each a process, with the trials that the draft asks for and against
a fresh MLflow server. ``wall_s`` is the time of a task's process, imports included. ``peak_mib`` is the most memory
that the process and all its children have held at once, looked at twice a second; memory that several of them share
counts once (on macOS, which does not tell, as often as it is shared). ``expected_s`` is what the scaffold and the demo
say beforehand of the four tasks.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import psutil

import use_cases
from benchmarks.training import ROOT, mlflow_server
from training.registry import tags
from training.search.duration import expected_minutes
from training.use_case import UseCase, load

RESULTS = ROOT / "benchmarks" / "results" / "large_table.json"
NAME, KEY, LABEL = "large_table", "customer_id", "churned"
TASKS = ("prepare", "tune", "evaluate", "register")
COLUMNS = 50
SEED = 20
LIMIT_MIB = 2048
_LOOK_EVERY = 0.5


def make_table(rows: int, seed: int) -> pd.DataFrame:
    """``COLUMNS`` columns: key, label, a protected attribute, and by turns numbers, whole numbers, categories few and
    many, flags, numbers with gaps and skewed ones; four are texts and dates. About 30% of the labels are positive.
    """
    rng = np.random.default_rng(seed)
    log_odds = np.full(rows, -1.0)
    made: dict[str, object] = {KEY: [f"C-{number:07d}" for number in range(rows)]}
    made["gender"] = rng.choice(["female", "male"], rows)
    days = pd.date_range("2020-01-01", periods=2000).strftime("%Y-%m-%d").to_numpy()
    for number in range(2):
        made[f"note_{number}"] = [f"called about order {one} twice" for one in rng.integers(0, rows, rows)]
        made[f"day_{number}"] = rng.choice(days, rows)
    for number in range(COLUMNS - len(made) - 1):
        hidden = rng.normal(0, 1, rows)
        log_odds += 0.15 * hidden if number % 2 else 0.1 * np.abs(hidden) - 0.08
        match number % 7:
            case 0:
                made[f"amount_{number}"] = (100 + 30 * hidden).round(2)
            case 1:
                made[f"count_{number}"] = np.clip(8 + 3 * hidden, 0, None).astype(int)
            case 2:
                made[f"kind_{number}"] = _named(f"kind {number}", hidden, 12)
            case 3:
                places = _named("place", hidden, 60)
                places[rng.random(rows) < 0.05] = None
                made[f"place_{number}"] = places
            case 4:
                made[f"flag_{number}"] = np.where(hidden > 0.5, "yes", "no")
            case 5:
                made[f"gap_{number}"] = np.where(rng.random(rows) < 0.2, np.nan, hidden.round(3))
            case _:
                made[f"skewed_{number}"] = np.exp(6 + hidden).round(1)
    made[LABEL] = np.where(rng.random(rows) < 1 / (1 + np.exp(-log_odds)), "yes", "no")
    return pd.DataFrame(made)


def _named(word: str, values: np.ndarray, many: int) -> np.ndarray:
    """One of ``many`` names for each value, equally often."""
    ranks = np.argsort(np.argsort(values))
    return np.array([f"{word} {code}" for code in range(many)], object)[ranks * many // len(values)]


def watched(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Run a command; its seconds, and the most memory that it and its children have held at once, in MiB."""
    began, most = time.monotonic(), 0
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    tree = psutil.Process(process.pid)
    while True:
        try:
            process.wait(_LOOK_EVERY)
            break
        except subprocess.TimeoutExpired:
            most = max(most, _held(tree))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {"wall_s": round(time.monotonic() - began, 1), "peak_mib": round(most / 2**20)}


def _held(tree: psutil.Process) -> int:
    """Bytes that a process and its children hold now."""
    held = 0
    try:
        for process in [tree, *tree.children(recursive=True)]:
            memory = process.memory_full_info()
            held += getattr(memory, "pss", memory.rss)
    except psutil.NoSuchProcess:
        return 0  # one of them has just ended: the next look counts
    return held


def scaffold(table: Path, folder: Path) -> tuple[dict[str, float], UseCase]:
    """Draft the use case into ``folder``."""
    found = watched(
        [
            *(sys.executable, "-m", "training.scaffold", "--name", NAME, "--data", str(table)),
            *("--label", LABEL, "--positive", "yes", "--key", KEY, "--into", str(folder)),
        ],
        dict(os.environ),
    )
    use_cases.__path__.append(str(folder))  # the processes of the job find it by USE_CASES
    return found, load(NAME)


def run_job(use_case: UseCase, table: Path, folder: Path) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Time and memory of each task, and the evaluation that the job wrote."""
    import mlflow

    config = {
        "data": str(table),
        "use_case": use_case.name,
        "model_name": use_case.model_name,
        "experiment": use_case.name,
        "trials": use_case.trials,
        "seed": SEED,
        "parallel_trials": os.cpu_count(),
    }
    job = ["--run-key", "benchmark", "--config", json.dumps(config)]
    tasks = {}
    with mlflow_server() as (address, _):
        environment = os.environ | {"MLFLOW_TRACKING_URI": address, "USE_CASES": str(folder)}
        for task in TASKS:
            command = [sys.executable, str(ROOT / "training" / "training_job.py"), task, *job]
            tasks[task] = watched(command, environment)
            print(f"  {task}: {tasks[task]}", flush=True)
        client = mlflow.MlflowClient(address)
        run_id = client.get_model_version(use_case.model_name, "1").run_id
        assert run_id
        evaluation: dict[str, Any] = json.loads(
            Path(client.download_artifacts(run_id, tags.EVALUATION_FILE, str(table.parent))).read_text()
        )
    return tasks, evaluation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--trials", type=int, help="instead of those that the draft asks for")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    # For the processes started from here: one thread each, as many processes as cores.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    with tempfile.TemporaryDirectory() as scratch:
        table, folder = Path(scratch) / "table.csv", Path(scratch) / "use_cases"
        make_table(given.rows, seed=1).to_csv(table, index=False)
        drafted, use_case = scaffold(table, folder)
        use_case = msgspec.structs.replace(use_case, trials=given.trials or use_case.trials)
        print(f"  scaffold: {drafted}", flush=True)
        tasks, evaluation = run_job(use_case, table, folder)
        found = {
            "rows": given.rows,
            "columns": COLUMNS,
            "features": len(use_case.features),
            "file_mib": round(table.stat().st_size / 2**20),
            "trials": use_case.trials,
            "expected_s": round(60 * expected_minutes(given.rows, use_case)),
            "wall_s": round(sum(task["wall_s"] for task in tasks.values()), 1),
            "peak_mib": max(task["peak_mib"] for task in [drafted, *tasks.values()]),
            "scaffold": drafted,
            "tasks": tasks,
            "verdict": evaluation["verdict"],
            "roc_auc": evaluation["challenger"]["roc_auc"]["value"],
            "gives_reasons": evaluation["gives_reasons"],
        }
    given.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    if found["peak_mib"] > LIMIT_MIB:
        sys.exit(f"{found['peak_mib']:,} MiB are more than the {LIMIT_MIB:,} that a large table may take")


if __name__ == "__main__":
    main()
