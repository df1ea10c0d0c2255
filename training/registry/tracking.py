"""The parent run in MLflow: found by the job's key, never made twice; the tasks hand over through it."""

import contextlib
import functools
import importlib.metadata
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# A job with personal data sends no usage statistics of a library.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# The log is the job's: no two lines of links for each trial.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from training.config import JobConfig
from training.registry import tags
from training.registry.runs import run_of_key, search_runs
from training.registry.versions import version_of_alias
from training.search.trial_result import TrialResult
from training.trace import trace_tags

TRIAL = "lifecycle_trial"
"""On nested runs: the trial's number."""
_PARENT = "mlflow.parentRunId"


class TrackingError(ValueError):
    """Raised when MLflow does not hold what an earlier task must have left there."""


class Tracker:
    """One job's parent run and what hangs on it. Every method may be repeated."""

    def __init__(self, *, experiment: str, model_name: str, run_key: str) -> None:
        self.experiment = experiment
        self.model_name = model_name
        self.run_key = run_key
        if mlflow.get_tracking_uri() == "databricks" and "MLFLOW_REGISTRY_URI" not in os.environ:
            mlflow.set_registry_uri("databricks-uc")
        self.client = MlflowClient()
        self.experiment_id = self._experiment()
        self._unfinished: dict[int, str] = {}
        """Nested runs of trials that an interrupted try has begun to log."""

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                return str(self.client.create_experiment(self.experiment))
            except MlflowException:
                # Another job made it in between, or it cannot be made: the second look tells.
                found = self.client.get_experiment_by_name(self.experiment)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"the experiment {self.experiment!r} is deleted: restore it in MLflow, or name another one"
            )
        return str(found.experiment_id)

    def find(self) -> Run | None:
        """The parent run of this key, or ``None``."""
        return run_of_key(self.client, self.experiment_id, self.run_key)

    def champion(self) -> ModelVersion | None:
        """The version in production, or ``None`` before the first promotion."""
        return version_of_alias(self.client, self.model_name, tags.CHAMPION)

    def start(self, run_tags: Mapping[str, str], name: str = "training") -> Run:
        """The parent run of this key, made if there is none, under way; ``name`` is what people know it by."""
        run, run_tags = self.find(), {**run_tags, **trace_tags()}
        if run is None:
            return self.client.create_run(
                self.experiment_id,
                run_name=name,
                tags={**run_tags, tags.RUN_KEY: self.run_key},
            )
        self.client.update_run(run.info.run_id, status="RUNNING")
        # What became of it stays as it was said.
        changed = [RunTag(key, value) for key, value in run_tags.items() if key != tags.ABOUT]
        self.client.log_batch(run.info.run_id, tags=changed)
        return run

    @contextlib.contextmanager
    def resume(self) -> Iterator[Run]:
        """The parent run that ``prepare`` made, under way; failed when the block raises.

        Raises ``TrackingError`` where there is none.
        """
        run = self.find()
        if run is None:
            raise TrackingError(
                f"no run with {tags.RUN_KEY} = {self.run_key} in experiment {self.experiment!r}: "
                "run the task prepare first, with the same key"
            )
        self.client.update_run(run.info.run_id, status="RUNNING")
        try:
            yield run
        except Exception:
            self.client.set_terminated(run.info.run_id, "FAILED")
            raise

    def log(
        self, run: Run, metrics: Mapping[str, float], params: Mapping[str, Any], run_tags: Mapping[str, str]
    ) -> None:
        """Metrics, parameters and tags in one call. Parameters that are there already stay as they are."""
        now = int(time.time() * 1000)
        known = run.data.params
        self.client.log_batch(
            run.info.run_id,
            metrics=[Metric(name, float(value), now, 0) for name, value in metrics.items()],
            params=[Param(name, str(value)) for name, value in params.items() if name not in known],
            tags=[RunTag(name, value) for name, value in run_tags.items()],
        )

    def log_dataset(self, run: Run, *, name: str, digest: str, source: str, rows: int, context: str) -> None:
        """The data as MLflow's data set of the run, by name, digest and source."""
        known = run.inputs.dataset_inputs if run.inputs else []
        if any(entry.dataset.digest == digest for entry in known):
            return
        dataset = Dataset(
            name=name,
            digest=digest,
            source_type="local",
            source=json.dumps({"uri": source}),
            profile=json.dumps({"num_rows": rows}),
        )
        self.client.log_inputs(run.info.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    def recorded_trials(self, run: Run) -> dict[int, TrialResult]:
        """Trials that an earlier try of this job has finished, by number."""
        return {
            number: TrialResult(
                number=number,
                parameters=json.loads(found[f"{TRIAL}.parameters"]),
                scores=tuple(json.loads(found[f"{TRIAL}.scores"])),
            )
            for number, found in self.recorded(run).items()
        }

    def recorded(self, run: Run) -> dict[int, dict[str, str]]:
        """Tags of the trials that an earlier try of this job has finished, by number."""
        found = {}
        for nested in search_runs(self.client, self.experiment_id, f"tags.`{_PARENT}` = '{run.info.run_id}'"):
            number = int(nested.data.tags[TRIAL])
            if nested.info.status != "FINISHED":
                self._unfinished[number] = nested.info.run_id
            else:
                found[number] = dict(nested.data.tags)
        return found

    def record_trial(self, run: Run, result: TrialResult) -> None:
        """Log a trial as nested run: made, filled in one batch, and ended. No model is logged."""
        run_id = self._unfinished.get(result.number) or self._new_trial_run(run, result)
        now = int(time.time() * 1000)
        steps = [Metric("roc_auc_repeat", score, now, step) for step, score in enumerate(result.scores)]
        self._fill(
            run_id,
            [Metric("roc_auc_cv", result.score, now, 0), Metric("seconds", result.seconds, now, 0), *steps],
            result.parameters,
            {
                f"{TRIAL}.parameters": json.dumps(result.parameters),
                f"{TRIAL}.scores": json.dumps(result.scores),
                f"{TRIAL}.state": "pruned" if result.pruned else "complete",
            },
        )

    def record(
        self,
        run: Run,
        number: int,
        metrics: Mapping[str, float],
        params: Mapping[str, Any],
        run_tags: Mapping[str, str],
    ) -> None:
        """Log any trial as ``record_trial`` does; ``recorded`` gives its tags back."""
        run_id = self._unfinished.get(number) or self._new_nested(run, number, f"trial {number + 1:02d}")
        now = int(time.time() * 1000)
        self._fill(run_id, [Metric(name, value, now, 0) for name, value in metrics.items()], params, run_tags)

    def _fill(self, run_id: str, metrics: list[Metric], params: Mapping[str, Any], run_tags: Mapping[str, str]) -> None:
        self.client.log_batch(
            run_id,
            metrics=metrics,
            params=[Param(name, str(value)) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in run_tags.items()],
        )
        self.client.set_terminated(run_id)

    def _new_trial_run(self, run: Run, result: TrialResult) -> str:
        return self._new_nested(run, result.number, result.title)

    def _new_nested(self, run: Run, number: int, name: str) -> str:
        nested = self.client.create_run(
            self.experiment_id, run_name=name, tags={_PARENT: run.info.run_id, TRIAL: str(number)}
        )
        return str(nested.info.run_id)

    def write_json(self, run: Run, name: str, content: Any) -> None:
        """Keep an object as JSON artifact of the run."""
        self.client.log_text(run.info.run_id, json.dumps(content, indent=2), name)

    def read_json(self, run: Run, name: str) -> Any:
        """A JSON artifact of the run; raises ``TrackingError`` where it is missing."""
        with tempfile.TemporaryDirectory() as scratch:
            return json.loads(self.fetch(run, name, Path(scratch)).read_text())

    def fetch(self, run: Run, name: str, destination: Path) -> Path:
        """Download an artifact, file or folder, and return where it lies."""
        try:
            return Path(self.client.download_artifacts(run.info.run_id, name, str(destination)))
        except (MlflowException, OSError) as error:
            raise TrackingError(
                f"run {run.info.run_id} has no artifact {name}: run the tasks before this one first ({error})"
            ) from error


def tracker_of(config: JobConfig, run_key: str) -> Tracker:
    """What keeps the parent run of a training job."""
    return Tracker(experiment=config.experiment, model_name=config.model_name, run_key=run_key)


@functools.cache
def describe_environment() -> str:
    """What a run was made with: Python, machine and every installed package, a line each."""
    # Each look at a package's metadata reads its whole description.
    found = (package.metadata for package in importlib.metadata.distributions())
    packages = sorted({f"{one['Name']}=={one['Version']}" for one in found}, key=str.lower)
    system = [f"python {platform.python_version()}", f"{platform.system()} {platform.machine()}"]
    return "\n".join([*system, *packages]) + "\n"
