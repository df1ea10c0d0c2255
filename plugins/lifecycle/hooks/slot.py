"""One slot of the embedded scoring host: what should run there, and what does.

The host (``embedded/scoring_host.py``) does for local gunicorn processes what a kubelet does for pods. Each use case
has a slot for each target: the folder ``<use case>/<target>`` in the folder of all slots.
``desired.json`` in the slot's folder says what is wanted, ``status.json`` what has come of it. Both are
JSON and replaced by rename, so a reader never sees half a file.
"""

import os
import time
from pathlib import Path
from typing import Any, Literal

import msgspec

from lifecycle.image_reference import ImageReference, ImageReferenceError
from serving.scoring.described import described
from training.use_case import Target

DESIRED_FILE = "desired.json"
STATUS_FILE = "status.json"
STOP_FILE = "stop.json"
"""As long as it is there, the slot's servers score nothing: ``lifecycle.hooks.stop_switch``."""
_POLL_SECONDS = 0.1


class SlotError(RuntimeError):
    """Raised when the scoring host could not do what was asked; the message holds its last log lines."""


class Unit(msgspec.Struct, frozen=True):
    """A release that runs, or should: the image, a folder with its digest, and the model version."""

    image: str
    version: str

    def __post_init__(self) -> None:
        if ImageReference.parse(self.image).kind != "folder":
            raise ImageReferenceError(f"{self.image!r} is not a folder of this machine: give /folder@sha256:...")

    @property
    def folder(self) -> Path:
        return Path(ImageReference.parse(self.image).place)


class Running(Unit, frozen=True):
    """A unit that runs."""

    pid: int = 0
    since: str = ""
    url: str = ""
    """The private address; a canary always has one."""

    @property
    def unit(self) -> Unit:
        return Unit(image=self.image, version=self.version)


@described
class Desired(msgspec.Struct, frozen=True):
    """``desired.json``: a generation names one wish, and comes back in the status that answers it."""

    generation: str
    stable: Unit | None = None
    canary: Unit | None = None


@described
class Status(msgspec.Struct, frozen=True):
    """``status.json``."""

    generation: str = ""
    state: Literal["progressing", "complete", "failed"] = "complete"
    message: str = ""
    log_tail: tuple[str, ...] = ()
    stable: Running | None = None
    canary: Running | None = None
    address: str = ""
    """Where clients find the stable server and the canary."""


def read_status(folder: Path) -> Status:
    """What the host says about the slot in ``folder``; an empty status where it has said nothing yet."""
    try:
        return msgspec.json.decode((folder / STATUS_FILE).read_bytes(), type=Status)
    except FileNotFoundError:
        return Status()


class Slot:
    """A use case's slot at a target. The ``gunicorn`` connection of the target holds for all use cases.

    Its ``extra.home`` is the folder of all slots, and its password the API key of the target's servers.
    """

    def __init__(self, connection: Any, use_case: str, target: Target) -> None:
        home = connection.extra_dejson.get("home")
        if not home:
            raise SlotError(f"connection {connection.conn_id!r} needs extra.home: the folder of all slots")
        self.home = Path(home) / use_case / target
        self.key: str = connection.password or ""

    @property
    def url(self) -> str:
        """The public address, which the host gives to a slot when something is asked for there for the first time."""
        if not (address := self.status().address):
            raise SlotError(f"the slot {self.home} has no address yet: nothing has been deployed there")
        return address

    def status(self) -> Status:
        """What the host says; an empty status where nothing has been asked for yet."""
        return read_status(self.home)

    def ask(self, desired: Desired, *, timeout: float) -> Status:
        """Say what should run and wait until it does; raises ``SlotError`` when it does not come to that.

        Asking again for the generation that was answered last costs nothing. One that has failed is asked for again,
        under another name: the host takes a generation up once.
        """
        before = self.status()
        if (before.generation, before.state) == (desired.generation, "failed"):
            desired = msgspec.structs.replace(desired, generation=f"{desired.generation}-again")
        self._write(DESIRED_FILE, msgspec.json.encode(desired))
        deadline = time.monotonic() + timeout
        status = self.status()
        while status.generation != desired.generation or status.state == "progressing":
            if time.monotonic() > deadline:
                raise SlotError(self._too_late(desired, status, timeout))
            time.sleep(_POLL_SECONDS)
            status = self.status()
        if status.state == "failed":
            raise SlotError("\n".join([status.message, *status.log_tail]))
        return status

    def stop_text(self) -> str | None:
        """What the stop file holds; ``None`` where there is none."""
        try:
            return (self.home / STOP_FILE).read_text(errors="replace")
        except FileNotFoundError:
            return None

    def set_stop(self, text: str | None) -> None:
        """Write the stop file, or take it away."""
        if text is None:
            (self.home / STOP_FILE).unlink(missing_ok=True)
        else:
            self._write(STOP_FILE, text.encode())

    def _write(self, name: str, content: bytes) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        part = self.home / f".{name}.{os.getpid()}"
        part.write_bytes(content)
        part.replace(self.home / name)

    def _too_late(self, desired: Desired, status: Status, timeout: float) -> str:
        if status.generation != desired.generation:
            return (
                f"the scoring host of {self.home} has not taken up the request within {timeout:g} s: "
                "start it with `make up`"
            )
        return "\n".join([f"not ready within {timeout:g} s: {status.message}", *status.log_tail])
