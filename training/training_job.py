"""The training job: what Databricks runs, a task at a time.

``training_job.py TASK --run-key KEY --config JSON`` with TASK prepare, tune, evaluate or register (``all`` runs the
four in one process). The tasks hand over through one parent run in MLflow, which is found by its key: a
task that is killed and run again goes on where it was, and makes no second run and no second version.
The first three follow from the kind of the use case's label (``training.kinds``), the last one is the same for all.
MLflow is where ``MLFLOW_TRACKING_URI`` says.
"""

import importlib
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

# Trials run side by side in processes of one thread each. Set before NumPy and scikit-learn are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

if __name__ == "__main__":
    # Databricks runs this file by its path: the code root takes the place of this folder on the path.
    ROOT = Path(__file__).resolve().parent.parent
    sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT / "training")]

from training import command_line
from training.config import JobConfig, read_config
from training.use_case import UseCase, load

log = logging.getLogger("training")

TASKS = ("prepare", "tune", "evaluate", "register")
BUNDLE = "bundle"


def register(config: JobConfig, run_key: str) -> None:
    """Make the model version, unless the challenger was not accepted and nobody forces it."""
    from training.registry import tags
    from training.registry.register import describe
    from training.registry.register import register as register_version
    from training.registry.tracking import tracker_of
    from training.signing.keys import open_key

    tracker = tracker_of(config, run_key)
    with tracker.resume() as run:
        evaluation = tracker.read_json(run, tags.EVALUATION_FILE)
        failed = evaluation["verdict"] == "failed"
        if failed and not config.force:
            log.warning("nothing is registered: %s", "; ".join(evaluation["reasons"]))
            tracker.client.set_terminated(run.info.run_id)
            return
        version_tags = {
            tags.RUN_KEY: run_key,
            tags.DATA_DIGEST: evaluation["data"]["digest"],
            tags.TRAINING_RUN_ID: run.info.run_id,
            tags.VERDICT: "forced" if failed else "passed",
            tags.GIT_REVISION: config.git_revision,
            tags.CODE_HASH: config.code_hash,
        }
        version_tags = {tags.ABOUT: tags.about(version_tags), **version_tags}
        with tempfile.TemporaryDirectory() as scratch:
            bundle = tracker.fetch(run, BUNDLE, Path(scratch))
            arguments = _of_kind("model_arguments", load(config.use_case))
            key = open_key(config.signing_key, config.signing_credential) if config.signing_key else None
            version = register_version(tracker, run, bundle, version_tags, arguments, key)
            card = tracker.fetch(run, tags.MODEL_CARD_FILE, Path(scratch))
            describe(tracker, run, version, card.read_text())
        tracker.client.set_terminated(run.info.run_id)
        log.info("registered %s version %s as %s", version.name, version.version, tags.CHALLENGER)


def _of_kind(name: str, use_case: UseCase) -> Any:
    """A function for the kind of the use case's label."""
    return getattr(importlib.import_module(use_case.kind.tasks), name)


def main(arguments: list[str] | None = None) -> None:
    """Run one task, or all."""
    parser = command_line.make_parser("training_job.py", "Train and register a model.", [*TASKS, "all"])
    parsed = command_line.begin(parser, arguments)
    config = read_config(parsed.config)
    for name in TASKS if parsed.task == "all" else [parsed.task]:
        log.info("task %s of %s", name, parsed.run_key)
        task = register if name == "register" else _of_kind(name, load(config.use_case))
        task(config, parsed.run_key)


if __name__ == "__main__":
    main()
