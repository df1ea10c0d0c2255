"""Publish the code of a use case's jobs to the Databricks workspace, under a path that carries its content hash.

A path never changes its content, so a run that is repeated next month runs the code it ran first. The code is the
rails' and that of the one use case: a change to another use case gives no new path.
"""

import hashlib
import logging
import os
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

from lifecycle.hooks.databricks import WorkspaceHook
from training.use_case import UseCase

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("training", "serving/scoring")
SINGLE_FILES = ("serving/__init__.py", "use_cases/__init__.py")
DATA_FOLDER = "data"
"""Folder of a use case that is not published: jobs read data where the settings say."""
SUFFIXES = (".py", ".sql", ".txt", ".html", ".json")
MARKER = "PUBLISHED.txt"
"""Written last: a folder without it was left half published."""


def code_files(use_case: UseCase, root: Path = ROOT) -> dict[str, bytes]:
    """Relative path to content of everything that a job of the use case needs, in a stable order.

    The use case's folder may lie outside ``root``; it is always published as ``use_cases/<name>``.
    """
    paths = {name: root / name for name in SINGLE_FILES}
    for package in PACKAGES:
        paths |= {path.relative_to(root).as_posix(): path for path in _code_below(root / package)}
    for path in _code_below(use_case.folder):
        within = path.relative_to(use_case.folder)
        if within.parts[0] != DATA_FOLDER:
            paths[f"use_cases/{use_case.name}/{within.as_posix()}"] = path
    return {name: paths[name].read_bytes() for name in sorted(paths)}


def _code_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in SUFFIXES]


def content_hash(files: dict[str, bytes]) -> str:
    """Sixteen hexadecimal digits over names and contents."""
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def place_of(code_root: str, code_hash: str) -> str:
    """The folder of the workspace in which code of this hash is published."""
    return str(PurePosixPath(code_root) / code_hash)


def git_revision(root: Path = ROOT) -> str:
    """The commit of this checkout, with ``+changes`` where files differ from it.

    ``LIFECYCLE_GIT_REVISION`` says it where there is no checkout, as in a container; otherwise it is ``unknown``.
    """
    if said := os.environ.get("LIFECYCLE_GIT_REVISION"):
        return said
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        log.warning("the git revision is not known (%s): set LIFECYCLE_GIT_REVISION", error)
        return "unknown"
    return f"{head}+changes" if changes else head


def publish(hook: WorkspaceHook, use_case: UseCase, code_root: str, root: Path = ROOT) -> dict[str, Any]:
    """Make the code available below ``code_root`` and return ``{"path", "code_hash", "git_revision"}``.

    What is published already is left alone; a folder that a killed try left half written is completed.
    """
    files = code_files(use_case, root)
    code_hash = content_hash(files)
    target = PurePosixPath(place_of(code_root, code_hash))
    if hook.exists(str(target / MARKER)):
        log.info("code %s is published already at %s", code_hash, target)
    else:
        for folder in sorted({target / PurePosixPath(name).parent for name in files}):
            hook.make_folder(str(folder))
        for name, content in files.items():
            hook.write_file(str(target / name), content)
        hook.write_file(str(target / MARKER), "\n".join(files).encode())
        log.info("published %d files as %s", len(files), target)
    return {"path": str(target), "code_hash": code_hash, "git_revision": git_revision(root)}
