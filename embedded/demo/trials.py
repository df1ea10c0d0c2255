"""How far the search of a training run is: asked of MLflow, where the job logs a trial as it ends."""

import time
from typing import Any

import requests

from lifecycle.idempotency import action_key
from training.registry import tags

_TIMEOUT = 2.0
_EVERY = 2.0
"""Seconds between two questions."""
_PARENT = "mlflow.parentRunId"
_HIGHER, _LOWER = "roc_auc_cv", "score"
"""What a trial of a classifier, and one of forecasts, is ranked by."""


class Trials:
    """One training run's trials, in half a line."""

    def __init__(self, mlflow_url: str, train_dag: str, run_id: str) -> None:
        self._url = f"{mlflow_url}/api/2.0/mlflow"
        self._key = action_key(dag_id=train_dag, run_id=run_id, task_id="train_and_register", purpose="training")
        self._parent: dict[str, Any] = {}
        self._told, self._asked = "", 0.0

    def __call__(self) -> str:
        """``trial 12 of 30, best ROC AUC so far 0.8412``; empty before the first has ended."""
        if time.monotonic() - self._asked > _EVERY:
            self._asked = time.monotonic()
            try:
                self._told = self._look() or self._told
            except requests.RequestException as error:
                self._told = f"MLflow does not answer ({type(error).__name__})"
        return self._told

    def _look(self) -> str:
        if not self._parent:
            experiments = self._post("experiments/search", max_results=100).get("experiments", [])
            ids = [one["experiment_id"] for one in experiments]
            found = self._post("runs/search", experiment_ids=ids, filter=f"tags.`{tags.RUN_KEY}` = '{self._key}'")
            if not found.get("runs"):
                return ""
            self._parent = found["runs"][0]
        info = self._parent["info"]
        nested = self._post(
            "runs/search",
            experiment_ids=[info["experiment_id"]],
            filter=f"tags.`{_PARENT}` = '{info['run_id']}' and attributes.status = 'FINISHED'",
            max_results=1000,
        )
        asked = {one["key"]: one["value"] for one in self._parent["data"].get("params", [])}
        return told([_metrics(run) for run in nested.get("runs", [])], asked.get("trials", "?"))

    def _post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = requests.post(f"{self._url}/{path}", json=body, timeout=_TIMEOUT)
        answer.raise_for_status()
        return dict(answer.json())


def _metrics(run: dict[str, Any]) -> dict[str, float]:
    return {one["key"]: float(one["value"]) for one in run["data"].get("metrics", [])}


def told(ended: list[dict[str, float]], asked: str) -> str:
    """What the metrics of the ended trials say; empty where none has ended."""
    if not ended:
        return ""
    scores = [found[_HIGHER] for found in ended if _HIGHER in found]
    errors = [found[_LOWER] for found in ended if _LOWER in found]
    best = f", best ROC AUC so far {max(scores):.4f}" if scores else ""
    best = f", lowest error so far {min(errors):.4f}" if errors else best
    return f"trial {len(ended)} of {asked}{best}"
