"""Makes Linux look like a system that is not Linux to every Python that has this folder on PYTHONPATH.

What macOS lacks in Python's modules is taken away, /proc, /sys and /dev/shm are not there, and sockets refuse
what is Linux's own. What libraries in C ask the kernel for stays.
"""

import errno
import os
import sys
from importlib import import_module

# In this order, for socket imports selectors, which looks for epoll.
_LINUX_ONLY = {
    "select": "epoll",
    "os": "memfd_create sched_getaffinity sched_setaffinity pidfd_open pipe2 eventfd splice copy_file_range "
    "posix_fallocate posix_fadvise getrandom getxattr fdatasync getresuid setresuid O_TMPFILE O_PATH O_DIRECT",
    "fcntl": "F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_OFD_SETLK F_NOTIFY",
    "resource": "prlimit",
    "signal": "pidfd_send_signal sigtimedwait sigwaitinfo SIGRTMIN SIGPWR",
    "socket": "SO_PEERCRED SO_PASSCRED SO_BINDTODEVICE SOCK_CLOEXEC SOCK_NONBLOCK TCP_CORK TCP_QUICKACK",
}
_SO_ATTACH_FILTER = 26
_ABSENT = ("/proc", "/sys", "/dev/shm")


def _missing(path: object) -> bool:
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    text = os.fsdecode(path)
    return text in _ABSENT or text.startswith(tuple(f"{folder}/" for folder in _ABSENT))


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("open", "os.listdir", "os.scandir") and arguments and _missing(arguments[0]):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), arguments[0])


def _without_absent_paths(name: str) -> None:
    """For the functions of ``os`` that no audit event tells of."""
    real = getattr(os, name)

    def function(path, *arguments, **named):
        if _missing(path):
            if name == "access":
                return False
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return real(path, *arguments, **named)

    setattr(os, name, function)
    for names in (os.supports_fd, os.supports_dir_fd, os.supports_follow_symlinks, os.supports_effective_ids):
        if real in names:
            names.add(function)


for module, names in _LINUX_ONLY.items():
    for name in names.split():
        if hasattr(import_module(module), name):
            delattr(import_module(module), name)
for name in ("access", "readlink", "stat", "lstat"):
    _without_absent_paths(name)

import socket  # noqa: E402 - after epoll has gone


def _setsockopt(self, level, option, *value):
    if (level, option) == (socket.SOL_SOCKET, _SO_ATTACH_FILTER):
        raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
    return super(socket.socket, self).setsockopt(level, option, *value)


socket.socket.setsockopt = _setsockopt
sys.addaudithook(_refuse)
