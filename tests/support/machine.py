"""Loopback ports that nobody uses, and processes that are still there."""

import socket
import time
from collections.abc import Callable

import psutil

from embedded.environment import Ports, port_setting


def free_ports(count: int) -> list[int]:
    """Different ports, all free at this moment."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def free_port() -> int:
    """A port that is free at this moment."""
    return free_ports(1)[0]


def own_ports() -> dict[str, str]:
    """Settings that give a stack ports which nobody else has."""
    names = list(Ports.__dataclass_fields__)
    return {port_setting(name): str(port) for name, port in zip(names, free_ports(len(names)), strict=True)}


def runs(pid: int) -> bool:
    """Whether a process still runs; one that has ended and waits for its parent does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(condition: Callable[[], object], seconds: float = 20) -> bool:
    """Whether a condition becomes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
