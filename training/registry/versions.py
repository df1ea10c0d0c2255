"""A complete look-up of a model's versions: registries answer in pages, Unity Catalog in very small ones."""

from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from training.registry import tags


def versions_of(client: MlflowClient, model: str) -> Iterator[ModelVersion]:
    """Every version of a registered model, page by page; none where there is no such model."""
    token = None
    while True:
        page = client.search_model_versions(f"name = '{model}'", page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def version_of_run(client: MlflowClient, model: str, run_id: str, run_key: str) -> ModelVersion | None:
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
