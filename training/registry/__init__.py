"""The job's side of MLflow: runs, model versions, and the names that all parts share."""

import os

# Read by MLflow at every download: what it draws to stderr is an error in the log of a task.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
