"""What a folder holds, as one digest: a bundle or an image's folder is the same one where its digest is."""

import hashlib
import os
from pathlib import Path

NOT_CONTENT = ("__pycache__", ".mypy_cache", ".ruff_cache", ".DS_Store")
"""Names of caches, which do not count."""


def files_below(folder: Path) -> list[Path]:
    """All files of a folder that count, in a stable order; caches do not."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in NOT_CONTENT]
        found += [Path(parent) / name for name in names if name not in NOT_CONTENT]
    return sorted(found)


def folder_digest(folder: Path, *names: str) -> str:
    """SHA-256 (64 hexadecimal digits) over paths and contents of ``folder``, or of the named parts of it."""
    digest = hashlib.sha256()
    for part in names or (".",):
        for path in files_below(folder / part):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def content_digest(folder: Path) -> str:
    """The digest of a whole folder as images and evidence name it: ``sha256:`` and 64 hexadecimal digits."""
    return f"sha256:{folder_digest(folder)}"
