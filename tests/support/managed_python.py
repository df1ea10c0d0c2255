"""A folder that uv takes for a mirror of managed Pythons; what it holds is the Python that runs the tests."""

import hashlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

_MIRRORED = "https://github.com/astral-sh/python-build-standalone/releases/download"
"""What uv replaces by the mirror's address."""
_LEFT_OUT = re.compile(
    r"/(test|tests|idlelib|turtledemo|lib2to3|site-packages|dist-packages|__pycache__|config-[^/]+)$"
)


def mirror(folder: Path, uv: str) -> dict[str, str]:
    """Make it in ``folder``; returns the variables that lead uv there, and to places below ``folder`` alone."""
    offered = _offered(uv)
    release = offered["url"].partition("/releases/download/")[2]
    archive = folder / "mirror" / unquote(release)
    archive.parent.mkdir(parents=True)
    _write(archive)
    parts = offered["version_parts"]
    download = {
        "name": offered["implementation"],
        "arch": {"family": offered["arch"], "variant": None},
        "os": offered["os"],
        "libc": offered["libc"],
        "major": parts["major"],
        "minor": parts["minor"],
        "patch": parts["patch"],
        "prerelease": "",
        "url": f"{_MIRRORED}/{release}",
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "variant": None,
        "build": release.partition("/")[0],
    }
    listing = folder / "downloads.json"
    listing.write_text(json.dumps({offered["key"]: download}))
    return {
        "UV_PYTHON_INSTALL_MIRROR": (folder / "mirror").as_uri(),
        "UV_PYTHON_DOWNLOADS_JSON_URL": str(listing),
        "UV_PYTHON_INSTALL_DIR": str(folder / "pythons"),
        "UV_PYTHON_CACHE_DIR": str(folder / "cache"),
        "UV_PYTHON_PREFERENCE": "only-managed",  # this machine's own count as missing
    }


def _offered(uv: str) -> dict[str, Any]:
    """What uv would download here; it knows without asking."""
    command = [uv, "python", "list", "--only-downloads", "--show-urls", "--output-format", "json", "cpython@3.11"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    done = subprocess.run(command, env=environ, capture_output=True, check=True)
    return json.loads(done.stdout)[0]


def _write(archive: Path) -> None:
    """As the published ones are laid out: one folder with bin/ and lib/."""
    executable = Path(sys.executable).resolve()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(executable, f"python/bin/{version}")
        tar.add(sysconfig.get_path("stdlib"), f"python/lib/{version}", filter=_wanted)
        if library := sysconfig.get_config_var("Py_ENABLE_SHARED") and sysconfig.get_config_var("INSTSONAME"):
            tar.add(Path(sysconfig.get_config_var("LIBDIR")) / library, f"python/lib/{library}")


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if _LEFT_OUT.search(member.name) else member
