"""The published scenario's recipe, as its notebook has it: ``python -m benchmarks.recipe --data FILE``.

Ten trials of a random forest (100 to 1000 trees, depth 1 to 19, gini or entropy) behind one-hot and imputation, TPE
on the AUC of its own test set, ``mlflow.sklearn.autolog`` and every trial's model logged, the best one registered as
``recipe``. hyperopt is gone; Optuna's TPE draws from the same space. MLflow is where ``MLFLOW_TRACKING_URI`` says.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import optuna
import pandas as pd
from mlflow.models import infer_signature
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from training.data.dataset import Dataset, holdout_rows, read_table
from training.use_case import load

NAME = "recipe"
"""Of its experiment and of its registered model."""
TRIALS = 10
SEED = 20
ATTRITION = load("attrition")
_FITTED = tuple(field for field in ATTRITION.fields if field.role != "carried")
"""The recipe feeds protected attributes as well: it leaves out constant and identifying fields alone."""

Log = Callable[[Pipeline, pd.DataFrame, float], None]


def feature_frame(dataset: Dataset) -> pd.DataFrame:
    """The columns that the recipe fits on, as they were read."""
    return dataset.frame[[field.name for field in _FITTED]]


def pipeline(parameters: dict[str, object]) -> Pipeline:
    """Imputation, one-hot and a random forest, not fitted."""
    categories = [field.name for field in _FITTED if field.kind == "category"]
    numbers = [field.name for field in _FITTED if field.kind != "category"]
    encode = Pipeline(
        [("impute", SimpleImputer(strategy="constant", fill_value="missing")),
         ("ohe", OneHotEncoder(handle_unknown="ignore"))]
    )  # fmt: skip
    prepared = ColumnTransformer(
        [("numbers", SimpleImputer(strategy="median"), numbers), ("categories", encode, categories)]
    )
    forest = RandomForestClassifier(**parameters, n_jobs=os.cpu_count(), random_state=SEED)
    return Pipeline([("preprocessor", prepared), ("classifier", forest)])


def search(x: pd.DataFrame, y: NDArray[np.int64], log: Log | None = None) -> Pipeline:
    """Ten trials, each judged on the recipe's own test set, which is 20% of what it gets; the best model."""
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
        fitted = pipeline(parameters).fit(x_train, y_train)
        auc = float(roc_auc_score(y_test, fitted.predict_proba(x_test)[:, 1]))
        if log:
            log(fitted, x_train, auc)
        if best is None or auc > best[0]:
            best = (auc, fitted)
        return auc

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=SEED))
    study.optimize(objective, n_trials=TRIALS)
    assert best is not None
    return best[1]


def job(data: Path) -> None:
    """The notebook against an MLflow server; the ROC AUC of its model on our hold-out is a metric of its run."""
    mlflow.set_experiment(NAME)
    dataset = read_table(ATTRITION, str(data))
    held_out = holdout_rows(ATTRITION, dataset.groups)
    development, holdout = dataset.take(~held_out), dataset.take(held_out)

    def one_trial(fitted: Pipeline, x_train: pd.DataFrame, auc: float) -> None:
        with mlflow.start_run(nested=True):
            signature = infer_signature(x_train, fitted.predict_proba(x_train)[:, 1])
            mlflow.sklearn.log_model(fitted, name="model", signature=signature, serialization_format="cloudpickle")
            mlflow.log_metric("testing_auc", auc)

    with mlflow.start_run(run_name="employee-attrition-classifier"):
        # Autologging logs parameters and training metrics of every fit, as in the notebook. It would log each
        # model a second time; the notebook's own log_model is enough.
        mlflow.sklearn.autolog(silent=True, log_models=False)
        best = search(feature_frame(development), development.y, one_trial)
        mlflow.sklearn.autolog(disable=True)
        mlflow.log_metric("roc_auc", roc_auc_score(holdout.y, best.predict_proba(feature_frame(holdout))[:, 1]))
        mlflow.sklearn.log_model(best, name="best", registered_model_name=NAME, serialization_format="cloudpickle")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    job(parser.parse_args().data)
