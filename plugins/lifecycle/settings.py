"""The one seam between environments: a settings file, and Airflow connections.

``LIFECYCLE_SETTINGS`` names a TOML file (``config/embedded.toml``, ``config/compose.toml``,
``config/azure.toml``). Addresses and secrets are not settings: they live in the Airflow connections
``databricks_default``, ``mlflow``, ``registry``, ``scoring_staging``, ``scoring_production``, ``logs``,
``events``, ``airflow_api`` and ``approval_key``. What builds an image, runs a scoring server or tells of new files
follows from its connection's type. Of the keys that sign bundles and images, which jobs and workers read themselves,
the settings say where they are.

Most values hold for all use cases. Those that differ follow from the use case's definition, unless the file
says otherwise: ``[every_use_case]`` for all of them, where ``{use_case}`` in a text stands for the name, and
``[use_cases.<name>]`` for single values of one. ``load().of(name)`` gives what counts for a use case.

``python -m lifecycle.settings [USE_CASE ...]`` prints the namespaces of the named use cases, or of all: a line for each
target, with the arguments of ``k8s/rbac.sh``.
"""

import functools
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from lifecycle.evidence.signature import PublicKey
from serving.scoring.described import described
from training import use_case as definitions
from training.drift.limits import Limits
from training.forecasting.limits import ForecastLimits
from training.signing.keys import VerificationKey
from training.use_case import UseCase

SETTINGS_VARIABLE = "LIFECYCLE_SETTINGS"
NO_PLAN = "-"
"""Value of a parameter ``plan``: nothing is planned, whatever the settings say."""
NAME_MARK = "{use_case}"
"""Stands for the use case's name in the texts of ``[every_use_case]``."""


class SettingsError(ValueError):
    """Raised when the settings file is missing or says something that cannot be."""


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The Databricks jobs that train, register, curate and judge."""

    compute: Literal["minilake", "job_cluster", "serverless"] = "minilake"
    """``minilake`` runs each task as a process of the embedded workspace."""
    new_cluster: dict[str, Any] | None = None
    """Databricks cluster specification, with ``compute = "job_cluster"``."""
    code_root: str = "/Shared/lifecycle/code"
    """Workspace folder under which code is published by content hash."""
    parallel_trials: int = 2
    """Trials that one machine fits side by side."""
    task_timeout: int = 3600
    """Seconds after which Databricks ends a task of the job."""
    poll_seconds: int = 30


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The approval, and the way into production."""

    response_hours: float = 48.0
    """No answer within this time is a no."""
    reminder_hours: float = 4.0
    """So long before that end, people are reminded through connection ``messages``; 0: never."""
    canary_seconds: int = 300
    """How long the canary is watched before the full rollout."""
    canary_max_error_rate: float = 0.01
    canary_max_p95_ms: float = 500.0
    rollout_timeout: int = 300
    """Seconds that a rollout may take before it is rolled back."""
    qa: Literal["", "aci"] = ""
    """Where an image is tried before it comes to staging: ``aci`` is a group of Azure Container Instances, through
    connection ``scoring_qa``. Empty: nowhere."""
    qa_seconds: int = 900
    """Seconds that trying it may take, the pull of the image included."""
    advisories: str = ""
    """Folder or zip archive of advisories in the OSV format, as workers read it: known faults of an image's Python
    packages are looked up in it. Empty: images are not scanned."""
    advisories_days: int = 7
    """Days that its newest advisory may be old; an older copy counts as none."""
    blocked_from: Literal["never", "LOW", "MODERATE", "HIGH", "CRITICAL"] = "CRITICAL"
    """The least severity of a known fault that ends a release; what nobody has rated counts as the worst."""
    unscanned_blocks: bool = False
    """Whether a release ends where its image could not be scanned."""

    @property
    def response_timeout(self) -> timedelta:
        return timedelta(hours=self.response_hours)

    @property
    def reminder(self) -> timedelta:
        """How long before the end of the time people are reminded; nothing where that would be at its beginning."""
        return timedelta(hours=self.reminder_hours if self.reminder_hours < self.response_hours else 0)


class Scoring(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The scoring servers' images and manifests."""

    base_image: str = "python:3.11-slim"
    kubectl_image: str = "registry.k8s.io/kubectl:v1.32.0"
    """Image of the deploy pods; needs bash and jq beside kubectl."""
    extras: tuple[Literal["entra", "otlp"], ...] = ()
    """Optional requirements of the images: `entra` for `SCORING_AUTH=entra`, `otlp` for the export of spans."""
    leave_out: tuple[Literal["ingress", "autoscaling", "disruption-budget", "traces"], ...] = ()
    """Parts of ``k8s/components`` that the clusters lack. ``replicas`` is used only without autoscaling; ``traces`` is
    the collector that images with `otlp` send their spans to."""


class Signing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who signs bundles and images, and whose signatures count (docs/signing.md)."""

    required: bool = True
    """Whether a bundle or an image without a signature that counts is built, deployed or rolled back to. False: the
    task's log says so, and goes on."""
    bundle_key: str = ""
    """The private key that signs bundles, where the training job finds it: a PEM file, or
    ``https://VAULT.vault.azure.net/keys/NAME``. Empty: bundles are not signed."""
    bundle_credential: str = ""
    """Service credential of Unity Catalog by which that vault knows a job on Databricks."""
    image_key: str = ""
    """The private key that signs images, where Airflow's workers find it, written likewise. Empty: images are not
    signed."""
    bundle_keys: tuple[VerificationKey, ...] = ()
    """Public keys whose signatures of bundles count: ``signer`` (who holds the private half, in words) and ``public``
    (base64). A key stays listed for as long as what it signed is to be released or rolled back to."""
    image_keys: tuple[VerificationKey, ...] = ()
    """The same for images."""


class Retraining(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The nightly loop over the exported inference logs."""

    container: str = "am-containerlogv2"
    """Container (or folder) of the export, within connection ``logs``."""
    lookback_days: int = 2
    """Days before the night whose folders are read again: late records are appended there."""
    memory: str = "1GB"
    """What DuckDB may take before it spills to disk; Spark ignores it."""
    threads: int = 2
    quarantine_share: float = 0.05
    """Share of unreadable lines that raises an alert."""


class Events(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How new files are noticed: a queue tells of them at once, and a schedule looks for what it did not tell."""

    listen: bool = False
    """Whether the queue is listened to. False: the schedule alone finds new files, and finds all of them."""
    queue: str = "lifecycle-events"
    """Queue within connection ``events``."""
    sweep: str = "*/15 * * * *"
    """When the watched folders are looked through: cron, in UTC."""


Price = Annotated[float, msgspec.Meta(ge=0)]


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What Azure's meters cost you. Empty: quantities are shown, and no amounts. See docs/azure.md for the meters."""

    currency: str = ""
    """What the prices are in, as it is shown: ``EUR``."""
    dbu_an_hour: Price | None = None
    """DBU that an hour of a job's task takes, as Databricks' table ``system.billing.usage`` has it for your jobs."""
    dbu: Price | None = None
    """One DBU. Meter: Azure Databricks, DBU of serverless jobs, or of job clusters (*Jobs Compute*)."""
    vcpu_hour: Price | None = None
    """One vCPU of the clusters' nodes for an hour. Meter: Virtual Machines, hour of the node's size, by its vCPUs."""
    container_vcpu_hour: Price | None = None
    """One vCPU of a QA container for an hour. Meters: Container Instances, vCPU duration and, for its 1 GB, memory."""
    build_minute: Price | None = None
    """One minute of a build. Meter: Container Registry, Tasks, seconds of vCPU: 60 seconds of the task's vCPUs."""
    log_gb: Price | None = None
    """One GB of log lines (10^9 bytes). Meters: Log Analytics, GB taken in, and data export, GB: the sum of both."""

    def __post_init__(self) -> None:
        named = [name for name in self.__struct_fields__ if name not in ("currency", "dbu_an_hour")]
        if not self.currency and any(getattr(self, name) is not None for name in named):
            raise ValueError('[prices] has a price and no currency: add a line such as currency = "EUR"')


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a scoring server runs: staging or production. Address and kind are the connection's."""

    namespace: str = ""
    """Kubernetes namespace. Default: the use case's name and the target, with dashes."""
    replicas: int = 2


@described
class UseCaseSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may differ between use cases. Empty values follow from the definition in ``use_cases/``."""

    model_name: str = ""
    """Registered model; ``catalog.schema.name`` with Unity Catalog. Default: the definition's ``model``."""
    experiment: str = ""
    """MLflow experiment of the training runs. Default: ``/Shared/`` and the name."""
    data: str = ""
    """Training data: a CSV or Parquet path or URI that the job can read. Default: the definition's own file."""
    trials: int = 0
    """Tuning trials. Default: the definition's ``trials``."""
    seed: int = 20
    """The same seed and data give the same model."""
    approvers: tuple[str, ...] = ()
    """Who may answer the gate: ids or names of Airflow's users; an e-mail address in any case. Empty: everybody with
    edit right on the DAG."""
    requester_may_approve: bool = True
    """False: the person behind the release may not approve it, also where they started the training or the nightly run
    that led to it; where nobody can tell who it was, nobody may."""
    repository: str = ""
    """Image repository within the registry of connection ``registry``. Default: the name and ``-scoring``."""
    other_repositories: tuple[str, ...] = ()
    """Further repositories that a cluster may run images of, such as that of a former registry, to which a rollback
    goes back: ``registry.example.com/name``."""
    staging: Target = Target(replicas=1)
    production: Target = Target()
    tables: str = ""
    """The curated tables as Airflow reaches them: a folder, or ``abfs://<connection>@<container>/<folder>``."""
    job_tables: str = ""
    """The same place as the Databricks job reaches it. Empty: the same path as ``tables``."""
    plan: str = ""
    """For a quantity: the table of what is known of weeks to come, as the job reaches it. Default: the definition's own
    file."""
    outcomes: str = ""
    """Folder where outcomes are dropped, as the job reaches it."""
    outcomes_folder: str = ""
    """The same folder as Airflow reaches it, as ``tables`` is written. Empty: as the job does."""
    bronze: str = ""
    """Folder where new data arrives, as Airflow reaches it, as ``tables`` is written. Each file is a whole table."""
    job_bronze: str = ""
    """The same folder as the job reaches it. Empty: the same path as ``bronze``."""
    start_on_data: tuple[Literal["train", "score"], ...] = ()
    """What a new file in ``bronze`` starts."""
    start_on_outcomes: bool = False
    """Whether new outcomes start the nightly run at once, and not only at night."""
    data_writers: tuple[str, ...] = ()
    """Who may write into ``bronze`` and ``outcomes``: ids or names of Airflow's users. Where ``requester_may_approve``
    is false, they do not approve what new files have led to; while the list is empty, nobody does."""
    batch: str = ""
    """The table that the batch scoring reads, as the job reaches it: CSV, Parquet or Delta. ``{date}`` stands for the
    date that is scored."""
    forecast: ForecastLimits = ForecastLimits()
    """For a quantity, in place of ``drift``: when a new version takes over, and when a week is a poor one."""
    drift: Limits = Limits()
    """When the nightly run calls a difference drift, and when it starts a training."""

    def planned(self, given: str | None) -> str:
        """The plan to go by: as ``given``, or these settings' own; empty where there is none."""
        plan = given or self.plan
        return "" if plan == NO_PLAN else plan


@described
class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it. Every field has a default that suits the embedded stack, or is required."""

    environment: str
    """Shown in messages and on pages; nothing branches on it."""
    airflow_url: str
    """Where people open Airflow: links in messages start with it."""
    mlflow_url: str
    """Where people open MLflow."""
    approval_keys: tuple[PublicKey, ...] = ()
    """Public keys that approvals are checked with: ``id``, ``public`` (base64), ``from`` and, once replaced, ``until``.
    A key stays listed for as long as approvals that it signed are to count."""
    training: Training = Training()
    release: Release = Release()
    scoring: Scoring = Scoring()
    signing: Signing = Signing()
    retraining: Retraining = Retraining()
    events: Events = Events()
    prices: Prices = Prices()
    every_use_case: dict[str, Any] = {}
    """Values of ``UseCaseSettings`` for all use cases; ``{use_case}`` in a text stands for the name."""
    use_cases: dict[str, dict[str, Any]] = {}
    """Values of ``UseCaseSettings`` by use case; each counts more than ``every_use_case``."""

    def __post_init__(self) -> None:
        _converted(UseCaseSettings(), {}, self.every_use_case, "every_use_case")
        for name, table in self.use_cases.items():
            _converted(UseCaseSettings(), {}, table, f"use_cases.{name}")

    def of(self, use_case: UseCase | str) -> UseCaseSettings:
        """What counts for a use case; raises ``UseCaseError`` where its name has no definition."""
        found = definitions.load(use_case) if isinstance(use_case, str) else use_case
        every = _named(self.every_use_case, found.name)
        return _converted(_defaults(found), every, self.use_cases.get(found.name, {}), f"use_cases.{found.name}")


def _defaults(use_case: UseCase) -> UseCaseSettings:
    """What follows from the definition alone."""
    return UseCaseSettings(
        model_name=use_case.model_name,
        experiment=use_case.experiment,
        data=str(use_case.folder / use_case.data) if use_case.data else "",
        plan=str(use_case.folder / use_case.plan) if use_case.plan else "",
        trials=use_case.trials,
        repository=use_case.image,
        staging=Target(namespace=use_case.namespace("staging"), replicas=1),
        production=Target(namespace=use_case.namespace("production")),
    )


def _named(value: Any, name: str) -> Any:
    """A table of the file with the use case's name put into its texts."""
    if isinstance(value, str):
        return value.replace(NAME_MARK, name)
    if isinstance(value, dict):
        return {key: _named(inner, name) for key, inner in value.items()}
    return [_named(inner, name) for inner in value] if isinstance(value, list) else value


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """The lower table with the values of the upper one over it; inner tables value by value."""
    inner = {key: _merged(below[key], value) for key, value in above.items() if _both(below.get(key), value)}
    return {**below, **above, **inner}


def _both(below: Any, above: Any) -> bool:
    return isinstance(below, dict) and isinstance(above, dict)


def _converted(defaults: UseCaseSettings, every: dict[str, Any], table: dict[str, Any], named: str) -> UseCaseSettings:
    merged = _merged(_merged(msgspec.to_builtins(defaults), every), table)
    try:
        return msgspec.convert(merged, UseCaseSettings)
    except msgspec.ValidationError as error:
        raise ValueError(f"[{named}]: {error}") from error


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


def namespaces(names: Sequence[str] = ()) -> list[tuple[str, str, str]]:
    """Slug, target and namespace of each use case that is named, or of all; the settings say which namespace it is.

    A use case without a server has none.
    """
    found = [found for name in names or definitions.names() if (found := definitions.load(name)).online]
    return [
        (use_case.slug, target, namespace)
        for use_case in found
        for counts in [load().of(use_case)]
        for target, namespace in (("staging", counts.staging.namespace), ("production", counts.production.namespace))
    ]


def main(arguments: Sequence[str]) -> None:
    """Print the namespaces; settings or a definition that do not hold end it with what is wrong."""
    try:
        lines = namespaces(arguments)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    sys.stdout.writelines(f"{' '.join(line)}\n" for line in lines)


if __name__ == "__main__":
    main(sys.argv[1:])
