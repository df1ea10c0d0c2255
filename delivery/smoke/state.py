"""What a smoke run keeps in its folder, so that another call goes on with it, or takes down what it has made."""

import secrets
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from serving.scoring.described import described

HOUR = 3600.0


class SmokeError(RuntimeError):
    """Raised when a smoke run cannot go on; the message says what to do."""


@described
class State(msgspec.Struct, kw_only=True):
    """One smoke run, from before it costs anything to after everything is gone."""

    prefix: str
    """Begins the ids of its DAG runs, in the cloud and on this machine."""
    hours: float
    """How long it may stand, counted from ``began``; then it is taken down."""
    began: float = 0.0
    """When the environment began to cost, seconds since 1970; 0 before."""
    done: dict[str, float] = {}
    """Steps that have ended, with the seconds that they took."""
    fault: str = ""
    """What ended it early."""
    taken_down: bool = False

    def left(self) -> float:
        """Seconds until its time is over, by the wall: the environment costs while we are away, too."""
        return self.hours * HOUR - (time.time() - self.began if self.began else 0.0)


class Home:
    """The folder of a smoke run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "state.json"

    def begin(self, hours: float) -> State:
        """The run that was begun here and has not been taken down, or a new one."""
        state = self.read()
        if state is not None and not state.taken_down:
            return state
        for old in ("embedded.json", "cloud.json", "outputs.json"):
            (self.folder / old).unlink(missing_ok=True)
        state = State(prefix=f"smoke__{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}-{secrets.token_hex(2)}", hours=hours)
        self.keep(state)
        return state

    def read(self) -> State | None:
        """The last run of this folder."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=State)
        except FileNotFoundError:
            return None

    def keep(self, state: State) -> None:
        """Write it whole: a kill leaves the former one or this one."""
        self.write(self._file.name, msgspec.json.format(msgspec.json.encode(state)))

    def write(self, name: str, content: bytes, *, secret: bool = False) -> Path:
        """Put a file there, readable by its owner alone where it is a secret; returns its path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path, part = self.folder / name, self.folder / f"{name}.part"
        part.touch(mode=0o600 if secret else 0o644)
        part.write_bytes(content)
        part.replace(path)
        return path

    def secret(self, name: str) -> str:
        """A password of this run: made once, gone with ``forget``."""
        path = self.folder / f"{name}.secret"
        if not path.exists():
            self.write(path.name, secrets.token_hex(24).encode(), secret=True)
        return path.read_text()

    def forget(self) -> None:
        """Remove what nobody needs once everything is taken down: passwords, keys and the clusters' addresses."""
        for path in [*self.folder.glob("*.secret"), *self.folder.glob("*.kubeconfig")]:
            path.unlink()
