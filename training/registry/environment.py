"""What a run was made with, for the record."""

import importlib.metadata
import platform


def describe_environment() -> str:
    """Python, machine and every installed package, a line each."""
    packages = sorted(
        {f"{found.metadata['Name']}=={found.version}" for found in importlib.metadata.distributions()},
        key=str.lower,
    )
    system = [f"python {platform.python_version()}", f"{platform.system()} {platform.machine()}"]
    return "\n".join([*system, *packages]) + "\n"
