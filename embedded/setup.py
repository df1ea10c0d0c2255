"""Make the Python environment: ``python3.11 -m embedded.setup FOLDER``. Standard library only.

Does nothing when the environment was made from the present requirements.txt. pip installs the pinned uv,
checked by hash, and uv installs the rest, checked by hash too: seconds instead of minutes.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MIN_DISK_MIB = 4096
"""The environment with its byte code takes 2.6 GiB, a cold cache of downloads 0.9."""
MIN_MACOS = 14
"""onnxruntime's wheels need it."""
_STAMP = ".requirements.sha256"


class SetupError(RuntimeError):
    """Raised when the environment cannot be made; the message is one line that says what to do."""


def pinned(requirements: str, package: str) -> str:
    """The lines of a compiled requirements file that pin one package, hashes included."""
    lines = iter(requirements.splitlines(keepends=True))
    for line in lines:
        if line.startswith(f"{package}=="):
            found = [line]
            while found[-1].rstrip().endswith("\\"):
                found.append(next(lines))
            return "".join(found)
    raise SetupError(f"requirements.txt does not pin {package}: run `make lock`")


def is_current(folder: Path, requirements: str) -> bool:
    """Whether the environment in ``folder`` was made from these requirements, and is still there."""
    stamp = folder / _STAMP
    return (folder / "bin" / "python").exists() and stamp.exists() and stamp.read_text() == _digest(requirements)


def make(folder: Path, requirements_file: Path) -> None:
    """Make or update the environment, showing progress."""
    requirements = requirements_file.read_text()
    _check_system()
    _check_disk(folder)
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"[1/3] new environment in {folder}", flush=True)
        venv.create(folder, with_pip=True, clear=folder.exists())
    print("[2/3] the installer", flush=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as only_uv:
        only_uv.write(pinned(requirements, "uv"))
        only_uv.flush()
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
              "--require-hashes", "--no-deps", "-r", only_uv.name])  # fmt: skip
    count = len(re.findall(r"^[\w.-]+==", requirements, flags=re.MULTILINE))
    print(f"[3/3] {count} packages: a minute or so, the first time", flush=True)
    # Quiet: it would list each of some 320 packages.
    _run([str(python), "-m", "uv", "pip", "install", "--quiet", "--python", str(python), "--require-hashes",
          "--compile-bytecode", "-r", str(requirements_file)])  # fmt: skip
    (folder / _STAMP).write_text(_digest(requirements))


def _check_system() -> None:
    """Stop where packages have no wheels; tests/test_lock.py says where they have."""
    system = platform.system()
    if system not in ("Linux", "Darwin"):
        raise SetupError(f"this project runs on Linux and macOS, not on {system}: on Windows, use WSL 2")
    if system == "Linux":
        return
    if platform.machine() != "arm64":
        raise SetupError(
            f"onnxruntime has no package for a Mac with {platform.machine()}: use Linux (a container or a virtual "
            "machine will do); on a Mac with Apple silicon, use a Python for arm64"
        )
    release = platform.mac_ver()[0]
    if int(release.split(".")[0]) < MIN_MACOS:
        raise SetupError(f"onnxruntime needs macOS {MIN_MACOS} or newer, this is {release}: update it, or use Linux")


def _check_disk(folder: Path) -> None:
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(place).free // 2**20
    if free < MIN_DISK_MIB:
        raise SetupError(
            f"{free} MiB of disk are free at {place}, {MIN_DISK_MIB} are needed: make room, "
            "or name another place with VENV=/path/to/environment"
        )


def _run(command: list[str]) -> None:
    # An interpreter that may not write byte code would make every start of Airflow take twice as long.
    environ = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}
    if code := subprocess.run(command, env=environ).returncode:
        raise SetupError(
            f"the packages could not be installed (exit code {code}, see above); behind a mirror or proxy, "
            "set PIP_INDEX_URL and UV_DEFAULT_INDEX, then run `make setup` again"
        )


def _digest(requirements: str) -> str:
    return hashlib.sha256(requirements.encode()).hexdigest()


def main() -> int:
    """Make the environment named on the command line unless it is up to date."""
    folder = Path(sys.argv[1]).resolve()
    requirements = ROOT / "requirements.txt"
    if is_current(folder, requirements.read_text()):
        return 0
    began = time.monotonic()
    try:
        make(folder, requirements)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"the environment is ready after {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
