"""What Linux has and other systems lack, each with what stands in for it there."""

import ctypes
import os
import resource
import tempfile

_M_ARENA_MAX = -8  # glibc, malloc.h
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


def most_connections(wanted: int, spare: int = 100) -> int:
    """How many connections this process may have open, at most ``wanted``; ``spare`` descriptors are for all else."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if allowed == resource.RLIM_INFINITY else max(1, min(wanted, allowed - spare))


def limit_malloc_arenas(count: int) -> None:
    """Let glibc take memory from so many arenas: one for each thread keeps several times of what is in use."""
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_ARENA_MAX, count)
