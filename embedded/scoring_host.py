"""The embedded kubelet: keeps what the slots' ``desired.json`` ask for running, and says so in ``status.json``.

It binds the public ports and hands the sockets to the gunicorns that it starts. A release so replaces
another without a moment at which nobody accepts: the new server is ready before the old one is told to
finish. A start that fails leaves the old server alone. A server that dies is started again; requests
wait in the socket's queue meanwhile.

Each use case has a slot for staging and one for production, and gets both when something is asked for in one of them
for the first time. What ran before runs again, even if its definition no longer holds.
"""

import functools
import importlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import psutil

from embedded.addresses import AddressError, Addresses
from embedded.credentials import hashes_file
from embedded.environment import HEARTBEAT_FILE, TARGETS, Stack
from embedded.log_export import Exporter
from embedded.processes import signal_group
from embedded.refusals import Refusals
from embedded.scoring_child import SLOT_MARKER, Child
from embedded.stop_signal import StopSignal
from lifecycle.hooks.slot import DESIRED_FILE, STATUS_FILE, Desired, Status, Unit, read_status
from training import use_case as use_cases
from training.use_case import Target, UseCase, UseCaseError

READY_SECONDS = 60.0
_POLL = 0.1
_LOOK = 0.5
"""Seconds between two looks for use cases that have come."""
_BACKOFF = (0.0, 1.0, 2.0, 5.0, 10.0)
"""Seconds to wait before a server that died is started again: the first time, the second and so on."""
_LEFTOVER_SECONDS = 10.0

log = logging.getLogger("scoring_host")

_State = Literal["progressing", "complete", "failed"]


class SlotHost:
    """One slot: a public port, a stable server, and a canary beside it."""

    def __init__(self, folder: Path, *, port: int, keys: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._name = f"{folder.parent.name}-{folder.name}"
        self._port = port
        self._keys = keys
        self._env = env
        self._stop = threading.Event()
        self._status = Status()
        self._children: dict[str, Child | None] = {"stable": None, "canary": None}
        self._deaths = {"stable": 0, "canary": 0}
        self._started = 0
        self._refusals = Refusals(log, f"{self._name}: what is asked for waits, and what runs goes on")
        folder.mkdir(parents=True, exist_ok=True)
        self._public = self._bind()

    def run(self) -> None:
        """Work until ``stop`` is called; then end the servers."""
        strays = _strays(self._folder)
        try:
            self._resume()
            _end(strays)  # of a host that was killed: they have answered until now
            while not self._stop.is_set():
                self._look()
                self._stop.wait(_POLL)
        finally:
            for child in self._children.values():
                if child:
                    child.drain()
            self.close()

    def _look(self) -> None:
        """Bring about what is asked for, and start again what has died. A full disk ends nothing that runs."""
        with self._refusals.told():
            desired = self._desired()
            if desired.generation != self._status.generation:
                self._apply(desired)
            self._revive()

    def stop(self) -> None:
        self._stop.set()

    def close(self) -> None:
        """Give the public port back."""
        self._public.close()

    def live_names(self) -> set[str]:
        """Names of the servers whose output may still grow."""
        return {child.name for child in self._children.values() if child}

    def _resume(self) -> None:
        """Run again what the host before this one ran.

        Before anything that is asked for: it may be what failed then, or what was under way.
        """
        before = read_status(self._folder)
        for role, running in (("stable", before.stable), ("canary", before.canary)):
            if running and running.folder.is_dir():
                self._children[role] = child = self._launch(role, running.unit)
                if fault := child.await_ready(READY_SECONDS, self._stop.is_set):
                    log.warning("%s: %s version %s: %s", self._name, role, running.version, fault)
        if before.state != "progressing":
            self._status = before
            self._report(before.state, before.message, list(before.log_tail))

    def _bind(self) -> socket.socket:
        """The public socket: bound, so that nobody else takes the port, and refusing until a server listens.

        SO_REUSEPORT lets the next host bind while the servers of a killed one still answer on theirs. Linux shows
        connections to those alone until ours listen; macOS may refuse some meanwhile.
        """
        public = socket.socket()
        public.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        public.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        public.bind(("127.0.0.1", self._port))
        return public

    def _desired(self) -> Desired:
        try:
            return _read_desired(self._folder)
        except msgspec.MsgspecError as error:
            if self._status.message != (message := f"{DESIRED_FILE} is not usable: {error}"):
                self._report("failed", message)
            return Desired(generation=self._status.generation)

    def _apply(self, desired: Desired) -> None:
        """Bring the slot to what is asked for: new servers ready first, then the old ones drained.

        Where the disk refuses a file on the way, ``OSError`` is raised, and the next look begins again.
        """
        before, fresh = self._status, dict[str, Child | None]()
        try:
            self._status = Status(generation=desired.generation)
            self._report("progressing", "starting")
            self._replace(desired, fresh)
        except OSError:
            self._status = before
            self._discard(fresh)
            raise

    def _replace(self, desired: Desired, fresh: dict[str, Child | None]) -> None:
        """Start what is to run, into ``fresh``, and end what is not."""
        for role, unit in (("stable", desired.stable), ("canary", desired.canary)):
            current = self._children[role]
            if unit is None or (current and current.unit == unit and current.exit_code() is None):
                fresh[role] = current if unit else None
                continue
            if not unit.folder.is_dir():
                self._discard(fresh)
                return self._report("failed", f"{role} version {unit.version}: there is no image {unit.folder}")
            fresh[role] = child = self._launch(role, unit)
            if fault := child.await_ready(READY_SECONDS, lambda: self._outdated(desired)):
                self._discard(fresh)
                return self._report("failed", f"{role} version {unit.version}: {fault}", child.log_tail())
        retired = [child for role, child in self._children.items() if child and child is not fresh[role]]
        self._children, self._deaths = fresh, {"stable": 0, "canary": 0}
        for child in retired:
            child.drain()
        if retired and not any(fresh.values()):
            self._public.close()  # nothing is to answer here: refuse instead of letting callers wait
            self._public = self._bind()
        return self._report("complete", "")

    def _outdated(self, desired: Desired) -> bool:
        return self._stop.is_set() or self._desired().generation != desired.generation

    def _launch(self, role: str, unit: Unit) -> Child:
        self._started += 1
        name = f"scoring-{self._name.replace('_', '-')}-{role}-{os.getpid()}-{self._started}"
        log.info("%s: starting version %s from %s", name, unit.version, unit.image)
        return Child(name=name, unit=unit, slot=self._folder, public=self._public, keys=self._keys, env=self._env)

    def _discard(self, fresh: dict[str, Child | None]) -> None:
        """End servers that were started for a change that does not come about, and forget them."""
        kept = self._children.values()
        for role in [role for role, child in fresh.items() if child not in kept]:
            if child := fresh.pop(role):
                child.drain()

    def _revive(self) -> None:
        """Start again what has died; what was asked for stays asked for."""
        for role, child in self._children.items():
            if child is None or (code := child.exit_code()) is None:
                continue
            deaths = self._deaths[role]
            self._deaths[role] += 1
            log.warning("%s ended with code %s, for the %d. time", child.name, code, deaths + 1)
            child.kill()  # its workers may outlive it
            if self._stop.wait(_BACKOFF[min(deaths, len(_BACKOFF) - 1)]):
                return
            self._children[role] = again = self._launch(role, child.unit)
            wanted = Desired(generation=self._status.generation)
            fault = again.await_ready(READY_SECONDS, functools.partial(self._outdated, wanted))
            message = f"{role} ended with code {code} and was started again"
            self._report(self._status.state, f"{message}: {fault}" if fault else message)

    def _report(self, state: _State, message: str, log_tail: list[str] | None = None) -> None:
        running = {role: child.running if child else None for role, child in self._children.items()}
        self._status = Status(
            generation=self._status.generation,
            state=state,
            message=message,
            log_tail=tuple(log_tail or ()),
            address=f"http://127.0.0.1:{self._port}",
            **running,
        )
        _write_status(self._folder, self._status)


class Host:
    """All slots of a stack. ``look`` takes up the use cases for which something is asked."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._addresses = Addresses(stack)
        self._definitions: dict[str, UseCase] = {}
        self._faults: dict[str, str] = {}
        """What was last wrong with a use case, so that it is told once."""
        self._hosted: set[str] = set()
        self._slots: list[SlotHost] = []
        self._threads: list[threading.Thread] = []

    def look(self) -> None:
        """Take up what has come since the last look."""
        asked = {path.parent.parent.name for path in self._stack.slots.glob(f"*/*/{DESIRED_FILE}")}
        for name in sorted(asked | self._addresses.assigned().keys()):
            if name not in self._definitions or name not in self._hosted:
                self._take_up(name)

    def works(self) -> bool:
        """Whether every slot is still looked after."""
        return all(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """End all servers; blocks."""
        for slot in self._slots:
            slot.stop()
        for thread in self._threads:
            thread.join()

    def live_names(self) -> set[str]:
        """Names of the servers whose output may still grow."""
        return {name for slot in self._slots for name in slot.live_names()}

    def namespace(self, use_case: str, target: Target) -> str | None:
        """Namespace of a slot's log lines; ``None`` as long as the use case's definition does not hold."""
        definition = self._definitions.get(use_case)
        return definition.namespace(target) if definition else None

    def _take_up(self, name: str) -> None:
        fault = self._define(name)
        if name in self._hosted:
            return
        definition = self._definitions.get(name)
        if definition and not definition.online:
            self._refuse(name, f"use case {name} has online=False: no server answers for it")
        elif definition or name in self._addresses.assigned():
            self._open(name)
        else:
            self._refuse(name, fault)

    def _define(self, name: str) -> str:
        """Load a definition; returns what is wrong with it, or nothing."""
        if name in self._definitions:
            return ""
        importlib.invalidate_caches()  # its folder may be younger than this process
        try:
            self._definitions[name] = use_cases.load(name)
        except UseCaseError as error:
            _forget(name)
            self._tell(name, str(error))
            return str(error)
        return ""

    def _tell(self, name: str, fault: str) -> None:
        if self._faults.get(name) != fault:
            self._faults[name] = fault
            log.warning("%s", fault)

    def _open(self, name: str) -> None:
        """Bind both public ports and look after both slots."""
        opened: list[SlotHost] = []
        try:
            for target, port in self._addresses.assign(name).items():
                keys = hashes_file(self._stack.home / "secrets", target)
                folder = self._stack.slot(name, target)
                opened.append(SlotHost(folder, port=port, keys=keys, env=self._stack.scoring_environment()))
        except (AddressError, OSError) as error:
            for slot in opened:
                slot.close()
            fault = f"use case {name} gets no address: {error}"
            self._tell(name, fault)
            return self._refuse(name, fault)
        self._hosted.add(name)
        self._slots += opened
        for slot in opened:
            thread = threading.Thread(target=slot.run)
            thread.start()
            self._threads.append(thread)
        return None

    def _refuse(self, name: str, reason: str) -> None:
        """Answer what is asked for in a use case's slots by a reason why it is not done."""
        for target in TARGETS:
            folder = self._stack.slot(name, target)
            try:
                generation = _read_desired(folder).generation
            except msgspec.MsgspecError:
                continue  # without a generation nobody waits for an answer
            if generation != read_status(folder).generation:
                _write_status(folder, Status(generation=generation, state="failed", message=reason))


def _forget(name: str) -> None:
    """Let the next import of a definition read its files again: it may be mended by then."""
    package = f"use_cases.{name}"
    for module in [module for module in sys.modules if module == package or module.startswith(f"{package}.")]:
        del sys.modules[module]


def _read_desired(folder: Path) -> Desired:
    try:
        return msgspec.json.decode((folder / DESIRED_FILE).read_bytes(), type=Desired)
    except FileNotFoundError:
        return Desired(generation="")


def _write_status(folder: Path, status: Status) -> None:
    path = folder / STATUS_FILE
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(status))
    part.replace(path)
    slot = f"{folder.parent.name}-{folder.name}"
    log.info("%s: generation %s is %s %s", slot, status.generation, status.state, status.message)


def _strays(folder: Path) -> list[psutil.Process]:
    """Scoring servers of this slot that an earlier host started: the leaders, in whose groups workers are."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(SLOT_MARKER) == str(folder) and os.getpgid(process.pid) == process.pid:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess, ProcessLookupError):
            continue
    return found


def _end(strays: list[psutil.Process]) -> None:
    for process in strays:
        log.info("ending server %d of an earlier host", process.pid)
        process.terminate()
    psutil.wait_procs(strays, timeout=_LEFTOVER_SECONDS)
    for process in strays:
        signal_group(process.pid, signal.SIGKILL)


def beat(host: Host, stack: Stack, refusals: Refusals) -> None:
    """Look for what has come, and leave a sign of life."""
    with refusals.told():
        host.look()
        (stack.slots / HEARTBEAT_FILE).touch()


def main() -> int:
    """Host all slots and export their output, until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    stack = Stack.read()
    stop = StopSignal()
    stop.listen(signal.SIGINT, signal.SIGTERM)
    host = Host(stack)
    exporter = Exporter(stack.slots, stack.home / "exports", live_names=host.live_names, namespace=host.namespace)
    exporting = threading.Thread(target=exporter.run)
    exporting.start()
    refusals = Refusals(log, "the servers that run go on, and nothing new is taken up")
    try:
        while not stop.given:
            beat(host, stack, refusals)
            stop.wait(_LOOK)
            if not (host.works() and exporting.is_alive()):
                return 1
    finally:
        host.stop()
        exporter.stop()  # last, so that it takes what the servers wrote while they stopped
        exporting.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
