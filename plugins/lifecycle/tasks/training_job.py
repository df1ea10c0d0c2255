"""The Databricks job of one training run, as the Jobs API wants it."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from lifecycle.settings import Settings

STEPS = ("prepare", "tune", "evaluate", "register")


def job_config(settings: Settings, code: dict[str, str], params: dict[str, Any]) -> dict[str, Any]:
    """What ``training/training_job.py`` gets as ``--config``: the DAG's params over the settings."""
    training = settings.training
    return {
        "data": params.get("data") or training.data,
        "trials": params.get("trials") or training.trials,
        "seed": training.seed if params.get("seed") is None else params["seed"],
        "force": bool(params.get("force")),
        "model_name": settings.model.name,
        "experiment": settings.model.experiment,
        "floors": msgspec.to_builtins(training.floors),
        "parallel_trials": training.parallel_trials,
        "code_hash": code["code_hash"],
        "git_revision": code["git_revision"],
    }


def _compute(settings: Settings, code_path: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What each task runs on, and the run's environments: (task fields, environments)."""
    requirements = f"/Workspace{code_path}/training/requirements.txt"
    if settings.training.compute == "serverless":
        spec = {"environment_version": "4", "dependencies": [f"-r {requirements}"]}
        return {"environment_key": "default"}, [{"environment_key": "default", "spec": spec}]
    if settings.training.compute == "job_cluster":
        return {
            "new_cluster": settings.training.new_cluster,
            "libraries": [{"requirements": requirements}],
        }, []
    return {}, []


def job_tasks(
    settings: Settings,
    code_path: str,
    run_key: str,
    config: dict[str, Any],
    *,
    entry: str = "training/training_job.py",
    steps: Sequence[str] = STEPS,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The steps of file ``entry`` as tasks, each after the one before, and their environments."""
    compute, environments = _compute(settings, code_path)
    # MiniLake resolves workspace paths as they are; Databricks shows workspace files below /Workspace.
    prefix = "" if settings.training.compute == "minilake" else "/Workspace"
    tasks = []
    for number, step in enumerate(steps):
        task: dict[str, Any] = {
            "task_key": step,
            "timeout_seconds": settings.training.task_timeout,
            "spark_python_task": {
                "python_file": f"{prefix}{code_path}/{entry}",
                "parameters": [step, "--run-key", run_key, "--config", json.dumps(config, sort_keys=True)],
            },
            **compute,
        }
        if number:
            task["depends_on"] = [{"task_key": steps[number - 1]}]
        tasks.append(task)
    return tasks, environments
