"""Which event feeds which asset of which use case: one table, ``FEEDS``.

Imported by DAG files, so mind what it imports.
"""

import hashlib
import posixpath
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from lifecycle import settings
from lifecycle.settings import UseCaseSettings
from lifecycle.use_cases import load_all
from serving.scoring.described import described
from training.inference_log.layout import LEFT_OUT
from training.use_case import UseCase

BLOB_CREATED = "Microsoft.Storage.BlobCreated"
_EMPTY_APIS = ("CreateFile",)
"""Calls that make a file without its content; another event follows when it is written."""
TABLES = (".csv", ".parquet")
"""How the names of new data end."""
_RUN_PREFIX = "arrival__"


class EventError(ValueError):
    """Raised for a message that is not an event, or an event that lacks what it has to say; the text names it."""


@described
class Event(msgspec.Struct, frozen=True):
    """One event, whether it came in Event Grid's schema or as a CloudEvent."""

    id: str
    type: str
    subject: str
    time: str
    data: dict[str, Any]


@described
class _Blob(msgspec.Struct, frozen=True):
    """What ``data`` of a ``BlobCreated`` event says."""

    eTag: Annotated[str, msgspec.Meta(min_length=1)]
    contentLength: int = 0
    sequencer: str = ""


@described
class File(msgspec.Struct, frozen=True):
    """One version of a file in a watched folder, whether an event told of it or the sweep found it."""

    feed: str
    """The name of its row in ``FEEDS``."""
    name: str
    """Path below the watched folder."""
    version: str
    """The storage's ETag: another content is another version."""
    written: str
    """RFC 3339, UTC."""
    size: int = 0
    event: str = ""
    """Id of the event; empty where the sweep found it."""
    sequencer: str = ""
    """Orders the events of one blob."""

    @property
    def key(self) -> str:
        """The same for the same version of the same file, whoever told of it; letters, digits and dashes."""
        digest = hashlib.sha256("\0".join((self.feed, self.name, self.version)).encode()).hexdigest()
        return f"{self.feed}-{digest[:20]}"

    @property
    def run_id(self) -> str:
        """Of the runs that it starts: however often it is told of, it starts each of them once."""
        return f"{_RUN_PREFIX}{self.key}"

    @property
    def age(self) -> tuple[datetime, str]:
        """What the newest file has most of."""
        return datetime.fromisoformat(self.written), self.sequencer


def _as_told(event: Event, _: str) -> Any:
    return msgspec.to_builtins(event)


def file_told(feed: str) -> Callable[[Event, str], Any]:
    """How a row makes a ``File`` of a ``BlobCreated`` event."""

    def told(event: Event, prefix: str) -> Any:
        name = event.subject.removeprefix(prefix)
        if event.data.get("api") in _EMPTY_APIS or not counts(feed, name):
            return None
        try:
            blob = msgspec.convert(event.data, _Blob)
        except msgspec.ValidationError as error:
            raise EventError(f"event {event.id} of {event.subject} does not describe its blob: {error}") from error
        version, size = blob.eTag.strip('"'), blob.contentLength
        return msgspec.to_builtins(File(feed, name, version, _moment(event), size, event.id, blob.sequencer))

    return told


def _moment(event: Event) -> str:
    try:
        moment = datetime.fromisoformat(event.time)
    except ValueError as error:
        raise EventError(f"event {event.id} has the time {event.time!r}: RFC 3339 was expected") from error
    if moment.tzinfo is None:
        raise EventError(f"event {event.id} has the time {event.time!r}, without an offset")
    return event.time


class Feed(msgspec.Struct, frozen=True):
    """A row of the table."""

    name: str
    event_type: str
    asset: Callable[[UseCase], str]
    subjects: Callable[[UseCase, UseCaseSettings], str]
    """How the subjects of a use case's events begin; empty where it does not want any."""
    told: Callable[[Event, str], Any] = _as_told
    """What the asset's event holds, of an event and the beginning of its subject; ``None``: nothing to tell."""


def data_folder(_: UseCase, found: UseCaseSettings) -> str:
    """Where new data of a use case arrives; empty where nothing starts by it."""
    return found.bronze if found.start_on_data else ""


def outcomes_folder(use_case: UseCase, found: UseCaseSettings) -> str:
    """Where outcomes of a use case arrive; empty where nothing starts by them."""
    return (found.outcomes_folder or found.outcomes) if found.start_on_outcomes and use_case.online else ""


FOLDERS: dict[str, Callable[[UseCase, UseCaseSettings], str]] = {"data": data_folder, "outcomes": outcomes_folder}
"""The folders that the sweep looks through, by the name of their row."""


def folders(use_case: UseCase) -> dict[str, str]:
    """Those that a use case watches, by the name of their row."""
    found = settings.load().of(use_case)
    return {name: folder for name, where in FOLDERS.items() if (folder := where(use_case, found))}


def blobs_in(name: str) -> Callable[[UseCase, UseCaseSettings], str]:
    """How the subjects of blobs in a folder of ``FOLDERS`` begin."""

    def subjects(use_case: UseCase, found: UseCaseSettings) -> str:
        folder = FOLDERS[name](use_case, found).rstrip("/")
        if "://" not in folder:
            return f"{folder}/" if folder else ""
        place = urlsplit(folder)
        container = place.netloc.rpartition("@")[2]
        inner = f"{place.path.strip('/')}/" if place.path.strip("/") else ""
        return f"/blobServices/default/containers/{container}/blobs/{inner}"

    return subjects


FEEDS: tuple[Feed, ...] = (
    Feed("data", BLOB_CREATED, lambda use_case: use_case.data_asset, blobs_in("data"), file_told("data")),
    Feed(
        "outcomes", BLOB_CREATED, lambda use_case: use_case.outcomes_asset, blobs_in("outcomes"), file_told("outcomes")
    ),
)


def named(name: str) -> Feed:
    """The row of this name; raises ``KeyError``."""
    return {feed.name: feed for feed in FEEDS}[name]


def wanted(use_case: UseCase) -> list[tuple[Feed, str]]:
    """The rows whose events a use case wants, by its settings, with the beginning of their subjects."""
    found = settings.load().of(use_case)
    rows = [(feed, feed.subjects(use_case, found)) for feed in FEEDS]
    return [(feed, subjects) for feed, subjects in rows if subjects]


def takers(events: list[Event]) -> set[tuple[str, str]]:
    """Rows and use cases, by name, that want one of these events."""
    return {
        (feed.name, use_case.name)
        for use_case in load_all()[0]
        for feed, subjects in wanted(use_case)
        for event in events
        if matches(event, feed, subjects)
    }


def matches(event: Event, feed: Feed, subjects: str) -> bool:
    """Whether an event is of a row, and of the use case whose subjects begin so."""
    return event.type == feed.event_type and event.subject.startswith(subjects)


def counts(feed: str, name: str) -> bool:
    """Whether a path below a watched folder is of a file that people mean: not hidden, a table where one is meant."""
    parts = name.split("/")
    if not name or posixpath.normpath(name) != name or any(part.startswith((*LEFT_OUT, "..")) for part in parts):
        return False
    return feed != "data" or name.endswith(TABLES)


def parse(body: bytes) -> list[Event]:
    """The events of a message: one or a list, in Event Grid's schema or as CloudEvents. Raises ``EventError``."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EventError(f"it is not JSON: {error}") from error
    return [_event(one) for one in (found if isinstance(found, list) else [found])]


def _event(found: Any) -> Event:
    if not isinstance(found, dict):
        raise EventError(f"it holds {type(found).__name__} where an event was expected")
    cloud = "specversion" in found
    fields = {
        "id": found.get("id"),
        "type": found.get("type" if cloud else "eventType"),
        "subject": found.get("subject", ""),
        "time": found.get("time" if cloud else "eventTime"),
        "data": found.get("data"),
    }
    try:
        return msgspec.convert(fields, Event)
    except msgspec.ValidationError as error:
        raise EventError(f"it is not an event of Event Grid: {error}") from error
