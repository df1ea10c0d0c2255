"""What Airflow's triggerer does with watchers: the real shared streams, with a file for its database.

``python -m tests.support.triggerer FILE LOCK_SECONDS``: as a process of its own, which can be killed. It listens for
both folders of the tests' use case through connection ``events``, and never says that it has stored what it has stored.
"""

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from airflow.triggers.shared_stream import SharedStreamManager

from lifecycle.events import brokers
from lifecycle.events.trigger import ArrivalTrigger
from tests.support.airflow import USE_CASE
from tests.support.events import SUBJECTS

QUEUE = "lifecycle-events"
_POLL_SECONDS = 0.05


def watcher(feed: str = "data") -> ArrivalTrigger:
    """A watcher of one of the folders."""
    return ArrivalTrigger(
        QUEUE, feed, USE_CASE, SUBJECTS.replace("/bronze/", f"/{'bronze' if feed == 'data' else feed}/")
    )


class Triggerer:
    """Runs watchers while it is entered; ``stored`` is what Airflow's database holds of their events."""

    def __init__(
        self, *watchers: ArrivalTrigger, confirms: bool = True, ack_timeout: float = 60.0, delay: float = 0.05
    ) -> None:
        self.stored: list[dict[str, Any]] = []
        self.delay = delay
        """Between storing and the word that it is stored, which comes with a later exchange of the processes."""
        self._watchers = watchers
        self._confirms = confirms
        self._manager = SharedStreamManager(ack_timeout=ack_timeout)
        self._tasks: list[asyncio.Task[None]] = []

    def failures(self) -> list[BaseException | None]:
        """Why watchers have ended."""
        return [task.exception() for task in self._tasks if task.done()]

    def store(self, payload: dict[str, Any]) -> None:
        """Where an event is kept."""
        self.stored.append(payload)

    async def __aenter__(self) -> "Triggerer":
        for one in self._watchers:
            self.begin(one)
        return self

    def begin(self, one: ArrivalTrigger) -> None:
        """One more watcher, beside those that listen already."""
        self._tasks.append(asyncio.create_task(self._run(len(self._tasks), one)))

    async def __aexit__(self, *_: Any) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._tasks = []
        await self._manager.stop_all()

    async def until(self, condition: Any, seconds: float = 30.0) -> None:
        """Wait until something holds."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not condition():
            assert not (failures := self.failures()), failures
            assert asyncio.get_running_loop().time() < deadline, f"not within {seconds:g} s; stored: {self.stored}"
            await asyncio.sleep(_POLL_SECONDS)

    async def _run(self, number: int, one: ArrivalTrigger) -> None:
        key = one.shared_stream_key()
        try:
            stream = self._manager.subscribe(trigger_id=number, trigger=one, key=key)
            async for event in one.filter_shared_stream(stream):
                confirmation = self._manager.bind_pending_event(trigger_id=number, key=key)
                self.store(event.payload)
                if self._confirms and confirmation is not None:
                    loop = asyncio.get_running_loop()
                    loop.call_later(self.delay, self._manager.confirm_persisted, [confirmation])
        finally:
            await self._manager.unsubscribe(number, key)


class _OnDisk(Triggerer):
    def __init__(self, file: Path, *watchers: ArrivalTrigger) -> None:
        super().__init__(*watchers, confirms=False)
        self._file = file

    def store(self, payload: dict[str, Any]) -> None:
        with self._file.open("a") as file:
            file.write(f"{json.dumps(payload)}\n")


async def _main(file: Path) -> None:
    async with _OnDisk(file, watcher(), watcher("outcomes")):
        await asyncio.Event().wait()


if __name__ == "__main__":
    brokers.LOCK_SECONDS = int(sys.argv[2])
    asyncio.run(_main(Path(sys.argv[1])))
