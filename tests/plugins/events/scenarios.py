"""What every broker has to go through, and what its tests ask of it afterwards: nothing lost, and nothing twice."""

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import msgspec

from lifecycle.events.feeds import File
from lifecycle.tasks import arrivals
from tests.support.events import BRONZE, OUTCOMES, blob_created, cloud_event
from tests.support.machine import eventually
from tests.support.triggerer import Triggerer, watcher

STARTING = {"bronze": BRONZE, "outcomes_folder": OUTCOMES, "start_on_data": ["train"], "start_on_outcomes": True}
LOCK_SECONDS = 2
ROOT = Path(__file__).resolve().parents[3]


class Queue(Protocol):
    """A queue of a broker, as its tests see it."""

    connection: dict[str, Any]
    """Airflow's connection ``events``, as JSON."""

    def send(self, body: str) -> None:
        """One message."""

    def left(self) -> int:
        """Messages that were not acknowledged, whether somebody holds them or not."""

    def put_aside(self) -> list[str]:
        """Bodies of the dead letters."""


def starts(stored: list[dict[str, Any]], known: set[str]) -> list[str]:
    """Files that runs start, where Airflow holds these events; each run adds what it looked at to ``known``."""
    events = [SimpleNamespace(extra={"from_trigger": True, "payload": payload}) for payload in stored]
    found = arrivals.told({"triggering_asset_events": {"asset": events}})
    new = arrivals.new_files(found or [], known)
    known |= {file.key for file in new}
    return [file.name for file in new]


async def each_event_goes_to_its_asset_and_is_acknowledged_once_stored(queue: Queue) -> None:
    queue.send(json.dumps(blob_created("a.csv")))
    queue.send(json.dumps([cloud_event("left.csv", folder="outcomes")]))
    queue.send(json.dumps(blob_created("a.csv", container="somebody-elses")))
    async with Triggerer(watcher(), watcher("outcomes")) as triggerer:
        await triggerer.until(lambda: len(triggerer.stored) == 2)
        await triggerer.until(lambda: queue.left() == 0)
    assert [(one["feed"], one["name"]) for one in triggerer.stored] == [("data", "a.csv"), ("outcomes", "left.csv")]
    assert queue.put_aside() == []


async def what_is_stored_nowhere_comes_again(queue: Queue, ack_timeout: float) -> None:
    """Airflow's database was away: the event was never stored."""
    queue.send(json.dumps(blob_created("a.csv")))
    async with Triggerer(watcher(), confirms=False, ack_timeout=ack_timeout) as triggerer:
        await triggerer.until(lambda: len(triggerer.stored) >= 1)
        await asyncio.sleep(0.5)
        assert queue.left() == 1, "it was acknowledged before it was stored"
    async with Triggerer(watcher(), watcher("outcomes")) as later:
        await later.until(lambda: len(later.stored) == 1 and queue.left() == 0)
    assert starts([*later.stored], known := set()) == ["a.csv"]
    assert starts([*triggerer.stored], known) == [], "even if it had been stored the first time"


async def watcher_that_was_not_there_yet_loses_nothing(queue: Queue, caplog: Any) -> None:
    """After a restart the first watcher listens before its siblings do; in two triggerers it is alone for good."""
    queue.send(json.dumps(cloud_event("left.csv", folder="outcomes")))
    async with Triggerer(watcher("data")) as triggerer:
        await triggerer.until(lambda: "is not stored everywhere yet" in caplog.text)
        assert (triggerer.stored, queue.left()) == ([], 1)
    async with Triggerer(watcher("data"), watcher("outcomes")) as both:
        await both.until(lambda: len(both.stored) == 1 and queue.left() == 0)


async def message_that_nobody_waits_for_is_let_go_after_some_deliveries(queue: Queue) -> None:
    """The DAG is paused: the sweep finds the file when it is not any more."""
    queue.send(json.dumps(cloud_event("left.csv", folder="outcomes")))
    async with Triggerer(watcher("data")) as triggerer:
        await triggerer.until(lambda: queue.left() == 0)
    assert (triggerer.stored, queue.put_aside()) == ([], [])


async def poison_goes_to_the_dead_letters_with_an_alert(queue: Queue, alerts: list[Any]) -> None:
    spoilt = {**blob_created("rows.csv"), "data": {"api": "PutBlob"}}
    for body in ("not json", json.dumps({"eventType": "x"}), json.dumps(spoilt), json.dumps(blob_created("a.csv"))):
        queue.send(body)
    async with Triggerer(watcher(), watcher("outcomes")) as triggerer:
        await triggerer.until(lambda: queue.left() == 0 and len(alerts) == 3)
    assert [one["name"] for one in triggerer.stored] == ["a.csv"], "the good one behind them was stored"
    assert sorted(queue.put_aside()) == sorted(["not json", json.dumps({"eventType": "x"}), json.dumps(spoilt)])
    assert all(one.kind == "unreadable event" and one.mark in one.text for one in alerts)
    assert {one.text.split(": ", 1)[1][:30] for one in alerts} == {
        "it is not JSON: JSON is malfor", "it is not an event of Event Gr", "event 831e1650-001e-001b-66ab-",
    }  # fmt: skip


@contextmanager
def triggerer_process(queue: Queue, file: Path, settings_file: Path) -> Any:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}",
        "AIRFLOW_CONN_EVENTS": json.dumps(queue.connection),
        "LIFECYCLE_SETTINGS": str(settings_file),
    }
    command = [sys.executable, "-m", "tests.support.triggerer", str(file), str(LOCK_SECONDS)]
    with subprocess.Popen(command, env=environment, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def killed_between_storing_and_acknowledging(queue: Queue, scratch: Path) -> None:
    """A real process, and a real SIGKILL."""
    settings_file = scratch / "settings.toml"
    values = "\n".join(f"{key} = {json.dumps(value)}" for key, value in STARTING.items())
    settings_file.write_text(
        f'environment = "test"\nairflow_url = "http://a"\nmlflow_url = "http://m"\n[every_use_case]\n{values}\n'
    )
    file = scratch / "stored.jsonl"
    queue.send(json.dumps(blob_created("a.csv")))
    queue.send(json.dumps(blob_created("b.csv", event="e2")))
    with triggerer_process(queue, file, settings_file) as process:
        assert eventually(lambda: file.exists() and len(file.read_text().splitlines()) == 2, seconds=60)
        process.kill()
    assert queue.left() == 2, "they were acknowledged before Airflow said that it has them"
    stored = [json.loads(line) for line in file.read_text().splitlines()]
    known: set[str] = set()
    assert sorted(starts(stored, known)) == ["a.csv", "b.csv"]
    time.sleep(LOCK_SECONDS)  # what the dead one held comes again

    async def again() -> list[dict[str, Any]]:
        async with Triggerer(watcher(), watcher("outcomes")) as triggerer:
            await triggerer.until(lambda: len(triggerer.stored) == 2 and queue.left() == 0)
        return triggerer.stored

    redelivered = asyncio.run(again())
    assert {msgspec.convert(one, File).key for one in redelivered} == known
    assert starts(redelivered, known) == []
