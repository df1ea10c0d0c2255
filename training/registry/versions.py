"""What the registry holds of a model: its versions, by number, alias or run, and the bundle of each.

The job and Airflow ask through these. DAG files import this module, so MLflow, which takes seconds, is imported where
it is needed. Look-ups are complete: registries answer in pages, Unity Catalog in very small ones.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from training.registry import tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")
"""No server tells an unknown alias or version from an unknown model; any other code is a real fault."""


class RegistryError(ValueError):
    """Raised when the registry does not hold what is asked for."""


def versions_of(client: "MlflowClient", model: str) -> Iterator["ModelVersion"]:
    """Every version of a registered model, page by page; none where there is no such model."""
    token = None
    while True:
        page = client.search_model_versions(f"name = '{model}'", page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def version_of_run(client: "MlflowClient", model: str, run_id: str, run_key: str) -> "ModelVersion | None":
    """The version that the job with this key registered from its run, or ``None``.

    A version that a person made of the same run carries no key, and is not taken for the job's. Looked for by run and
    not by tag: Unity Catalog finds no versions by tag, and each candidate is asked for by itself to have its tags.
    """
    for listed in versions_of(client, model):
        if listed.run_id == run_id:
            version = client.get_model_version(model, listed.version)
            if version.tags.get(tags.RUN_KEY) == run_key:
                return version
    return None


def version_of_alias(client: "MlflowClient", model: str, alias: str) -> "ModelVersion | None":
    """The version that an alias names, or ``None`` where the alias or the model is not there."""
    return _if_there(lambda: client.get_model_version_by_alias(model, alias))


def version_of_number(client: "MlflowClient", model: str, version: str) -> "ModelVersion | None":
    """The version with this number, or ``None`` where the version or the model is not there."""
    return _if_there(lambda: client.get_model_version(model, version))


def fetch_bundle(model: str, version: str, destination: Path) -> Path:
    """Download a version's bundle into the folder ``destination`` (replaced if it is there) and return it.

    Raises ``RegistryError`` for a version that has none. It asks the servers that this process's MLflow is set to.
    """
    import mlflow

    with tempfile.TemporaryDirectory() as scratch:
        downloaded = Path(mlflow.artifacts.download_artifacts(f"models:/{model}/{version}", dst_path=scratch))
        bundle = downloaded / "artifacts" / "bundle"
        if not bundle.is_dir():
            raise RegistryError(
                f"model {model} version {version} holds no artifacts/bundle: it was not made by a training DAG of this "
                "project. Release a version that was"
            )
        shutil.rmtree(destination, ignore_errors=True)
        shutil.copytree(bundle, destination)
    return destination


def fetch_pinned(client: "MlflowClient", model: str, number: str, digest: str, destination: Path) -> Path:
    """``fetch_bundle`` of a numbered version whose bundle must have this digest; raises ``RegistryError``."""
    from training.registry.content import content_digest

    version = client.get_model_version(model, number)
    bundle = fetch_bundle(version.name, version.version, destination)
    if (found := content_digest(bundle)) != digest:
        raise RegistryError(
            f"the bundle of version {number} has digest {found}, where {digest} was pinned "
            "when the run started: somebody has changed the version's files. Register the model again"
        )
    return bundle


def _if_there(ask: Callable[[], "ModelVersion"]) -> "ModelVersion | None":
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        if error.error_code in _MISSING:
            return None
        raise
