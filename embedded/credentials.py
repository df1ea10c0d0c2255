"""Secrets of the embedded stack: made once with the system's random source, kept where only the owner reads."""

import base64
import hashlib
import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from lifecycle.approval_keys import write_private
from serving.scoring.contract import RELEASE_CLIENT

_FILE = "stack.json"
API_CLIENT = "demo"
"""The name that the scoring servers log for people's generated key; that of the releases is ``RELEASE_CLIENT``."""


@dataclass(frozen=True)
class Credentials:
    """Everything secret that the stack's parts share."""

    airflow_password: str
    jwt_secret: str
    api_secret_key: str
    fernet_key: str
    minilake_token: str
    api_keys: dict[str, str]
    """Target to people's API key of its scoring servers."""
    release_keys: dict[str, str]
    """Target to the key that releases verify its scoring servers with."""
    airflow_user: str = "admin"

    @classmethod
    def load(cls, folder: Path, targets: Iterable[str]) -> "Credentials":
        """Read the secrets in ``folder``; make those that are not there yet."""
        path = folder / _FILE
        kept = json.loads(path.read_text()) if path.exists() else {}
        if any(field.name not in kept for field in fields(cls)):
            cls(**{**asdict(_make(targets)), **kept})._save(folder)
        return cls(**json.loads(path.read_text()))

    def _save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        for target, key in self.api_keys.items():
            keys = {API_CLIENT: key, RELEASE_CLIENT: self.release_keys[target]}
            hashed = {client: hashlib.sha256(key.encode()).hexdigest() for client, key in keys.items()}
            write_private(hashes_file(folder, target), json.dumps(hashed))
        write_private(folder / _FILE, json.dumps(asdict(self), indent=1))


def hashes_file(folder: Path, target: str) -> Path:
    """The file of key hashes that a target's scoring servers read."""
    return folder / f"api-keys-{target}.json"


def _make(targets: Iterable[str]) -> Credentials:
    targets = tuple(targets)
    return Credentials(
        airflow_password=secrets.token_urlsafe(12),
        jwt_secret=secrets.token_urlsafe(64),
        api_secret_key=secrets.token_urlsafe(32),
        fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        minilake_token=secrets.token_urlsafe(24),
        api_keys={target: secrets.token_urlsafe(24) for target in targets},
        release_keys={target: secrets.token_urlsafe(24) for target in targets},
    )
