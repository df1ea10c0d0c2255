"""A complete look-up of a model's versions: registries answer in pages, Unity Catalog in very small ones."""

from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion


def versions_of(client: MlflowClient, model: str) -> Iterator[ModelVersion]:
    """Every version of a registered model, page by page; none where there is no such model."""
    token = None
    while True:
        page = client.search_model_versions(f"name = '{model}'", page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def version_of_run(client: MlflowClient, model: str, run_id: str) -> ModelVersion | None:
    """The version that a run registered, or ``None``. By run and not by tag: Unity Catalog finds no versions by tag."""
    return next((version for version in versions_of(client, model) if version.run_id == run_id), None)
