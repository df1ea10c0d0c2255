"""Connections that cannot be used, and the folders of this machine as a queue."""

import asyncio
import logging
import os
import time

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException

from lifecycle import settings
from lifecycle.events import brokers, files, trigger
from lifecycle.events.trigger import ArrivalTrigger
from tests.support.airflow import USE_CASE, make_settings
from tests.support.triggerer import QUEUE, Triggerer, watcher


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"conn_type": "azure_service_bus", "schema": ""}, "names no bus"),
        ({"conn_type": "azure_service_bus", "schema": "Endpoint=nonsense"}, "connection 'events' cannot be used"),
        ({"conn_type": "kafka"}, "has type 'kafka': use azure_service_bus, wasb"),
        ({"conn_type": "wasb"}, "names no account"),
    ],
)
def test_connection_that_cannot_be_used_is_told_and_tried_again(connected, values, reason, caplog, monkeypatch):
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(trigger, "_FIRST_PAUSE", 0.05)
    connected(values)

    async def tries():
        async with Triggerer(watcher()) as triggerer:
            await triggerer.until(lambda: caplog.text.count(reason) >= 2)

    asyncio.run(tries())


def test_connection_that_is_not_there_is_told_and_tried_again(starting, caplog, monkeypatch):
    async def missing(conn_id):
        raise AirflowNotFoundException(conn_id)

    monkeypatch.setattr(brokers, "get_async_connection", missing)
    monkeypatch.setattr(trigger, "_FIRST_PAUSE", 0.05)

    async def tries():
        async with Triggerer(watcher()) as triggerer:
            await triggerer.until(lambda: caplog.text.count("there is no connection 'events'") >= 2)

    asyncio.run(tries())


@pytest.fixture
def bronze(tmp_path, monkeypatch, connected):
    """A folder of this machine, watched every moment."""
    folder = tmp_path / "bronze"
    folder.mkdir()
    of = {"bronze": str(folder), "start_on_data": ["train"]}
    found = make_settings(of, events=settings.Events(listen=True))
    monkeypatch.setattr(settings, "load", lambda: found)
    monkeypatch.setattr(brokers, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(files, "SETTLE_SECONDS", 0.2)
    connected({"conn_type": "fs"})
    return folder


def test_dropped_file_is_told_once_it_is_whole_and_each_version_once(bronze):
    (bronze / "old.csv").write_text("a\n")
    os.utime(bronze / "old.csv", (time.time() - brokers._BACK_SECONDS - 60,) * 2)
    (bronze / "just-before.csv").write_text("a\n")

    async def drop():
        async with Triggerer(ArrivalTrigger(QUEUE, "data", USE_CASE, f"{bronze}/")) as triggerer:
            await triggerer.until(lambda: len(triggerer.stored) == 1)
            with (bronze / "rows.csv").open("w") as file:
                for number in range(5):
                    file.write(f"{number}\n")
                    file.flush()
                    await asyncio.sleep(0.1)
                    assert len(triggerer.stored) == 1, "it was told while it was being written"
            await triggerer.until(lambda: len(triggerer.stored) == 2)
            (bronze / "readme.txt").write_text("no table")
            (bronze / "rows.csv").write_text("another content\n")
            await triggerer.until(lambda: len(triggerer.stored) == 3)
            await asyncio.sleep(0.3)
            return triggerer.stored

    stored = asyncio.run(drop())
    assert [one["name"] for one in stored] == ["just-before.csv", "rows.csv", "rows.csv"]
    assert stored[1]["version"] != stored[2]["version"]
    assert {one["version"] for one in stored[2:]} == {files.local_version(bronze / "rows.csv")}


@pytest.fixture
def others(bronze, monkeypatch, caplog):
    """A watcher of another folder, such as another use case's; what is not taken comes again soon."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(brokers, "_TOLD_SECONDS", 0.05)
    return ArrivalTrigger(QUEUE, "outcomes", USE_CASE, f"{bronze}-of-outcomes/")


def test_file_that_is_told_before_its_watcher_listens_comes_again(bronze, others, caplog, monkeypatch):
    """Somebody unpauses the DAG of a second use case and drops a file: it once waited for the sweep."""
    monkeypatch.setattr(trigger, "_MOST_WAITS", 10_000)
    (bronze / "rows.csv").write_text("a\n")

    async def drop():
        async with Triggerer(others) as triggerer:
            await triggerer.until(lambda: "is not stored everywhere yet" in caplog.text)
            triggerer.begin(ArrivalTrigger(QUEUE, "data", USE_CASE, f"{bronze}/"))
            await triggerer.until(lambda: triggerer.stored)
            return triggerer.stored

    assert {one["name"] for one in asyncio.run(drop())} == {"rows.csv"}


def test_file_that_nobody_waits_for_is_let_go_after_some_deliveries(bronze, others, caplog):
    """The DAG is paused: the sweep finds the file when it is not any more."""

    def let_go():
        return sum("nobody listens for" in record.message for record in caplog.records)

    async def drop():
        async with Triggerer(others) as triggerer:
            for number in (1, 2):
                (bronze / f"{number}.csv").write_text("a\n")
                await triggerer.until(lambda number=number: let_go() >= number)
            return triggerer.stored

    assert asyncio.run(drop()) == []
    assert let_go() == 2, "each once"
    assert sum("comes again" in record.message for record in caplog.records) == 2 * (trigger._MOST_WAITS - 1)
