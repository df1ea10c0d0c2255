"""Events through Azure's own Service Bus client and a double of the bus: ``make test-bus``."""

import asyncio
import json
import logging

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage

from tests.plugins.events import scenarios
from tests.support.events import blob_created
from tests.support.machine import free_port
from tests.support.triggerer import QUEUE, Triggerer, watcher

pytestmark = pytest.mark.bus


class Queue:
    """The bus's queue."""

    def __init__(self, bus):
        self._bus = bus
        self.queue = bus.queues[QUEUE]
        self.connection = {"conn_type": "azure_service_bus", "schema": bus.connection_string}
        self._sent = 0

    def send(self, body):
        self._sent += 1
        with (
            ServiceBusClient.from_connection_string(self._bus.connection_string) as client,
            client.get_queue_sender(QUEUE) as sender,
        ):
            sender.send_messages(ServiceBusMessage(body, message_id=f"m{self._sent}"))

    def left(self):
        return len(self.queue.ready) + len(self.queue.locked)

    def put_aside(self):
        from tests.support.service_bus import DEAD_LETTERS

        ready = self._bus.queues[DEAD_LETTERS.format(queue=QUEUE)].ready
        return [bytes(message.body).decode() for message, _ in ready]


@pytest.fixture
def bus():
    """A double whose locks do not last."""
    from tests.support.service_bus import ServiceBus

    with ServiceBus(free_port(), lock_seconds=scenarios.LOCK_SECONDS) as found:
        yield found


@pytest.fixture
def queue(bus, connected):
    found = Queue(bus)
    connected(found.connection)
    return found


def test_each_event_goes_to_its_asset_and_is_acknowledged_once_stored(queue):
    asyncio.run(scenarios.each_event_goes_to_its_asset_and_is_acknowledged_once_stored(queue))


def test_what_is_stored_nowhere_comes_again(queue):
    asyncio.run(scenarios.what_is_stored_nowhere_comes_again(queue, ack_timeout=60))


def test_watcher_that_was_not_there_yet_loses_nothing(queue, caplog):
    caplog.set_level(logging.INFO)
    asyncio.run(scenarios.watcher_that_was_not_there_yet_loses_nothing(queue, caplog))


def test_message_that_nobody_waits_for_is_let_go_after_some_deliveries(queue, caplog):
    caplog.set_level(logging.WARNING)
    asyncio.run(scenarios.message_that_nobody_waits_for_is_let_go_after_some_deliveries(queue))
    assert "nobody listens for outcomes of attrition" in caplog.text


def test_poison_goes_to_the_dead_letters_with_an_alert(queue, alerts):
    asyncio.run(scenarios.poison_goes_to_the_dead_letters_with_an_alert(queue, alerts))


def test_killed_between_storing_and_acknowledging(queue, tmp_path):
    scenarios.killed_between_storing_and_acknowledging(queue, tmp_path)


def test_lock_that_is_over_before_the_acknowledgement_costs_a_redelivery(queue, bus, caplog):
    """The event was stored, and Airflow said so too late."""
    caplog.set_level(logging.WARNING)
    queue.send(json.dumps(blob_created("a.csv")))

    async def late():
        async with Triggerer(watcher(), watcher("outcomes"), delay=3.0) as triggerer:
            await triggerer.until(lambda: len(triggerer.stored) == 1)
            triggerer.delay = 0.05  # the second time it is quick
            await triggerer.until(lambda: queue.left() == 0 and len(triggerer.stored) == 2)
            await triggerer.until(lambda: "could not be settled and comes again" in caplog.text)
            assert triggerer.failures() == []
            return triggerer.stored

    stored = asyncio.run(late())
    known = set()
    assert scenarios.starts(stored[:1], known) == ["a.csv"]
    assert scenarios.starts(stored[1:], known) == []


def test_bus_that_is_away_for_20_seconds_is_waited_for(queue, bus, caplog):
    caplog.set_level(logging.WARNING)
    queue.send(json.dumps(blob_created("before.csv")))

    async def away():
        async with Triggerer(watcher(), watcher("outcomes")) as triggerer:
            await triggerer.until(lambda: len(triggerer.stored) == 1 and queue.left() == 0)
            bus.away.set()
            await asyncio.sleep(20)
            bus.away.clear()
            assert await asyncio.to_thread(bus.listening.wait, 10)
            await asyncio.to_thread(queue.send, json.dumps(blob_created("after.csv", event="e2")))
            await triggerer.until(lambda: len(triggerer.stored) == 2 and queue.left() == 0, seconds=60)
            assert triggerer.failures() == [], "the watchers lived through it"
            return triggerer.stored

    assert [one["name"] for one in asyncio.run(away())] == ["before.csv", "after.csv"]
    assert "the sweep goes on meanwhile" in caplog.text


def test_message_that_was_delivered_too_often_is_put_aside_by_the_bus(queue, bus):
    bus.most_deliveries, bus.lock_seconds = 2, 0.3
    queue.send(json.dumps(blob_created("a.csv")))

    async def never_stored():
        async with Triggerer(watcher(), watcher("outcomes"), confirms=False) as triggerer:
            await triggerer.until(lambda: queue.put_aside() != [])

    asyncio.run(never_stored())
    assert queue.put_aside() == [json.dumps(blob_created("a.csv"))]
