"""A double of Azure Service Bus: an AMQP 1.0 server with ``$cbs`` and queues in peek-lock mode, in a thread.

It does what azure-servicebus 7.15 needs: tokens are granted, delivery tags are the lock's token, locks end, the outcome
of a settlement is echoed, what is rejected or delivered too often goes to ``<queue>/$DeadLetterQueue``. A message stays
locked when its receiver's connection is lost, as on the bus.
"""

import collections
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from proton import Condition, Delivery, Message, symbol, timestamp
from proton.handlers import MessagingHandler
from proton.reactor import Container

DEAD_LETTERS = "{queue}/$DeadLetterQueue"
_TICK = 0.1


@dataclass
class Queue:
    """``ready``: messages with their earlier deliveries; ``locked``: the same by tag, with the lock's end."""

    ready: collections.deque[tuple[Message, int]] = field(default_factory=collections.deque)
    locked: dict[bytes, tuple[Message, float, int]] = field(default_factory=dict)
    consumers: list[Any] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    """Ids of the messages that were acknowledged, in that order."""


class ServiceBus(MessagingHandler):
    """One namespace on a port of this machine."""

    def __init__(self, port: int, *, lock_seconds: float = 60.0, most_deliveries: int = 10) -> None:
        super().__init__(prefetch=500, auto_accept=False, auto_settle=False)
        self.lock_seconds, self.most_deliveries = lock_seconds, most_deliveries
        self.queues: dict[str, Queue] = collections.defaultdict(Queue)
        self.away = threading.Event()
        """Set: nobody can connect, and whoever was connected is not any more."""
        self.deaf = threading.Event()
        """Set: what is acknowledged meanwhile is lost on its way."""
        self.listening = threading.Event()
        """Set while clients can connect."""
        self._port, self._acceptor, self._sequence = port, None, 0
        self._token_links: list[Any] = []
        self._connections: set[Any] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=Container(self).run, daemon=True)

    @property
    def connection_string(self) -> str:
        """The last part says: without TLS, on this port."""
        return (
            f"Endpoint=sb://127.0.0.1:{self._port};SharedAccessKeyName=k;SharedAccessKey=abc=;"
            "UseDevelopmentEmulator=true"
        )

    def __enter__(self) -> "ServiceBus":
        self._thread.start()
        assert self.listening.wait(10)
        return self

    def __exit__(self, *_: Any) -> None:
        self._end.set()
        self._thread.join(timeout=10)

    # --- the server's own thread ---

    def on_start(self, event: Any) -> None:
        self._container = event.container
        self.on_timer_task(event)

    def on_timer_task(self, event: Any) -> None:
        if self._end.is_set():
            self._hang_up()
            self._container.stop()
            return
        if self.away.is_set():
            self._hang_up()
        elif self._acceptor is None:
            self._acceptor = self._container.listen(f"127.0.0.1:{self._port}")
            self.listening.set()
        now = time.time()
        for name, queue in list(self.queues.items()):
            for tag, (message, until, deliveries) in list(queue.locked.items()):
                if until < now:
                    del queue.locked[tag]
                    self._again(name, message, deliveries)
            self._pump(queue)
        self._container.schedule(_TICK, self)

    def _hang_up(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
            self.listening.clear()
        for connection in list(self._connections):
            connection.close()
        self._connections.clear()
        for queue in self.queues.values():
            queue.consumers.clear()

    def on_connection_opened(self, event: Any) -> None:
        self._connections.add(event.connection)

    def on_link_opening(self, event: Any) -> None:
        link = event.link
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        if link.is_sender and link.remote_source.address == "$cbs":
            self._token_links.append(link)
        elif link.is_sender:
            self.queues[_name(link.remote_source.address)].consumers.append(link)

    def on_link_closed(self, event: Any) -> None:
        self._forget(lambda link: link == event.link)

    def on_disconnected(self, event: Any) -> None:
        self._connections.discard(event.connection)
        self._forget(lambda link: link.connection == event.connection)

    def _forget(self, gone: Any) -> None:
        for queue in self.queues.values():
            queue.consumers = [link for link in queue.consumers if not gone(link)]

    def on_sendable(self, event: Any) -> None:
        if (address := event.link.remote_source.address) != "$cbs":
            self._pump(self.queues[_name(address)])

    def on_message(self, event: Any) -> None:
        address, message = event.link.remote_target.address, event.message
        event.delivery.update(Delivery.ACCEPTED)
        event.delivery.settle()
        if address == "$cbs":
            link = [link for link in self._token_links if link.connection == event.connection][-1]
            granted = {"status-code": 200, "status-description": "OK"}
            link.send(Message(address=message.reply_to, correlation_id=message.id, properties=granted))
            return
        self._sequence += 1
        message.annotations = {
            **(message.annotations or {}),
            symbol("x-opt-sequence-number"): self._sequence,
            symbol("x-opt-enqueued-time"): timestamp(int(time.time() * 1000)),
        }
        queue = self.queues[_name(address)]
        queue.ready.append((message, 0))
        self._pump(queue)

    def _pump(self, queue: Queue) -> None:
        for link in queue.consumers:
            while link.credit > 0 and queue.ready:
                message, deliveries = queue.ready.popleft()
                until = time.time() + self.lock_seconds
                message.delivery_count = deliveries
                message.annotations[symbol("x-opt-locked-until")] = timestamp(int(until * 1000))
                # 16 bytes, and proton reads them as UTF-8.
                tag = bytes((byte & 0x3F) + 0x30 for byte in uuid.uuid4().bytes)
                link.delivery(tag.decode())
                link.stream(message.encode())
                link.advance()
                queue.locked[tag] = (message, until, deliveries)

    def _again(self, name: str, message: Message, deliveries: int) -> None:
        if deliveries + 1 >= self.most_deliveries:
            self._dead(name, message)
        else:
            self.queues[name].ready.appendleft((message, deliveries + 1))

    def _dead(self, name: str, message: Message) -> None:
        self.queues[DEAD_LETTERS.format(queue=name)].ready.append((message, 0))

    def _settled(self, event: Any, state: Any, then: Any) -> None:
        """The outcome is echoed only where the lock was not over."""
        for name, queue in list(self.queues.items()):
            if hit := queue.locked.pop(event.delivery.tag.encode(), None):
                then(name, queue, *hit)
                event.delivery.update(state)
                break
        else:
            event.delivery.local.condition = Condition("com.microsoft:message-lock-lost", "The lock is over.")
            event.delivery.update(Delivery.REJECTED)
        event.delivery.settle()

    def on_accepted(self, event: Any) -> None:
        if self.deaf.is_set():
            return
        self._settled(event, Delivery.ACCEPTED, lambda _, queue, message, *__: queue.completed.append(message.id))

    def on_released(self, event: Any) -> None:
        state = event.delivery.remote_state
        self._settled(event, state, lambda name, _, message, __, deliveries: self._again(name, message, deliveries))

    def on_rejected(self, event: Any) -> None:
        self._settled(event, Delivery.REJECTED, lambda name, _, message, *__: self._dead(name, message))


def _name(address: str) -> str:
    return address.split("://", 1)[-1].split("/", 1)[-1] if "://" in address else address
