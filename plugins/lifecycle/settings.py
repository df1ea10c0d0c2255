"""The one seam between environments: a settings file, and Airflow connections.

``LIFECYCLE_SETTINGS`` names a TOML file (``config/embedded.toml``, ``config/compose.toml``,
``config/azure.toml``). Addresses and secrets are no settings: they live in the Airflow connections
``databricks_default``, ``mlflow``, ``registry``, ``scoring_staging``, ``scoring_production``, ``logs``
and ``airflow_api``. What builds an image or runs a scoring server follows from its connection's type.
"""

import functools
import os
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec

SETTINGS_VARIABLE = "LIFECYCLE_SETTINGS"


class SettingsError(ValueError):
    """Raised when the settings file is missing or says something that cannot be."""


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the model is tracked and registered."""

    name: str = "employee_attrition"
    """Registered model; ``catalog.schema.name`` with Unity Catalog."""
    experiment: str = "/Shared/attrition"
    """MLflow experiment of the training runs."""


class Floors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a challenger must reach on the hold-out, whatever the champion does."""

    roc_auc: float = 0.70
    calibration_error: float = 0.12
    """Largest expected calibration error."""
    fairness_gap: float = 0.35
    """Largest gap in true-positive rate between groups, by the low end of its 95 % interval: groups are small."""
    latency_ms: float = 5.0
    """Largest time to score a single record with the exported bundle, in milliseconds."""


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The Databricks job that trains and registers."""

    compute: Literal["minilake", "job_cluster", "serverless"] = "minilake"
    """``minilake`` runs each task as a process of the embedded workspace."""
    new_cluster: dict[str, Any] | None = None
    """Databricks cluster specification, with ``compute = "job_cluster"``."""
    code_root: str = "/Shared/attrition/code"
    """Workspace folder under which code is published by content hash."""
    data: str = ""
    """Default training data: a CSV or Parquet path or URI that the job can read."""
    trials: int = 30
    seed: int = 20
    parallel_trials: int = 2
    task_timeout: int = 3600
    """Seconds after which Databricks ends a task of the job."""
    poll_seconds: int = 30
    floors: Floors = Floors()


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gate, and the way into production."""

    approvers: tuple[str, ...] = ()
    """Airflow user ids that may answer the gate. Empty: everybody with edit right on the DAG."""
    requester_may_approve: bool = True
    """False: the one who started the release may not approve it."""
    response_hours: float = 48.0
    """No answer within this time is a no."""
    canary_seconds: int = 300
    """How long the canary is watched before the full rollout."""
    canary_max_error_rate: float = 0.01
    canary_max_p95_ms: float = 500.0
    rollout_timeout: int = 300
    """Seconds that a rollout may take before it is rolled back."""

    @property
    def response_timeout(self) -> timedelta:
        return timedelta(hours=self.response_hours)


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One place where the scoring server runs. Its address and kind are its connection's."""

    namespace: str
    overlay: Literal["staging", "production"]
    replicas: int = 2


class Scoring(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The scoring server's image and places."""

    repository: str = "attrition-scoring"
    """Image repository within the registry of connection ``registry``."""
    base_image: str = "python:3.11-slim"
    kubectl_image: str = "registry.k8s.io/kubectl:v1.32.0"
    """Image of the deploy pods; needs bash and jq beside kubectl."""
    leave_out: tuple[Literal["ingress", "autoscaling", "disruption-budget", "network-policy"], ...] = ()
    """Parts of ``k8s/components`` that the clusters lack. Without autoscaling, ``replicas`` counts."""
    staging: Target = Target(namespace="attrition-staging", overlay="staging", replicas=1)
    production: Target = Target(namespace="attrition-production", overlay="production")


class Retraining(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The nightly loop over the exported inference logs."""

    container: str = "am-containerlogv2"
    """Container (or folder) of the export, within connection ``logs``."""
    tables: str = ""
    """The curated tables as Airflow reaches them: a folder, or ``abfs://<connection>@<container>/<folder>``."""
    job_tables: str = ""
    """The same place as the Databricks job reaches it. Empty: as Airflow does."""
    outcomes: str = ""
    """Folder where HR drops outcomes, as the job reaches it."""
    lookback_days: int = 2
    """Days before the night whose folders are read again: late records are appended there."""
    memory: str = "1GB"
    """What DuckDB may take before it spills to disk; Spark does not look at it."""
    threads: int = 2
    significance: float = 0.01
    """Largest adjusted p-value that counts as drift."""
    effect_floor: float = 0.1
    """Smallest effect (KS distance, total variation distance) that counts as drift."""
    minimum_records: int = 50
    """A night with fewer records is not judged."""
    drift_windows: int = 2
    """Nights in a row with drift in the same field before it counts as confirmed."""
    live_auc_floor: float = 0.65
    new_labels: int = 500
    """New outcomes that are reason enough to retrain."""
    pause_days: int = 7
    """After drift or lost quality started a retraining, they start no other for so long."""
    quarantine_share: float = 0.05
    """Share of unreadable lines that raises an alert."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it. Every field has a default that suits the embedded stack, or is required."""

    environment: str
    """Shown in messages and on pages; nothing branches on it."""
    airflow_url: str
    """Where people open Airflow: links in messages start with it."""
    mlflow_url: str
    """Where people open MLflow."""
    model: Model = Model()
    training: Training = Training()
    release: Release = Release()
    scoring: Scoring = Scoring()
    retraining: Retraining = Retraining()


def read(path: Path) -> Settings:
    """Read and check a settings file; a wrong one raises ``SettingsError`` that names file and field."""
    try:
        text = os.path.expandvars(path.read_text())
    except OSError as error:
        raise SettingsError(
            f"the settings file {path} cannot be read ({error.strerror}): "
            f"set {SETTINGS_VARIABLE} to a file such as config/embedded.toml"
        ) from error
    try:
        return msgspec.toml.decode(text, type=Settings)
    except msgspec.MsgspecError as error:
        raise SettingsError(f"{path}: {error}") from error


@functools.cache
def load() -> Settings:
    """The settings of this process, read once from the file that ``LIFECYCLE_SETTINGS`` names."""
    path = os.environ.get(SETTINGS_VARIABLE)
    if not path:
        raise SettingsError(f"{SETTINGS_VARIABLE} is not set: name a settings file such as config/embedded.toml")
    return read(Path(path))
