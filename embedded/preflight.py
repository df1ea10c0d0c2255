"""What must be right before the stack starts; each fault is one line that says what to do."""

import json
import shutil
import sys
from pathlib import Path

import psutil

from embedded.addresses import Addresses, is_free
from embedded.environment import Stack, port_setting
from lifecycle.approval_keys import write_private

MIN_DISK_MIB = 2048
MIN_MEMORY_MIB = 2500
"""The stack with a training run needs about this much."""


class PreflightError(RuntimeError):
    """Raised when the stack cannot start here; the message has one line for each reason."""


def check(stack: Stack) -> None:
    """Raise ``PreflightError`` with all that keeps the stack from starting."""
    faults = [*_python(), *_ports(stack), *_disk(stack.home), *_memory()]
    if faults:
        raise PreflightError("\n".join(faults))


def _python() -> list[str]:
    if sys.version_info[:2] == (3, 11):
        return []
    return [f"Python 3.11 is needed, this is {sys.version.split()[0]}: run `make setup PYTHON=python3.11`"]


def _ports(stack: Stack) -> list[str]:
    faults = [
        f"port {port} is in use by another program: stop that, or set {port_setting(name)} to a free port"
        for name, port in vars(stack.ports).items()
        if not is_free(port)
    ]
    addresses = Addresses(stack)
    settings = {port: port_setting(name) for name, port in vars(stack.ports).items()}
    for use_case, pair in addresses.further().items():
        for target, port in pair.items():
            whose = f"port {port}, the address of {use_case} in {target}, "
            if port in settings:
                faults.append(f"{whose}is {settings[port]} too: set that to another port")
            elif not is_free(port):
                faults.append(
                    f"{whose}is in use by another program: stop that, or delete the entry of {use_case} in "
                    f"{addresses.file}, so that it gets another address"
                )
    return faults


def _disk(home: Path) -> list[str]:
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(place).free // 2**20
    if free >= MIN_DISK_MIB:
        return []
    return [
        f"{free} MiB of disk are free at {place}, {MIN_DISK_MIB} are needed: "
        "make room, or set LIFECYCLE_HOME to a folder on another disk"
    ]


def _memory() -> list[str]:
    free = psutil.virtual_memory().available // 2**20
    if free >= MIN_MEMORY_MIB:
        return []
    return [f"{free} MiB of memory are available, {MIN_MEMORY_MIB} are needed: close other programs"]


def prepare_folders(stack: Stack) -> None:
    """Make the folders and files that the parts expect."""
    for name in ("airflow", "data", "exports", "images", "logs", "minilake", "mlflow/artifacts", "run"):
        (stack.home / name).mkdir(parents=True, exist_ok=True)
    credentials = stack.credentials
    passwords = {credentials.airflow_user: credentials.airflow_password}
    write_private(stack.home / "airflow" / "passwords.json", json.dumps(passwords))
