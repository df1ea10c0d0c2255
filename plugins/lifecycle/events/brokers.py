"""The queues that tell of new files, one interface for all: connection ``events`` says by its type which it is.

``azure_service_bus``: a queue of Azure Service Bus. ``wasb``: an Azure Storage queue; what nobody can read goes to the
queue ``<name>-poison``. ``fs``: no queue, the watched folders of this machine themselves.
"""

import asyncio
import base64
import binascii
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import msgspec
from airflow.providers.common.compat.connection import get_async_connection
from airflow.sdk.exceptions import AirflowNotFoundException
from azure.core.exceptions import AzureError

from lifecycle.events import feeds, files
from lifecycle.events.feeds import BLOB_CREATED, File
from lifecycle.use_cases import load_all

CONNECTION_ID = "events"
LOCK_SECONDS = 300
"""For how long a message of a Storage queue is hidden, and what a Service Bus queue is to be set to: its maximum."""
POISON = "{queue}-poison"
_OFF = "listen = false in [events] of the settings file"
_BATCH = 20
_WAIT_SECONDS = 5.0
_BACK_SECONDS = 600.0
_LOOK_SECONDS = 1.0
"""Between two looks at a folder or an empty Storage queue."""
_TOLD_SECONDS = 30.0
"""For how long a told file waits to be acknowledged. Airflow watches for a DAG that was unpaused when it next reads the
DAG's file: after as long, by default."""


class BrokerError(ValueError):
    """Raised when connection ``events`` cannot be used; the message says what to set."""


FAULTS = (AzureError, BrokerError, OSError, TimeoutError)
"""What a broker that is away, or that is not there as it was described, raises."""


@dataclass(frozen=True)
class Message:
    """What a broker delivered."""

    id: str
    body: bytes
    deliveries: int
    """From 1."""
    handle: Any
    """What the broker knows it by."""


class Broker(Protocol):
    """A connection to one queue."""

    def messages(self) -> AsyncIterator[Message]:
        """Every message as it comes; never ends by itself."""
        ...

    async def done(self, message: Message) -> None:
        """Acknowledge: it does not come again."""
        ...

    async def put_aside(self, message: Message, reason: str) -> None:
        """To the dead letters."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


async def connect(queue: str) -> Broker:
    """A connection to the queue, by the type of connection ``events``; raises one of ``FAULTS``."""
    try:
        connection = await get_async_connection(CONNECTION_ID)
    except AirflowNotFoundException as error:
        raise BrokerError(f"there is no connection {CONNECTION_ID!r}: make it, or set {_OFF}") from error
    makers: dict[str, Callable[[], Broker]] = {
        "azure_service_bus": lambda: ServiceBus(connection, queue),
        "wasb": lambda: StorageQueue(connection, queue),
        "fs": Folders,
    }
    if (make := makers.get(str(connection.conn_type))) is None:
        raise BrokerError(
            f"connection {CONNECTION_ID!r} has type {connection.conn_type!r}: use azure_service_bus, wasb (a Storage "
            f"queue) or fs (this machine's folders), or set {_OFF}"
        )
    try:
        return make()
    except ValueError as error:  # of Azure's clients: a text that is not a connection string
        raise BrokerError(f"connection {CONNECTION_ID!r} cannot be used: {error}") from error


def _identity(extra: dict[str, Any]) -> Any:
    from airflow.providers.microsoft.azure.utils import get_async_default_azure_credential

    return get_async_default_azure_credential(
        managed_identity_client_id=extra.get("managed_identity_client_id"),
        workload_identity_tenant_id=extra.get("workload_identity_tenant_id"),
    )


class ServiceBus:
    """A queue of Azure Service Bus, in peek-lock mode. The connection is the provider's own."""

    def __init__(self, connection: Any, queue: str) -> None:
        # Imported here, as in all brokers: only the one that is used is loaded.
        from azure.servicebus.aio import ServiceBusClient

        self._credential: Any = None
        extra = connection.extra_dejson
        if connection.schema:
            self._client = ServiceBusClient.from_connection_string(connection.schema)
        elif namespace := extra.get("fully_qualified_namespace"):
            self._credential = _identity(extra)
            self._client = ServiceBusClient(namespace, self._credential)
        else:
            raise BrokerError(
                f'connection {CONNECTION_ID!r} names no bus: put {{"fully_qualified_namespace": '
                '"NAME.servicebus.windows.net"}} into its extra'
            )
        self._receiver = self._client.get_queue_receiver(queue)

    async def messages(self) -> AsyncIterator[Message]:
        while True:
            found = await self._receiver.receive_messages(max_message_count=_BATCH, max_wait_time=_WAIT_SECONDS)
            for one in found:
                yield Message(
                    id=one.message_id or str(one.sequence_number),
                    body=_body(one),
                    deliveries=(one.delivery_count or 0) + 1,
                    handle=one,
                )

    async def done(self, message: Message) -> None:
        await self._receiver.complete_message(message.handle)

    async def put_aside(self, message: Message, reason: str) -> None:
        await self._receiver.dead_letter_message(message.handle, reason="unreadable", error_description=reason[:1000])

    async def close(self) -> None:
        await self._receiver.close()
        await self._client.close()
        if self._credential is not None:
            await self._credential.close()


def _body(message: Any) -> bytes:
    from azure.servicebus.amqp import AmqpMessageBodyType

    # Event Grid sends data; whatever else somebody sends is to be put aside and not to end the receiver.
    if message.body_type is AmqpMessageBodyType.DATA:
        return b"".join(message.body)
    return str(message).encode()


class StorageQueue:
    """A queue of Azure Storage. Extra ``connection_string``, or the queue's address in host.

    The address is ``https://ACCOUNT.queue.core.windows.net``; the password an account key, or empty where the managed
    identity has the right to process messages.
    """

    def __init__(self, connection: Any, queue: str) -> None:
        from azure.storage.queue.aio import QueueServiceClient

        self._credential: Any = None
        extra = connection.extra_dejson
        if text := extra.get("connection_string"):
            self._client = QueueServiceClient.from_connection_string(text)
        elif connection.host:
            self._credential = None if connection.password else _identity(extra)
            self._client = QueueServiceClient(connection.host, credential=connection.password or self._credential)
        else:
            raise BrokerError(
                f"connection {CONNECTION_ID!r} names no account: write https://ACCOUNT.queue.core.windows.net in host"
            )
        self._queue = self._client.get_queue_client(queue)
        self._poison = self._client.get_queue_client(POISON.format(queue=queue))

    async def messages(self) -> AsyncIterator[Message]:
        while True:
            empty = True
            pages = self._queue.receive_messages(
                messages_per_page=_BATCH, max_messages=_BATCH, visibility_timeout=LOCK_SECONDS
            )
            async for one in pages:
                empty = False
                yield Message(one.id, _decoded(one.content), one.dequeue_count or 1, one)
            if empty:
                await asyncio.sleep(_LOOK_SECONDS)

    async def done(self, message: Message) -> None:
        await self._queue.delete_message(message.handle)

    async def put_aside(self, message: Message, reason: str) -> None:
        # In this order: what dies in between is there twice and not lost.
        await self._poison.send_message(message.handle.content)
        await self._queue.delete_message(message.handle)

    async def close(self) -> None:
        await self._client.close()
        if self._credential is not None:
            await self._credential.close()


def _decoded(content: str) -> bytes:
    """Event Grid writes base64; people write plain text."""
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return content.encode()


class Folders:
    """The watched folders of this machine: each new version of a file is a message, until it is acknowledged.

    What came shortly before is told too, for the DAG may just have been unpaused; the sweep knows the rest.
    """

    def __init__(self) -> None:
        self._done: set[tuple[str, str]] = set()
        self._told: dict[tuple[str, str], tuple[int, float]] = {}
        """How often a file was told that is not acknowledged yet, and when last (``time.monotonic``)."""

    async def messages(self) -> AsyncIterator[Message]:
        since = datetime.now(UTC) - timedelta(seconds=_BACK_SECONDS)
        old = [(subjects, file.key) for _, subjects, file in await asyncio.to_thread(_look) if file.age[0] < since]
        self._done.update(old)
        while True:
            seen = await asyncio.to_thread(_look)
            for feed, subjects, file in seen:
                handle = (subjects, file.key)
                if deliveries := self._next_delivery(handle):
                    yield Message(file.key, _told(feed, subjects, file), deliveries, handle)
            there = {(subjects, file.key) for _, subjects, file in seen}
            self._done &= there
            self._told = {handle: told for handle, told in self._told.items() if handle in there}
            await asyncio.sleep(_LOOK_SECONDS)

    def _next_delivery(self, handle: tuple[str, str]) -> int:
        """The number of the delivery that is due now, from 1; 0 where none is."""
        deliveries, when = self._told.get(handle, (0, -math.inf))
        now = time.monotonic()
        if handle in self._done or now - when < _TOLD_SECONDS:
            return 0
        self._told[handle] = deliveries + 1, now
        return deliveries + 1

    async def done(self, message: Message) -> None:
        self._done.add(message.handle)

    async def put_aside(self, message: Message, reason: str) -> None:
        """There are no dead letters: a file stays where it is."""
        self._done.add(message.handle)

    async def close(self) -> None:
        """Nothing to do: no connection was made."""


def _look() -> list[tuple[str, str, File]]:
    """Every file that counts in a local folder: its row, the beginning of its subject, and the file."""
    return [
        (name, f"{folder.rstrip('/')}/", file)
        for use_case in load_all()[0]
        for name, folder in feeds.folders(use_case).items()
        if "://" not in folder
        for file in files.local(name, Path(folder))
    ]


def _told(feed: str, subjects: str, file: File) -> bytes:
    event = {
        "specversion": "1.0",
        "id": file.key,
        "type": BLOB_CREATED,
        "source": feed,
        "subject": f"{subjects}{file.name}",
        "time": file.written,
        "data": {"eTag": file.version, "contentLength": file.size},
    }
    return msgspec.json.encode(event)
