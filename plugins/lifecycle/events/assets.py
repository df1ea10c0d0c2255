"""When a use case's arrivals DAG runs: by its assets, watched where the queue is listened to, and by the clock.

Imported by DAG files, so mind what it imports.
"""

from airflow.sdk import Asset, AssetOrTimeSchedule, AssetWatcher

from lifecycle import settings
from lifecycle.assets import arrivals_of
from lifecycle.defaults import by_the_clock
from lifecycle.events import feeds
from lifecycle.events.trigger import ArrivalTrigger
from training.use_case import UseCase


def watched(use_case: UseCase) -> list[Asset]:
    """The assets that events of a use case feed."""
    events = settings.load().events
    found = []
    for feed, subjects in feeds.wanted(use_case):
        trigger = ArrivalTrigger(events.queue, feed.name, use_case.name, subjects)
        watchers = [AssetWatcher(name=f"{feed.name}_of_{use_case.name}", trigger=trigger)] if events.listen else []
        found.append(arrivals_of(use_case, feed.asset(use_case), watchers))
    return found


def schedule(use_case: UseCase) -> AssetOrTimeSchedule | None:
    """When the arrivals DAG runs; ``None`` where a use case starts nothing by new files."""
    if not (assets := watched(use_case)):
        return None
    return AssetOrTimeSchedule(timetable=by_the_clock(settings.load().events.sweep), assets=assets)
