"""Events through a queue of Azure Storage, and the sweep of its blobs, on Azurite: ``make test-azurite``."""

import asyncio
import base64
import json
import logging

import pytest
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient

from lifecycle.events import brokers, feeds, files
from tests.plugins.events import scenarios
from tests.support import azurite
from tests.support.events import BRONZE, CONTAINER, SUBJECTS, blob_created
from tests.support.triggerer import QUEUE

pytestmark = pytest.mark.azurite


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """A running Azurite: its connection string."""
    with azurite.running(tmp_path_factory.mktemp("azurite")) as found:
        yield found


class Queue:
    """The queue and its dead letters, new and empty."""

    def __init__(self, account):
        self.connection = {"conn_type": "wasb", "extra": json.dumps({"connection_string": account})}
        service = QueueServiceClient.from_connection_string(account)
        names = (QUEUE, brokers.POISON.format(queue=QUEUE))
        self._queue, self._poison = [service.get_queue_client(name) for name in names]
        for queue in (self._queue, self._poison):
            queue.create_queue()

    def send(self, body):
        """As Event Grid does it."""
        self._queue.send_message(base64.b64encode(body.encode()).decode())

    def left(self):
        return self._queue.get_queue_properties().approximate_message_count

    def put_aside(self):
        return [base64.b64decode(one.content).decode() for one in self._poison.receive_messages()]

    def delete(self):
        for queue in (self._queue, self._poison):
            queue.delete_queue()


@pytest.fixture
def queue(account, connected, monkeypatch):
    """A queue whose messages are hidden for 2 s."""
    monkeypatch.setattr(brokers, "LOCK_SECONDS", scenarios.LOCK_SECONDS)
    found = Queue(account)
    connected(found.connection)
    yield found
    found.delete()


def test_each_event_goes_to_its_asset_and_is_acknowledged_once_stored(queue):
    asyncio.run(scenarios.each_event_goes_to_its_asset_and_is_acknowledged_once_stored(queue))


def test_what_is_stored_nowhere_comes_again(queue):
    asyncio.run(scenarios.what_is_stored_nowhere_comes_again(queue, ack_timeout=60))


def test_watcher_that_was_not_there_yet_loses_nothing(queue, caplog):
    caplog.set_level(logging.INFO)
    asyncio.run(scenarios.watcher_that_was_not_there_yet_loses_nothing(queue, caplog))


def test_message_that_nobody_waits_for_is_let_go_after_some_deliveries(queue):
    asyncio.run(scenarios.message_that_nobody_waits_for_is_let_go_after_some_deliveries(queue))


def test_poison_goes_to_the_dead_letters_with_an_alert(queue, alerts):
    asyncio.run(scenarios.poison_goes_to_the_dead_letters_with_an_alert(queue, alerts))


def test_message_of_plain_text_is_read_too(queue):
    assert brokers._decoded(json.dumps(blob_created("a.csv"))) == json.dumps(blob_created("a.csv")).encode()


def test_killed_between_storing_and_acknowledging(queue, tmp_path):
    scenarios.killed_between_storing_and_acknowledging(queue, tmp_path)


def test_sweep_finds_the_version_that_the_event_names(account, monkeypatch):
    service = BlobServiceClient.from_connection_string(account)
    container = service.create_container(CONTAINER)
    blob = container.upload_blob("bronze/2026/rows.csv", b"a\n1\n")
    container.upload_blob("bronze/_tmp/rows.csv", b"a\n")
    container.upload_blob("elsewhere/rows.csv", b"a\n")
    # A connection of this test alone: Airflow keeps the file systems that it has made.
    monkeypatch.setenv(
        "AIRFLOW_CONN_EVENT_FILES", json.dumps({"conn_type": "wasb", "extra": {"connection_string": account}})
    )
    bronze = BRONZE.replace("logs@", "event_files@")
    (found,) = files.listed("data", bronze)
    etag = blob.get_blob_properties().etag
    (event,) = feeds.parse(json.dumps(blob_created("2026/rows.csv", etag=etag)).encode())
    told = feeds.named("data").told(event, SUBJECTS)
    assert (found.name, found.size, found.key) == ("2026/rows.csv", 4, feeds.File(**{**told, "written": "x"}).key)
    blob.upload_blob(b"another\n", overwrite=True)
    assert files.listed("data", bronze)[0].key != found.key
    assert files.listed("data", f"{bronze}-missing") == []
