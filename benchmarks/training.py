"""Our training job against the published scenario's recipe, in one run on one machine.

``make bench-training`` (``DATA=`` another data file, ``REPEATS=`` fewer repeats of the cross-validation).

Both systems get the same data and a fresh MLflow server each (SQLite, artifacts in a folder):

- **The recipe**: ten trials of a random forest (100 to 1000 trees, depth 1 to 19, gini or entropy) behind
  one-hot and imputation, TPE on the AUC of its own test set, ``mlflow.sklearn.autolog`` and every trial's
  model logged, the best one registered. hyperopt is gone; Optuna's TPE draws from the same space.
- **This project**: the four tasks of ``training/run.py`` as four processes, 30 trials.

``wall_s`` is the time of all that, imports included; ``store_mib`` what the server keeps afterwards, its
empty database subtracted. ``cv_auc_*`` is 5 x 5 repeated stratified cross-validation of the whole
procedure: in each of the 25 folds everything is chosen, tuned and fitted on the training part alone, 30
trials each time, and the test part is scored once. ``holdout_auc`` is the ROC AUC on the job's hold-out.
"""

import argparse
import contextlib
import json
import multiprocessing
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
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import RepeatedStratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from training.blend import Blend
from training.data import Employees, holdout_rows, read_employees
from training.engine import open_engine
from training.fields import FEATURES
from training.trial_result import REPEATS
from training.trials import TrialData, split_folds
from training.tune import choose, search

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "training.json"
RECIPE_TRIALS = 10
OUR_TRIALS = 30
FOLDS = 5
SPLIT_SEED = 4711
"""Of the outer folds. Used for nothing else, in particular not while the search space was drawn up."""
SEED = 20
CORES = os.cpu_count() or 1


# ---- the published scenario's recipe ----


def recipe_pipeline(parameters: dict[str, object]) -> Pipeline:
    categories = [field.name for field in FEATURES if field.kind == "category"]
    numbers = [field.name for field in FEATURES if field.kind != "category"]
    encode = Pipeline(
        [("impute", SimpleImputer(strategy="constant", fill_value="missing")),
         ("ohe", OneHotEncoder(handle_unknown="ignore"))]
    )  # fmt: skip
    prepared = ColumnTransformer(
        [("numbers", SimpleImputer(strategy="median"), numbers), ("categories", encode, categories)]
    )
    forest = RandomForestClassifier(**parameters, n_jobs=CORES, random_state=SEED)
    return Pipeline([("preprocessor", prepared), ("classifier", forest)])


def recipe_search(
    x: pd.DataFrame, y: NDArray[np.int64], log: Callable[[Pipeline, pd.DataFrame, float], None] | None = None
) -> Pipeline:
    """Ten trials, each judged on the recipe's own test set, which is 20% of what it gets; the best model."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=SEED, stratify=y)
    best: tuple[float, Pipeline] | None = None

    def objective(trial: optuna.Trial) -> float:
        nonlocal best
        parameters = {
            "n_estimators": trial.suggest_int("n_estimators", 100, 999),
            "max_depth": trial.suggest_int("max_depth", 1, 19),
            "criterion": trial.suggest_categorical("criterion", ["gini", "entropy"]),
        }
        fitted = recipe_pipeline(parameters).fit(x_train, y_train)
        auc = float(roc_auc_score(y_test, fitted.predict_proba(x_test)[:, 1]))
        if log:
            log(fitted, x_train, auc)
        if best is None or auc > best[0]:
            best = (auc, fitted)
        return auc

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=SEED))
    study.optimize(objective, n_trials=RECIPE_TRIALS)
    assert best is not None
    return best[1]


def recipe_job(data: Path, address: str) -> float:
    """The recipe's notebook against an MLflow server; ROC AUC of its model on our hold-out."""
    import mlflow
    from mlflow.models import infer_signature

    mlflow.set_tracking_uri(address)
    mlflow.set_experiment("recipe")
    employees = read_employees(str(data))
    held_out = holdout_rows(employees.groups)
    development, holdout = employees.take(~held_out), employees.take(held_out)
    x, y = feature_frame(development), development.y

    def log(fitted: Pipeline, x_train: pd.DataFrame, auc: float) -> None:
        signature = infer_signature(x_train, fitted.predict_proba(x_train)[:, 1])
        mlflow.sklearn.log_model(fitted, name="model", signature=signature, serialization_format="cloudpickle")
        mlflow.log_metric("testing_auc", auc)

    with mlflow.start_run(run_name="employee-attrition-classifier"):

        def one_trial(fitted: Pipeline, x_train: pd.DataFrame, auc: float) -> None:
            with mlflow.start_run(nested=True):
                log(fitted, x_train, auc)

        # Autologging logs parameters and training metrics of every fit, as in the notebook. It would log each
        # model a second time; the notebook's own log_model is enough.
        mlflow.sklearn.autolog(silent=True, log_models=False)
        best = recipe_search(x, y, one_trial)
        mlflow.sklearn.autolog(disable=True)
        mlflow.sklearn.log_model(best, name="best", registered_model_name="recipe", serialization_format="cloudpickle")
    return float(roc_auc_score(holdout.y, best.predict_proba(feature_frame(holdout))[:, 1]))


def feature_frame(employees: Employees) -> pd.DataFrame:
    return employees.frame[[field.name for field in FEATURES]]


# ---- this project ----


def our_job(data: Path, address: str) -> float:
    """The four tasks, each a process; ROC AUC on the hold-out, as the job itself reports it."""
    import mlflow

    config = {
        "data": str(data),
        "model_name": "employee_attrition",
        "experiment": "attrition",
        "trials": OUR_TRIALS,
        "seed": SEED,
        "parallel_trials": CORES,
    }
    environment = os.environ | {"MLFLOW_TRACKING_URI": address}
    command = [sys.executable, str(ROOT / "training" / "run.py")]
    for task in ("prepare", "tune", "evaluate", "register"):
        started = time.monotonic()
        subprocess.run(
            [*command, task, "--run-key", "benchmark", "--config", json.dumps(config)],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        print(f"  {task}: {time.monotonic() - started:.1f} s")
    client = mlflow.MlflowClient(address)
    version = client.get_model_version_by_alias("employee_attrition", "challenger")
    return float(client.get_run(version.run_id).data.metrics["roc_auc"])


def our_procedure(employees: Employees) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """Search, choose and fit on some rows; returns what gives probabilities for encoded rows."""
    x, y = employees.x, employees.y
    data = TrialData(x, y, split_folds(y, employees.groups, REPEATS, SEED))
    with open_engine(data, CORES) as engine:
        results = search(data, engine, trials=OUR_TRIALS, seed=SEED)
        members, bias = choose(data, engine, results, seed=SEED)
    blend = Blend(members, bias, SEED).fit(x, y)
    return lambda rows: blend.predict_proba(rows)[:, 1]


# ---- both ----


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


def timed_job(name: str, job: Callable[[Path, str], float], data: Path) -> dict[str, float]:
    with mlflow_server() as (address, grown):
        started = time.monotonic()
        # In a process of its own, so that both pay for their imports.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            holdout_auc = process.submit(job, data, address).result()
        wall = time.monotonic() - started
        found = {"wall_s": round(wall, 1), "holdout_auc": round(holdout_auc, 4), "store_mib": round(grown(), 2)}
    print(f"{name}: {found}")
    return found


def cross_validate(employees: Employees, repeats: int) -> tuple[list[float], list[float]]:
    """ROC AUC of each outer fold: recipe, ours. Both see the same training and test rows."""
    folds = RepeatedStratifiedKFold(n_splits=FOLDS, n_repeats=repeats, random_state=SPLIT_SEED)
    recipe, ours = [], []
    for number, (_, test_rows) in enumerate(folds.split(np.zeros(len(employees.y)), employees.y)):
        test = np.zeros(len(employees.y), bool)
        test[test_rows] = True
        inside, outside = employees.take(~test), employees.take(test)
        forest = recipe_search(feature_frame(inside), inside.y)
        recipe.append(float(roc_auc_score(outside.y, forest.predict_proba(feature_frame(outside))[:, 1])))
        ours.append(float(roc_auc_score(outside.y, our_procedure(inside)(outside.x))))
        print(
            f"  fold {number + 1:2d} of {FOLDS * repeats}: recipe {recipe[-1]:.4f} (mean {np.mean(recipe):.4f}), "
            f"ours {ours[-1]:.4f} (mean {np.mean(ours):.4f})",
            flush=True,
        )
    return recipe, ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "emp_attrition.csv")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if not arguments.data.is_file():
        parser.error(f"there is no data file {arguments.data}: name one with DATA=path/to.csv")

    # For the processes started from here: one thread each, as many processes as cores.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    employees = read_employees(str(arguments.data))
    jobs = {
        "published recipe": timed_job("published recipe", recipe_job, arguments.data),
        "this project": timed_job("this project", our_job, arguments.data),
    }
    recipe, ours = cross_validate(employees, arguments.repeats)
    rows = [
        {
            "system": system,
            **jobs[system],
            "cv_auc_mean": round(float(np.mean(aucs)), 4),
            "cv_auc_sd": round(float(np.std(aucs, ddof=1)), 4),
            "trials": trials,
        }
        for system, aucs, trials in (
            ("this project", ours, OUR_TRIALS),
            ("published recipe", recipe, RECIPE_TRIALS),
        )
    ]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(rows, indent=2) + "\n")
    print(pd.DataFrame(rows).to_string(index=False))
    share = rows[0]["wall_s"] / rows[1]["wall_s"], rows[0]["store_mib"] / rows[1]["store_mib"]
    print(f"ours takes {share[0]:.2f} of the recipe's time and {share[1]:.3f} of its store; written to {arguments.out}")


if __name__ == "__main__":
    main()
