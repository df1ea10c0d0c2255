"""The model registry: which version is challenger, champion, in staging, approved.

Everything goes through MLflow's client on connection ``mlflow``. An ``http`` connection is a tracking
server; a ``databricks`` connection is a workspace with Unity Catalog as the registry. A process reads the
connection once (``client``). What is asked for one use case takes its name first.
"""

import functools
import itertools
import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from airflow.sdk import BaseHook

from lifecycle import settings
from lifecycle.hooks import connections
from lifecycle.image_reference import ImageReference
from training import use_case as definitions
from training.registry import runs, tags, versions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

CONNECTION_ID = "mlflow"
_ALERTED_NIGHTS = 62
"""Newest judged nights among which an alerted one is looked for: twice what a run closes at most."""


RegistryError = versions.RegistryError


class Version(msgspec.Struct, frozen=True):
    """One registered model version, as the releases see it."""

    name: str
    version: str
    run_id: str
    tags: dict[str, str]
    aliases: tuple[str, ...] = ()

    @property
    def image(self) -> ImageReference | None:
        """What was built for it last; raises ``ImageReferenceError`` where the tag holds something else."""
        return ImageReference.parse(text) if (text := self.tags.get(tags.IMAGE)) else None


def _databricks_environment(connection: Any) -> dict[str, str]:
    """The unified-authentication variables that MLflow and the Databricks SDK read, from a connection."""
    extra = connection.extra_dejson
    variables = {"DATABRICKS_HOST": connections.address(connection, "https")}
    if token := extra.get("token") or (connection.password if not connection.login else None):
        variables["DATABRICKS_TOKEN"] = token
    elif tenant := extra.get("azure_tenant_id"):
        variables |= {
            "ARM_TENANT_ID": tenant,
            "ARM_CLIENT_ID": connection.login,
            "ARM_CLIENT_SECRET": connection.password,
        }
    elif extra.get("use_azure_managed_identity"):
        variables["ARM_USE_MSI"] = "true"
    else:
        variables |= {
            "DATABRICKS_CLIENT_ID": connection.login,
            "DATABRICKS_CLIENT_SECRET": connection.password,
        }
    return variables


@functools.cache
def client(conn_id: str = CONNECTION_ID) -> "MlflowClient":
    """This process's MLflow client for tracking and registry; also sets the process's MLflow addresses.

    ``client.cache_clear()`` makes the next call read the connection again.
    """
    connection = BaseHook.get_connection(conn_id)
    if connection.conn_type == "databricks":
        os.environ.update(_databricks_environment(connection))
        tracking, registry = "databricks", "databricks-uc"
    elif connection.conn_type in connections.HTTP_TYPES:
        tracking = registry = connections.address(connection)
        if connection.login:
            os.environ["MLFLOW_TRACKING_USERNAME"] = connection.login
            os.environ["MLFLOW_TRACKING_PASSWORD"] = connection.password or ""
    else:
        raise RegistryError(
            f"connection {conn_id!r} has type {connection.conn_type!r}: use http (an MLflow server) or databricks"
        )
    os.environ.update(MLFLOW_TRACKING_URI=tracking, MLFLOW_REGISTRY_URI=registry)
    # Imported here: mlflow takes seconds, and DAG files import this module.
    import mlflow

    mlflow.set_tracking_uri(tracking)
    mlflow.set_registry_uri(registry)
    return mlflow.MlflowClient(tracking, registry)


def _version(found: Any) -> Version:
    return Version(
        name=found.name,
        version=str(found.version),
        run_id=found.run_id or "",
        tags=dict(found.tags),
        aliases=tuple(found.aliases or ()),
    )


def model_name(use_case: str) -> str:
    """The registered model of a use case."""
    return settings.load().of(use_case).model_name


def by_alias(use_case: str, alias: str) -> Version | None:
    """The version that an alias names, or ``None`` where the alias or the model is not there."""
    found = versions.version_of_alias(client(), model_name(use_case), alias)
    return _version(found) if found else None


def resolve(use_case: str, version: str | int | None = None, *, alias: str = tags.CHALLENGER) -> Version:
    """The version to act on: a given number, or the one that ``alias`` names where none is given.

    Raises ``RegistryError`` where there is none.
    """
    name = model_name(use_case)
    if version is None or str(version) == "":
        if found := by_alias(use_case, alias):
            return found
        raise RegistryError(
            f"model {name} has no version with alias {alias!r}: run {definitions.load(use_case).train_dag} first, "
            "or give a version number"
        )
    numbered = versions.version_of_number(client(), name, str(version))
    if numbered is None:
        raise RegistryError(f"model {name} has no version {version}: choose one that the registry lists")
    return _version(numbered)


def training_run(use_case: str, run_key: str) -> str | None:
    """Id of the training run with this key, or ``None``."""
    experiment = client().get_experiment_by_name(settings.load().of(use_case).experiment)
    found = runs.run_of_key(client(), experiment.experiment_id, run_key) if experiment else None
    return str(found.info.run_id) if found else None


def experiment_of(run_id: str) -> str:
    """Id of the experiment that a run belongs to."""
    return str(client().get_run(run_id).info.experiment_id)


def by_training_run(use_case: str, run_id: str, run_key: str) -> Version | None:
    """The version that the training run with this key registered, or ``None`` when it registered nothing."""
    found = versions.version_of_run(client(), model_name(use_case), run_id, run_key)
    return _version(found) if found else None


def download_bundle(name: str, version: str, destination: Path) -> Path:
    """Fetch a version's bundle into ``destination`` (replaced if it is there) and return it."""
    client()  # its servers are those that the download asks
    return versions.fetch_bundle(name, version, destination)


def training_text(run_id: str, path: str) -> str:
    """A text artifact of a training run, as it is stored."""
    return _artifact_text(_artifacts(run_id), path)


def find_text(run_id: str, path: str) -> str | None:
    """A text artifact of a training run, or ``None`` where there is none of this path."""
    place, (folder, _, name) = _artifacts(run_id), path.rpartition("/")
    import mlflow

    listed = mlflow.artifacts.list_artifacts(f"{place}/{folder}") if folder else client().list_artifacts(run_id)
    found = any(item.path.rpartition("/")[2] == name for item in listed)
    return _artifact_text(place, path) if found else None


def _artifacts(run_id: str) -> str:
    """Address of a run's artifacts.

    By ``runs:/...`` MLflow would ask for the run twice for each of them, and whether a logged model has it.
    """
    return str(client().get_run(run_id).info.artifact_uri)


def _artifact_text(place: str, path: str) -> str:
    import mlflow

    return str(mlflow.artifacts.load_text(f"{place}/{path}"))


def training_artifact(run_id: str, path: str) -> dict[str, Any]:
    """A JSON artifact of a training run, for example its ``evaluation.json``."""
    loaded: dict[str, Any] = json.loads(training_text(run_id, path))
    return loaded


def set_tags(version: Version, values: dict[str, str]) -> None:
    """Write tags of a model version, and what they say to people; the same call twice leaves the same registry.

    ``version`` has the tags from then on.
    """
    version.tags.update(values)
    if (about := tags.about(version.tags)) != version.tags.get(tags.ABOUT, ""):
        values = {**values, tags.ABOUT: about}
        version.tags[tags.ABOUT] = about
    for key, value in values.items():
        client().set_model_version_tag(version.name, version.version, key, value)


def approval_tag(image: ImageReference) -> str:
    """The tag of a model version that holds the approval of one image."""
    return tags.APPROVAL_OF + image.digest.removeprefix("sha256:")


def released_at(version: Version) -> str:
    """When a version came into production last, UTC; it changes with every release and rollback that brings it there.

    Empty where it never did.
    """
    return version.tags.get(tags.RELEASED_AT, "")


def standing(use_case: str) -> dict[str, str]:
    """Since when the champion is in production (``released_at``), and which version runs ``beside`` it.

    By these a run of a use case without a server knows later on whether another run has come after it; with a server,
    it asks what that runs, and this is empty.
    """
    if definitions.load(use_case).online:
        return {}
    champion, beside = by_alias(use_case, tags.CHAMPION), by_alias(use_case, tags.BESIDE)
    return {"released_at": released_at(champion) if champion else "", "beside": beside.version if beside else ""}


def mark_staging(use_case: str, version: str | None) -> None:
    """Let alias ``staging`` name the version that runs in staging, from now on, or nothing."""
    if version:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        client().set_model_version_tag(model_name(use_case), version, tags.STAGED_AT, now)
        client().set_registered_model_alias(model_name(use_case), tags.STAGING, version)
    elif by_alias(use_case, tags.STAGING):
        client().delete_registered_model_alias(model_name(use_case), tags.STAGING)


def promote(use_case: str, version: Version, image: ImageReference) -> Version | None:
    """Make ``version`` the champion and the old one ``previous_champion``; returns the one it replaced.

    May be interrupted and repeated at any point. One call decides: the one that moves ``champion``. The version says
    before it what it is going to replace, which nobody reads until it is the champion; ``previous_champion``, for
    people and other clients, follows. A version that is already champion moves nothing.
    """
    champion = by_alias(use_case, tags.CHAMPION)
    values = {tags.IMAGE: str(image), tags.RELEASED_AT: datetime.now(UTC).isoformat(timespec="milliseconds")}
    if champion and champion.version == version.version:
        log.info("version %s is the champion already", version.version)
        set_tags(version, values)
    else:
        set_tags(version, {**values, tags.REPLACED: champion.version if champion else ""})
        client().set_registered_model_alias(version.name, tags.CHAMPION, version.version)
    replaced = before_champion(use_case)
    if replaced:
        client().set_registered_model_alias(version.name, tags.PREVIOUS_CHAMPION, replaced.version)
    challenger = by_alias(use_case, tags.CHALLENGER)
    if challenger and challenger.version == version.version:
        client().delete_registered_model_alias(version.name, tags.CHALLENGER)
    return replaced


def before_champion(use_case: str) -> Version | None:
    """The version that the champion has replaced, also where a promotion was killed; never the champion itself."""
    champion = by_alias(use_case, tags.CHAMPION)
    if champion is None:
        return None
    if tags.REPLACED in champion.tags:
        number = champion.tags[tags.REPLACED]
        return resolve(use_case, number) if number else None
    # It became champion before versions said what they replace.
    previous = by_alias(use_case, tags.PREVIOUS_CHAMPION)
    return previous if previous and previous.version != champion.version else None


def run_beside(use_case: str, version: Version, image: ImageReference) -> None:
    """Let an approved version run beside the champion, in place of any other; the same call twice changes nothing."""
    set_tags(version, {tags.IMAGE: str(image), tags.STAGED_AT: datetime.now(UTC).isoformat(timespec="seconds")})
    client().set_registered_model_alias(version.name, tags.BESIDE, version.version)
    challenger = by_alias(use_case, tags.CHALLENGER)
    if challenger and challenger.version == version.version:
        client().delete_registered_model_alias(version.name, tags.CHALLENGER)


def end_beside(use_case: str) -> None:
    """From here on no version runs beside the champion."""
    if by_alias(use_case, tags.BESIDE):
        client().delete_registered_model_alias(model_name(use_case), tags.BESIDE)


def recent_windows(use_case: str, count: int) -> list["Run"]:
    """The MLflow runs of the newest nightly verdicts, newest first."""
    experiment = client().get_experiment_by_name(monitoring_experiment(use_case))
    if experiment is None:
        return []
    newest = runs.search_runs(client(), experiment.experiment_id, order_by=["attributes.start_time DESC"])
    return list(itertools.islice(newest, count))


def mark_night(use_case: str, night: str, tag: str, text: str) -> "Run | None":
    """Say something on the run of a recent night's verdict, which keeps its report; returns that run.

    The run is there once the night is judged; ``None`` where it is not.
    """
    recent = recent_windows(use_case, _ALERTED_NIGHTS)
    found = next((run for run in recent if run.data.tags.get(tags.WINDOW) == night), None)
    if found:
        client().set_tag(found.info.run_id, tag, text)
    return found


def monitoring_experiment(use_case: str) -> str:
    """The MLflow experiment of the nightly verdicts."""
    return f"{settings.load().of(use_case).experiment}-monitoring"
