"""A complete look-up of an experiment's runs: servers answer in pages, and a page may hold few runs or none."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from training.registry import tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def search_runs(
    client: "MlflowClient", experiment_id: str, matching: str = "", order_by: Sequence[str] = ()
) -> Iterator["Run"]:
    """Every run of an experiment that fits the filter ``matching``, page by page. Deleted runs are left out."""
    token = None
    while True:
        page = client.search_runs([experiment_id], matching, order_by=list(order_by), page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def run_of_key(client: "MlflowClient", experiment_id: str, run_key: str) -> "Run | None":
    """The oldest run of the action with this key, or ``None``."""
    matching = f"tags.`{tags.RUN_KEY}` = '{run_key}'"
    return next(search_runs(client, experiment_id, matching, order_by=["start_time ASC"]), None)
