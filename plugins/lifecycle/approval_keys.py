"""Make and rotate the key pair that signs approvals.

``python -m lifecycle.approval_keys FILE`` writes the private key into a new file that only its owner may read, in the
form of Airflow's connection ``approval_key``, and prints the public key for the settings. The local stacks keep a
``KeyRing`` in a file of their own instead; ``python -m lifecycle.approval_keys --rotate RING`` gives it a new pair.
"""

import argparse
import json
import os
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Self

import msgspec

from lifecycle.evidence.signature import PublicKey, key_id, new_private_key, public_half
from serving.scoring.described import described


@described
class KeyRing(msgspec.Struct, frozen=True):
    """The private key in use, and the public keys of all that were."""

    private: str
    public: tuple[PublicKey, ...]
    """The one in use last."""

    @classmethod
    def new(cls) -> Self:
        private = new_private_key()
        return cls(private, (_public_key(private, _today()),))

    def rotated(self) -> Self:
        """With a new pair; the earlier private key is gone, and its public half checks what it has signed."""
        private, today = new_private_key(), _today()
        *earlier, used = self.public
        ended = msgspec.structs.replace(used, until=today)
        return type(self)(private, (*earlier, ended, _public_key(private, today)))

    def connection(self) -> str:
        """The value of Airflow's connection ``approval_key``; secret."""
        return json.dumps({"conn_type": "generic", "password": self.private})

    def settings(self) -> str:
        """The public keys as the value of ``approval_keys`` in a settings file, in one line of TOML."""
        return f"[{', '.join(_toml(key) for key in self.public)}]"

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a ring; where there is none, make it."""
        if not path.exists():
            cls.new().save(path)
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def save(self, path: Path) -> None:
        """Replace the file in one step by one that only its owner may read."""
        write_private(path, msgspec.json.encode(self).decode())


def _public_key(private: str, today: date) -> PublicKey:
    public = public_half(private)
    return PublicKey(id=key_id(public), public=public, since=today)


def _toml(key: PublicKey) -> str:
    until = f", until = {key.until}" if key.until else ""
    return f'{{ id = "{key.id}", public = "{key.public}", from = {key.since}{until} }}'


def _today() -> date:
    return datetime.now(UTC).date()


def write_private(path: Path, text: str, owner: int | None = None) -> None:
    """Replace a file in one step by one that only its owner may read: this process's user, or ``owner`` by its id."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)  # one that a killed process has left may have another owner, or be for all to read
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    if owner is not None:
        os.chown(part, owner, owner)
    part.replace(path)


def main(arguments: list[str]) -> None:
    """Make a pair for a cloud, or rotate a local stack's ring; a file that is in the way ends it with a message."""
    parser = argparse.ArgumentParser(description="Make or rotate the key pair that signs approvals.")
    parser.add_argument("file", type=Path, help="where the private key goes, or the ring with --rotate")
    parser.add_argument("--rotate", action="store_true", help="give an existing ring a new pair")
    given = parser.parse_args(arguments)
    if given.rotate:
        if not given.file.exists():
            raise SystemExit(f"{given.file} is not there: the stack makes its first key pair when it starts")
        ring = KeyRing.load(given.file).rotated()
        ring.save(given.file)
        sys.stdout.write(f"approvals are signed with key {ring.public[-1].id} once the stack is started again\n")
        return
    if given.file.exists():
        raise SystemExit(f"{given.file} is there already: a private key is not overwritten, name another file")
    ring = KeyRing.new()
    write_private(given.file, ring.connection())
    sys.stdout.write(
        f"The private key is in {given.file}, as the value of Airflow's connection approval_key: put it into the "
        "workers' secrets backend and delete the file.\nThe public key goes into approval_keys of the settings file, "
        f"beside those that are there; give the one that it replaces `until = {_today()}`:\n\n"
        f"  {_toml(ring.public[0])},\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
