"""The assets that DAGs update and wait for, with what people read of them in Airflow's list.

Imported by DAG files, so mind what it imports.
"""

from collections.abc import Sequence

from airflow.sdk import Asset, AssetWatcher

from training.use_case import UseCase


def version_of(use_case: UseCase) -> Asset:
    """Updated when training has registered a version; starts the release."""
    return _asset(use_case, use_case.version_asset, f"A registered version of {use_case.title}, offered for release")


def production_of(use_case: UseCase) -> Asset:
    """Updated when another version is in production."""
    return _asset(use_case, use_case.production_asset, f"The version of {use_case.title} that is in production")


def scores_of(use_case: UseCase) -> Asset:
    """Updated when a table has been scored or forecast."""
    return _asset(
        use_case, use_case.scores_asset, f"The table of scores of {use_case.title}, one partition for each date"
    )


def arrivals_of(use_case: UseCase, name: str, watchers: list[AssetWatcher]) -> Asset:
    """Updated by events that tell of a new file."""
    return _asset(use_case, name, f"New files for {use_case.title}, as events tell of them", watchers)


def _asset(use_case: UseCase, name: str, description: str, watchers: Sequence[AssetWatcher] = ()) -> Asset:
    return Asset(name, group=use_case.name, extra={"description": description}, watchers=[*watchers])
