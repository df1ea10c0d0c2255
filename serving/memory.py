"""The C library's allocator."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of malloc.h
_KEPT, _LARGE = 32 << 20, 16 << 20


def keep_freed_memory() -> None:
    """Let the process keep up to 32 MiB that it has freed, for the next large request.

    Otherwise glibc returns blocks of a megabyte to the kernel, and every page of them is faulted in anew: a tenth of
    the time of a thousand records. Other C libraries have no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_TRIM_THRESHOLD, _KEPT)
