"""Our training job against the published scenario's recipe, in one run on one machine.

``make bench-training`` (``DATA=`` another data file, ``REPEATS=`` fewer repeats of the cross-validation).

Both systems get the same data and a fresh MLflow server each (SQLite, artifacts in a folder):

- **The recipe** (``benchmarks/recipe.py``): ten trials, every trial's model logged, the best one registered.
- **This project**: the four tasks of ``training/training_job.py``, 30 trials.

``wall_s`` is the time of all their processes, imports included; ``store_mib`` what the server keeps afterwards, its
empty database subtracted. ``cv_auc_*`` is 5 x 5 repeated stratified cross-validation of the whole
procedure: in each of the 25 folds everything is chosen, tuned and fitted on the training part alone, 30
trials each time, and the test part is scored once. Ours does so a second time with the fields fed that are otherwise
only compared, to say what they would gain. ``holdout_auc`` is the ROC AUC on the job's hold-out.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import msgspec
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import RepeatedStratifiedKFold

from benchmarks import recipe
from benchmarks.procedure import train
from training.data.dataset import Dataset, read_table
from training.use_case import load

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "training.json"
TRIALS = 30
FOLDS = 5
SPLIT_SEED = 4711
"""Of the outer folds. Used for nothing else, in particular not while the search space was drawn up."""
SEED = 20
ATTRITION = load("attrition")
OURS, RECIPE, FED = "this project", "published recipe", "this project with the protected fields"

Commands = dict[str, list[str]]
"""The processes of a job, by name, in order."""


def recipe_commands(data: Path) -> Commands:
    """The published notebook, one process."""
    return {"notebook": [sys.executable, "-m", "benchmarks.recipe", "--data", str(data)]}


def our_commands(data: Path) -> Commands:
    """The four tasks, each a process, as Databricks runs them."""
    config = {
        "data": str(data),
        "use_case": ATTRITION.name,
        "model_name": ATTRITION.model_name,
        "experiment": ATTRITION.name,
        "trials": TRIALS,
        "seed": SEED,
        "parallel_trials": os.cpu_count(),
    }
    job = ["--run-key", "benchmark", "--config", json.dumps(config)]
    return {
        task: [sys.executable, str(ROOT / "training" / "training_job.py"), task, *job]
        for task in ("prepare", "tune", "evaluate", "register")
    }


@contextlib.contextmanager
def mlflow_server() -> Iterator[tuple[str, Callable[[], float]]]:
    """A fresh MLflow server: its address, and a function for the MiB that its store has grown by."""
    folder = Path(tempfile.mkdtemp(prefix="bench-training-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/store.db"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts", "--workers", "1"]
    with (folder / "server.log").open("w") as output:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_for(f"{address}/health", server)
        empty = _size(folder)
        yield address, lambda: (_size(folder) - empty) / 2**20
    finally:
        os.killpg(server.pid, 15)
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise RuntimeError("the MLflow server has ended")
        with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(url):  # noqa: S310
            return
        time.sleep(0.2)
    raise RuntimeError("the MLflow server does not answer")


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.suffix != ".log")


def timed_job(commands: Commands, model: str) -> dict[str, float]:
    """Run the processes one after the other against a fresh MLflow server, in which ``model`` is registered then."""
    with mlflow_server() as (address, grown):
        started = time.monotonic()
        for name, command in commands.items():
            began = time.monotonic()
            subprocess.run(
                command,
                cwd=ROOT,
                env=os.environ | {"MLFLOW_TRACKING_URI": address},
                check=True,
                stdout=subprocess.DEVNULL,
            )
            print(f"  {name}: {time.monotonic() - began:.1f} s", flush=True)
        wall = time.monotonic() - started
        client = mlflow.MlflowClient(address)
        version = client.get_model_version(model, "1")
        assert version.run_id
        holdout_auc = client.get_run(version.run_id).data.metrics["roc_auc"]
        return {"wall_s": round(wall, 1), "holdout_auc": round(holdout_auc, 4), "store_mib": round(grown(), 2)}


def with_protected(dataset: Dataset) -> Dataset:
    """The same rows, with the fields fed to the model that are otherwise only compared."""
    use_case = msgspec.structs.replace(
        ATTRITION,
        fields=tuple(
            msgspec.structs.replace(field, role="feature") if field.role == "compared" else field
            for field in ATTRITION.fields
        ),
        groups=tuple(
            msgspec.structs.replace(group, fed_because="the benchmark measures what it is worth")
            for group in ATTRITION.groups
        ),
    )
    return msgspec.structs.replace(dataset, use_case=use_case)


def cross_validate(dataset: Dataset, repeats: int) -> dict[str, list[float]]:
    """ROC AUC of each outer fold, by procedure. All see the same training and test rows."""
    folds = RepeatedStratifiedKFold(n_splits=FOLDS, n_repeats=repeats, random_state=SPLIT_SEED)
    aucs: dict[str, list[float]] = {RECIPE: [], OURS: [], FED: []}
    for number, (_, test_rows) in enumerate(folds.split(np.zeros(len(dataset.y)), dataset.y)):
        test = np.zeros(len(dataset.y), bool)
        test[test_rows] = True
        inside, outside = dataset.take(~test), dataset.take(test)
        forest = recipe.search(recipe.feature_frame(inside), inside.y)
        aucs[RECIPE].append(float(roc_auc_score(outside.y, forest.predict_proba(recipe.feature_frame(outside))[:, 1])))
        for name, seen, unseen in ((OURS, inside, outside), (FED, with_protected(inside), with_protected(outside))):
            ensemble = train(seen, trials=TRIALS, seed=SEED)
            aucs[name].append(float(roc_auc_score(unseen.y, ensemble.predict_proba(unseen.x)[:, 1])))
        shown = ", ".join(f"{name} {found[-1]:.4f} (mean {np.mean(found):.4f})" for name, found in aucs.items())
        print(f"  fold {number + 1:2d} of {FOLDS * repeats}: {shown}", flush=True)
    return aucs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ATTRITION.folder / ATTRITION.data)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if not arguments.data.is_file():
        parser.error(f"there is no data file {arguments.data}: name one with DATA=path/to.csv")

    # For the processes started from here: one thread each, as many processes as cores.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    dataset = read_table(ATTRITION, str(arguments.data))
    jobs = {
        RECIPE: timed_job(recipe_commands(arguments.data), recipe.NAME),
        OURS: timed_job(our_commands(arguments.data), ATTRITION.model_name),
    }
    for system, found in jobs.items():
        print(f"{system}: {found}", flush=True)
    aucs = cross_validate(dataset, arguments.repeats)
    rows = [
        {
            "system": system,
            **jobs[system],
            "cv_auc_mean": round(float(np.mean(aucs[system])), 4),
            "cv_auc_sd": round(float(np.std(aucs[system], ddof=1)), 4),
            "trials": trials,
        }
        for system, trials in ((OURS, TRIALS), (RECIPE, recipe.TRIALS))
    ]
    gained = np.array(aucs[FED]) - np.array(aucs[OURS])
    rows[0]["cv_auc_gained_by_protected_fields"] = round(float(gained.mean()), 4)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(rows, indent=2) + "\n")
    print(pd.DataFrame(rows).to_string(index=False))
    ours, theirs = jobs[OURS], jobs[RECIPE]
    time_share, store_share = (ours[figure] / theirs[figure] for figure in ("wall_s", "store_mib"))
    print(
        f"the protected fields would gain {gained.mean():+.4f} of ROC AUC ({np.mean(aucs[FED]):.4f} instead of "
        f"{np.mean(aucs[OURS]):.4f}; better in {np.mean(gained > 0):.0%} of the folds)"
    )
    print(f"{arguments.out}: ours takes {time_share:.2f} of the recipe's time, {store_share:.3f} of its store")


if __name__ == "__main__":
    main()
