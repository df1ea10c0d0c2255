"""Install the libraries that a task asks for, once for each set, in a folder for its processes alone."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from minilake.config import settings
from packaging.requirements import InvalidRequirement, Requirement

from embedded.emulators.minilake.workspace import resolve


class LibraryError(RuntimeError):
    """Raised when a library cannot be installed; the message is the installer's."""


def install(libraries: list[dict[str, Any]]) -> str:
    """The folder to put on the task's path; empty when the environment has all that is asked for.

    Wheels (``whl``), packages (``pypi``) and requirements files (``requirements``) are known; blocks.
    """
    wanted = [*_wheels(libraries), *(item for item in _requirements(libraries) if not _satisfied(item))]
    if not wanted:
        return ""
    content = "\0".join(_identity(item) for item in wanted)
    target = settings.data_dir / "libraries" / hashlib.sha256(content.encode()).hexdigest()[:16]
    if not target.exists():
        _install(wanted, target)
    return str(target.resolve())


def _install(wanted: list[str], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch) / "site"
        # Without dependencies: the environment has them at the versions that the project is pinned to.
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps",
                   "--python", sys.executable, "--target", str(folder), *wanted]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise LibraryError(f"library installation failed for {', '.join(wanted)}:\n{done.stderr.strip()}")
        shutil.move(folder, target)


def _wheels(libraries: list[dict[str, Any]]) -> list[str]:
    found = []
    for library in libraries:
        if reference := library.get("whl"):
            path = resolve(str(reference))
            if not path.is_file():
                raise LibraryError(f"library {reference} does not exist: upload it before the run")
            found.append(str(path))
    return found


def _requirements(libraries: list[dict[str, Any]]) -> list[str]:
    found = [str(library["pypi"]["package"]) for library in libraries if library.get("pypi")]
    for library in libraries:
        if reference := library.get("requirements"):
            path = resolve(str(reference))
            if not path.is_file():
                raise LibraryError(f"requirements file {reference} does not exist: upload it before the run")
            found += _lines(path)
    return found


def _lines(path: Path) -> list[str]:
    """The requirements of a file; hashes and comments are left out."""
    text = path.read_text().replace("\\\n", " ")
    lines = (line.split(" #")[0].split(" --hash")[0].strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith(("#", "-"))]


def _satisfied(text: str) -> bool:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise LibraryError(f"{text!r} is not a requirement: {error}") from error
    if requirement.marker and not requirement.marker.evaluate():
        return True
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


def _identity(item: str) -> str:
    path = Path(item)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else item
