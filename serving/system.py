"""What Linux has and other systems lack, each with what stands in for it there."""

import os
import tempfile

_MEMORY = "/dev/shm"  # noqa: S108 - files in memory, for what must not wait for a disk


def usable_cpus() -> int:
    """CPUs of this process's affinity mask; all of the machine where there are no masks."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_folder() -> str | None:
    """A folder whose files are in memory; ``None`` where there is none that we may write to."""
    return _MEMORY if os.access(_MEMORY, os.W_OK) else None


def unnamed_file() -> int:
    """The descriptor of a new file that only this process and its forks know; in memory where that is possible."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("scoring", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
