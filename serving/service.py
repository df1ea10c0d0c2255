"""What one server process is made of, put together from the settings."""

import mmap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.errors import Busy, KeyRefused
from serving.extras import entra_tokens, span_exporter
from serving.inference_log import InferenceLog
from serving.json_logging import stderr_writer
from serving.keys import ApiKeys
from serving.log_writer import LineWriter
from serving.metrics import Metrics
from serving.scoring.bundle import Bundle
from serving.scoring.contract import RELEASE_CLIENT
from serving.scoring.records import RecordReader
from serving.settings import Release, Settings, read_release
from serving.stop_switch import StopSwitch

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from serving.entra import EntraTokens
    from serving.spans import Spans

STDOUT = 1
NOBODY = "anonymous"
"""The client's name where authentication is off."""
_TURN_SECONDS = 0.001
"""For how long a lock is left to others. Without it whoever gives it up takes it again before they have noticed."""


@dataclass
class Lifecycle:
    """Whether this process takes requests.

    Plain flags: a signal's handler sets one, and a lock that it waits for may be held by the very code it interrupts.
    """

    warm: bool = False
    """A prediction has been made in this process, so the models work here."""
    draining: bool = False
    """The process is about to stop: readiness has fallen, requests are still answered."""
    _stopping: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 1))

    @property
    def stopping(self) -> bool:
        """Not only this process stops but the whole server: the master has set it for all workers."""
        return self._stopping[0] != 0

    def stop(self) -> None:
        """In the master: the server stops, and its sockets will be closed."""
        self._stopping[0] = 1


@dataclass
class Service:
    """The parts of a server, shared by its routes."""

    settings: Settings
    release: Release
    bundle: Bundle
    reader: RecordReader
    keys: ApiKeys | None
    """``None`` where authentication is off."""
    tokens: "EntraTokens | None"
    """``None`` where no tokens are taken."""
    spans: "Spans | None"
    """``None`` where no spans are exported."""
    switch: StopSwitch
    log: InferenceLog
    metrics: Metrics
    lifecycle: Lifecycle
    computing: threading.Lock = field(default_factory=threading.Lock)
    """Held by the request whose records are read, scored and worded for the log: one at a time, which is faster than
    threads that pass the interpreter to and fro, and bounds the memory."""
    _explaining: threading.Lock = field(default_factory=threading.Lock)
    """Held by the request whose reasons take long: the others that have as many would wait for minutes."""
    waiting_for_us: set[Any] = field(default_factory=set)
    """Sockets of clients whose requests are worked on: we do not wait for them, however long that takes."""

    @classmethod
    def load(cls, settings: Settings, workers: int = 1) -> "Service":
        """Load everything; raises ``SettingsError`` or ``BundleError``. ``workers``: processes to be forked."""
        bundle = Bundle.load(settings.bundle)
        contract = bundle.contract
        release = read_release(Path(settings.release), contract.name)
        switch = StopSwitch(Path(settings.stop_file) if settings.stop_file else None)
        return cls(
            settings=settings,
            release=release,
            bundle=bundle,
            reader=RecordReader(contract),
            keys=ApiKeys(Path(settings.api_keys_file)) if settings.auth != "off" else None,
            tokens=entra_tokens(settings),
            spans=span_exporter(release),
            switch=switch,
            log=InferenceLog(contract, release, settings, LineWriter(STDOUT, settings.log_timeout)),
            metrics=Metrics(
                contract, release, 2 * workers + 2, lambda: stderr_writer().lost, lambda: switch.stop is not None
            ),
            lifecycle=Lifecycle(),
        )

    def caller(self, environ: "WSGIEnvironment") -> str:
        """Who asks; raises the ``Problem`` of whoever may not."""
        key = environ.get("HTTP_X_API_KEY")
        if self.tokens is not None and not key:
            return self.tokens.client(environ.get("HTTP_AUTHORIZATION", ""))
        if self.keys is None:
            return NOBODY
        name = self.keys.client(key)
        if self.tokens is not None and name != RELEASE_CLIENT:
            raise KeyRefused(f"this server takes Entra access tokens, and an API key of {RELEASE_CLIENT} alone")
        return name

    def may_wait_for_keys(self, environ: "WSGIEnvironment") -> bool:
        """Whether the caller's token may need the key server's answer."""
        return self.tokens is not None and self.tokens.may_wait(environ.get("HTTP_AUTHORIZATION", ""))

    @contextmanager
    def at_work(self, client: Any) -> Iterator[None]:
        """The client with this socket has sent its request and waits for the answer."""
        self.waiting_for_us.add(client)
        try:
            yield
        finally:
            self.waiting_for_us.discard(client)

    @contextmanager
    def long_work(self) -> Iterator[None]:
        """For the holder of ``computing`` whose work takes long: one at a time, or ``Busy``."""
        if not self._explaining.acquire(blocking=False):
            raise Busy("the reasons of many records are being computed for somebody else: try again, or ask for fewer")
        try:
            yield
        finally:
            self._explaining.release()

    def let_others(self) -> None:
        """For the holder of ``computing``: whoever waits for it has a turn."""
        self.computing.release()
        time.sleep(_TURN_SECONDS)
        self.computing.acquire()

    def warm_up(self) -> None:
        """Score one made-up record, every field missing, and report ready: the models work in this process."""
        self.bundle.score_fields(np.full((1, len(self.bundle.contract.fields)), np.nan))
        self.lifecycle.warm = True
