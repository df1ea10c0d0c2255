"""Other people's images: ``images.lock`` lists them, with the digest of each where it was looked up."""

import re
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "images.lock"
NOT_LOOKED_UP = "not looked up"
_LINE = re.compile(r"(?P<name>[a-z0-9./:_-]+) +(?P<tag>[\w.-]+) +(?P<digest>sha256:[0-9a-f]{64}|not looked up)")


class LockError(ValueError):
    """Raised when a line of ``images.lock`` is not a name, a tag and a digest."""


class Image(msgspec.Struct, frozen=True):
    """An image that somebody else publishes."""

    name: str
    """As Docker writes it: ``python``, ``registry.k8s.io/kubectl``."""
    tag: str
    digest: str = ""
    """``sha256:`` and 64 hexadecimal digits of its index or manifest; empty where nobody has looked it up."""

    @property
    def tagged(self) -> str:
        return f"{self.name}:{self.tag}"

    @property
    def reference(self) -> str:
        """What to build from or to run: the digest counts where there is one, and the tag shows what it is."""
        return f"{self.tagged}@{self.digest}" if self.digest else self.tagged


def read(path: Path = LOCK) -> list[Image]:
    """The images of a lock file; raises ``LockError`` that names the line that is wrong."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = _LINE.fullmatch(line.rstrip())
        if parts is None:
            raise LockError(
                f"{path}:{number}: {line!r} is not a name, a tag, and sha256:... or {NOT_LOOKED_UP}, in columns"
            )
        digest = parts["digest"]
        found.append(Image(parts["name"], parts["tag"], "" if digest == NOT_LOOKED_UP else digest))
    return found


def pinned(reference: str, path: Path = LOCK) -> str:
    """``name:tag`` with its digest where the lock file knows one; anything else as it is."""
    return next((image.reference for image in read(path) if image.tagged == reference), reference)
