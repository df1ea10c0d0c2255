"""The steps of a release against the scoring host of this machine: the same order and checks as in a cluster."""

import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import requests

from lifecycle import settings
from lifecycle.hooks.slot import Desired, Running, Slot, SlotError, Unit
from lifecycle.image_reference import ImageReference
from lifecycle.operators.steps import SWITCH_SECONDS, StepError, Work, verify_arguments
from training.registry.content import content_digest

log = logging.getLogger(__name__)

_POLL_SECONDS, _ANSWER_SECONDS = 0.2, 3.0
_ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
"""The client sees nothing of Airflow's environment."""


class LocalSteps:
    """One step on one slot. ``work.key`` names the wish, so that a second try finds the first one's."""

    def __init__(self, slot: Slot, work: Work) -> None:
        self._slot = slot
        self._work = work
        self._client: subprocess.Popen[str] | None = None
        # A wish for another image is another wish, even of the same task.
        self._generation = f"{work.key}-{work.image.digest[-12:] if work.image else 'nothing'}"
        self._timeout = settings.load().release.rollout_timeout

    def run(self) -> dict[str, Any]:
        """Do the step and return its report; a failed change is undone, then ``StepError`` is raised."""
        steps: dict[str, Callable[[], dict[str, Any]]] = {
            "deploy": self._deploy,
            "canary": self._canary,
            "watch": self._watch,
            "verify": self._verify,
            "restore": self._restore,
            "stop": self._switch,
            "resume": self._switch,
        }
        return steps[self._work.step]()

    def stop(self) -> None:
        """End the verification client, if one runs."""
        if self._client is not None:
            self._client.terminate()

    def _unit(self) -> Unit:
        image = self._image()
        folder = Path(image.place)
        if not folder.is_dir():
            raise StepError(f"there is no image {folder}: run the build again")
        if (found := content_digest(folder)) != image.digest:
            raise StepError(f"the image {folder} has digest {found}, not {image.digest}: it is not deployed")
        return Unit(image=str(image), version=self._work.version)

    def _image(self) -> ImageReference:
        if (image := self._work.image) is None:
            raise StepError(f"{self._work.step} needs an image: run the build again")
        return image

    def _deploy(self) -> dict[str, Any]:
        before = self._slot.status()
        previous = before.stable.unit if before.stable else None
        unit = self._unit()
        running = self._change(
            Desired(self._generation, stable=unit), undo=Desired(f"{self._generation}-undo", previous)
        )
        return {**_report(running.stable), "previous": _plain(previous)}

    def _canary(self) -> dict[str, Any]:
        before = self._slot.status()
        stable = before.stable.unit if before.stable else None
        undo = Desired(f"{self._generation}-undo", stable)
        running = self._change(Desired(self._generation, stable, canary=self._unit()), undo=undo)
        return {**_report(running.canary), "beside": _plain(stable)}

    def _restore(self) -> dict[str, Any]:
        unit = self._unit() if self._work.image else None
        try:
            running = self._slot.ask(Desired(self._generation, stable=unit), timeout=self._timeout)
        except SlotError as error:
            raise StepError(str(error)) from error
        return _report(running.stable) if unit else {"image": "", "version": "", "since": ""}

    def _switch(self) -> dict[str, Any]:
        """Write the slot's stop file or take it away, and wait until every server has seen it."""
        stop = self._work.step == "stop"
        self._slot.set_stop(self._work.said if stop else None)
        deadline = time.monotonic() + SWITCH_SECONDS
        while left := [running.url for running in self._running() if _is_stopped(running) is not stop]:
            if time.monotonic() > deadline:
                raise StepError(f"after {SWITCH_SECONDS} s these servers have not taken it up: {', '.join(left)}")
            time.sleep(_POLL_SECONDS)
        return {"step": self._work.step, "said": self._work.said}

    def _running(self) -> list[Running]:
        status = self._slot.status()
        return [running for running in (status.stable, status.canary) if running]

    def _change(self, desired: Desired, undo: Desired) -> Any:
        """Ask for something else; what ran before is back when this raises."""
        try:
            return self._slot.ask(desired, timeout=self._timeout)
        except SlotError as error:
            try:
                self._slot.ask(undo, timeout=self._timeout)
            except SlotError as again:
                raise StepError(f"{error}\nand what ran before could not be restored: {again}") from error
            raise StepError(f"{error}\nwhat ran before runs again") from error

    def _verify(self) -> dict[str, Any]:
        return self._ask_client(self._slot.url, lambda: self._slot.status().stable)

    def _watch(self) -> dict[str, Any]:
        canary = self._slot.status().canary
        if canary is None:
            raise StepError("there is no canary to watch: run the canary step first")
        return self._ask_client(canary.url, lambda: self._slot.status().canary)

    def _ask_client(self, url: str, running: Callable[[], Running | None]) -> dict[str, Any]:
        """Run the image's own verification client; the server must stay the same process meanwhile."""
        folder = self._image().place
        before = running()
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "report.json"
            self._client = subprocess.Popen(
                [sys.executable, "-B", *verify_arguments(self._work, url, Path("bundle"), path)],
                cwd=folder,
                env={
                    **_ENVIRONMENT,
                    "PYTHONPATH": folder,
                    "LIFECYCLE_API_KEY": self._slot.key,
                    "TRACEPARENT": self._work.trace_parent,
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            output, _ = self._client.communicate()
            log.info("%s", output.strip())
            if not path.exists():
                raise StepError(f"the verification client stopped without a report:\n{output[-3000:]}")
            report: dict[str, Any] = msgspec.json.decode(path.read_bytes())
        after = running()
        same = before is not None and after is not None and before.pid == after.pid
        seen = f"process {before and before.pid} before, {after and after.pid} after"
        report["checks"].append({"name": "no restart", "passed": same, "detail": seen})
        report["passed"] = report["passed"] and same
        return report


def _is_stopped(running: Running) -> bool | None:
    """What a server says of itself; ``None`` where it does not answer, or knows no stop switch."""
    try:
        said = requests.get(f"{running.url}/version", timeout=_ANSWER_SECONDS).json()
    except requests.RequestException as error:
        log.info("%s does not answer: %s", running.url, error)
        return None
    return said["stopped"] is not None if "stopped" in said else None


def _plain(unit: Unit | None) -> dict[str, str] | None:
    return msgspec.to_builtins(unit) if unit else None


def _report(running: Running | None) -> dict[str, Any]:
    if running is None:
        raise StepError("the scoring host says it is done, but what was asked for does not run")
    return {"image": running.image, "version": running.version, "since": running.since}
