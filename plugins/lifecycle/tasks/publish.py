"""Publish the training code to the Databricks workspace, under a path that carries its content hash.

A path never changes its content, so a run that is repeated next month runs the code it ran first.
"""

import base64
import hashlib
import logging
import os
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

from airflow.providers.databricks.exceptions import DatabricksApiError
from airflow.providers.databricks.hooks.databricks import DatabricksHook

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("training", "use_cases", "serving/scoring")
SINGLE_FILES = ("serving/__init__.py",)
SUFFIXES = (".py", ".sql", ".txt", ".html", ".json")
MARKER = "PUBLISHED.txt"
"""Written last: a folder without it was left half published."""


def code_files(root: Path = ROOT) -> dict[str, bytes]:
    """Relative path to content of everything that a job needs, in a stable order."""
    paths = [root / name for name in SINGLE_FILES]
    for package in PACKAGES:
        paths += [path for path in (root / package).rglob("*") if path.suffix in SUFFIXES]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(paths)}


def content_hash(files: dict[str, bytes]) -> str:
    """Sixteen hexadecimal digits over names and contents."""
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def git_revision(root: Path = ROOT) -> str:
    """The commit of this checkout, with ``+changes`` where files differ from it.

    ``LIFECYCLE_GIT_REVISION`` says it where there is no checkout, as in a container; else ``unknown``.
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


class WorkspaceHook(DatabricksHook):
    """The provider's hook, with the three workspace calls that it lacks. All its ways to log in apply."""

    def exists(self, path: str) -> bool:
        try:
            self._do_api_call(("GET", "2.0/workspace/get-status"), {"path": path})
        except DatabricksApiError as error:
            if error.http_status_code == 404:
                return False
            raise
        return True

    def make_folder(self, path: str) -> None:
        self._do_api_call(("POST", "2.0/workspace/mkdirs"), {"path": path})

    def write_file(self, path: str, content: bytes) -> None:
        """Import a file as it is; AUTO makes a ``.py`` without a notebook header a file and no notebook."""
        self._do_api_call(
            ("POST", "2.0/workspace/import"),
            {
                "path": path,
                "content": base64.b64encode(content).decode(),
                "format": "AUTO",
                "overwrite": True,
            },
        )


def publish(hook: WorkspaceHook, code_root: str, root: Path = ROOT) -> dict[str, Any]:
    """Make the code available below ``code_root`` and return ``{"path", "code_hash", "git_revision"}``.

    What is published already is left alone; a folder that a killed try left half written is completed.
    """
    files = code_files(root)
    code_hash = content_hash(files)
    target = PurePosixPath(code_root) / code_hash
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
