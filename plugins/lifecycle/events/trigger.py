"""The trigger that turns messages of a queue into events of assets, and loses none.

One receiver serves every asset (Airflow's shared streams). A message is acknowledged when Airflow has stored its event
for **every** use case that wants it: each watcher says what it took, and a message that somebody who wants it did not
take (their watcher was not there yet, or runs in another triggerer) comes again when its lock is over. What Airflow has
stored and the broker has not heard of comes again too, and the run drops it by its id (``lifecycle.tasks.arrivals``).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer, reject_shared_stream_event

from lifecycle.alerts import Alert, send
from lifecycle.events import brokers, feeds
from lifecycle.events.brokers import Broker, Message
from lifecycle.events.feeds import Event, EventError

log = logging.getLogger(__name__)

ALERT = "unreadable event"
_MOST_DELIVERIES = 10
"""A message that came so often has something that no further try mends. A Service Bus queue has the same limit."""
_MOST_WAITS = 3
"""Deliveries for which a message waits for a watcher that is not there: its DAG may be paused. The sweep finds it."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a broker is asked again."""


@dataclass
class Delivery:
    """One message, as every watcher sees it."""

    message: Message
    broker: Broker
    """Whose it is: after a lost connection there is another one, which does not know it."""
    events: list[Event] = field(default_factory=list)
    fault: str = ""
    """Why it is not a message of ours."""
    taken: set[tuple[str, str]] = field(default_factory=set)
    """Rows and use cases that have made what they want of it."""


class ArrivalTrigger(BaseEventTrigger):
    """Wait for the events of one row of the table that are one use case's.

    :param queue: queue within connection ``events``, whose type decides what is listened to.
    :param feed: name of the row.
    :param use_case: name of the use case.
    :param subjects: how the subjects of its events begin.
    """

    def __init__(self, queue: str, feed: str, use_case: str, subjects: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.queue_name = queue
        self.feed = feed
        self.use_case = use_case
        self.subjects = subjects

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class and arguments."""
        arguments = {"queue": self.queue_name, "feed": self.feed, "use_case": self.use_case, "subjects": self.subjects}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    def shared_stream_key(self) -> Hashable:
        """One receiver a queue."""
        return ("lifecycle-events", self.queue_name)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """The receiver."""
        return EventProducer(kwargs["queue"])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """What of the messages is this watcher's."""
        row = feeds.named(self.feed)
        async for delivery in shared_stream:
            try:
                told = self._told(delivery, row)
            except EventError as error:
                delivery.fault = delivery.fault or str(error)
                reject_shared_stream_event()
                continue
            for payload in told:
                yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
            delivery.taken.add((self.feed, self.use_case))

    def _told(self, delivery: Delivery, row: feeds.Feed) -> list[Any]:
        if delivery.fault:
            raise EventError(delivery.fault)
        mine = [event for event in delivery.events if feeds.matches(event, row, self.subjects)]
        return [told for event in mine if (told := row.told(event, self.subjects)) is not None]

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Never called: the stream is shared."""
        raise RuntimeError("ArrivalTrigger needs Airflow's shared streams: Airflow 3.3 or newer")
        yield  # what makes it a generator


class EventProducer(SharedStreamProducer):
    """Receives from the broker of connection ``events``, and tells it what Airflow has stored."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._broker: Broker | None = None

    async def open_stream(self) -> AsyncIterator[tuple[Delivery, Delivery]]:
        """Every message, twice: for the watchers, and for ``advance``. A broker that is away is waited for."""
        pause = _FIRST_PAUSE
        while True:
            try:
                self._broker = broker = await brokers.connect(self._queue)
                async for message in broker.messages():
                    pause = _FIRST_PAUSE
                    delivery = _delivery(message, broker)
                    yield delivery, delivery
            except brokers.FAULTS as error:
                log.warning(
                    "queue %s cannot be listened to, again in %g s; the sweep goes on meanwhile: %s",
                    self._queue, pause, error,
                )  # fmt: skip
            await self.aclose()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def get_advance_lane(self, broker_payload: Any) -> Hashable:
        """Every message by itself: one that is slow keeps nobody else's lock waiting."""
        return id(broker_payload)

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Acknowledge what is stored, put aside what nobody can read, and let the rest come again."""
        for item in batch:
            delivery: Delivery = item.broker_payload
            try:
                await self._settle(delivery, item)
            except (*brokers.FAULTS, ValueError) as error:  # the latter of a receiver that is closed by now
                log.warning(
                    "message %s could not be settled and comes again: %s", delivery.message.id, str(error).strip()
                )

    async def _settle(self, delivery: Delivery, item: AdvanceItem) -> None:
        message, outcome = delivery.message, item.outcome
        if outcome.rejected:
            await delivery.broker.put_aside(message, delivery.fault)
            await asyncio.to_thread(send, _alert(self._queue, delivery))
        elif outcome.is_clean and not (missing := _missing(delivery)):
            await delivery.broker.done(message)
        elif outcome.is_clean and message.deliveries >= _MOST_WAITS:
            log.warning(
                "nobody listens for %s: are their DAGs paused? The sweep finds what message %s told",
                ", ".join(sorted(f"{feed} of {use_case}" for feed, use_case in missing)), message.id,
            )  # fmt: skip
            await delivery.broker.done(message)
        else:
            log.info("message %s is not stored everywhere yet, and comes again", message.id)

    async def aclose(self) -> None:
        """Close the connection. What was not acknowledged comes again."""
        broker, self._broker = self._broker, None
        if broker is not None:
            try:
                await broker.close()
            except brokers.FAULTS as error:
                log.info("the connection of queue %s did not close: %s", self._queue, error)


def _delivery(message: Message, broker: Broker) -> Delivery:
    if message.deliveries > _MOST_DELIVERIES:
        return Delivery(message, broker, fault=f"it was delivered {message.deliveries} times and never stored")
    try:
        return Delivery(message, broker, feeds.parse(message.body))
    except EventError as error:
        return Delivery(message, broker, fault=str(error))


def _missing(delivery: Delivery) -> set[tuple[str, str]]:
    return feeds.takers(delivery.events) - delivery.taken


def _alert(queue: str, delivery: Delivery) -> Alert:
    message = delivery.message
    text = (
        f"message {message.id} of queue {queue} went to the dead letters: {delivery.fault}. "
        "Nothing was started by it; the sweep still finds the file that it may have told of"
    )
    return Alert(use_case="", kind=ALERT, night="", text=text, mark=message.id)
