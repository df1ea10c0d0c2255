"""What differs between the walk in the cloud and the one on this machine."""

from collections.abc import Iterator
from typing import Any

import msgspec

from delivery.smoke.walk import Ran, Record

TOLERANCE = 0.005
"""For figures: the same seed and data give the same model, up to how another processor rounds."""
_ONLY_THERE = {"try_image": "the settings of the environment try an image on Container Instances first"}
"""Tasks that one side alone has, by design."""


class Difference(msgspec.Struct, frozen=True):
    """One thing that is not the same."""

    run: str
    what: str
    here: str
    there: str


def differences(here: Record, there: Record) -> list[Difference]:
    """All of them, run by run. A release that only one side needed, for a way back, is not one."""
    return [
        found for name in _compared(here, there) for found in _of_run(name, here.runs.get(name), there.runs.get(name))
    ]


def _compared(here: Record, there: Record) -> list[str]:
    return [name for name in {**here.runs, **there.runs} if not name.endswith(" before")]


def _of_run(name: str, here: Ran | None, there: Ran | None) -> Iterator[Difference]:
    if here is None or there is None:
        yield Difference(name, "run", here.state if here else "missing", there.state if there else "missing")
        return
    if here.state != there.state:
        yield Difference(name, "state", here.state, there.state)
    for task in {**here.tasks, **there.tasks}:
        states = here.tasks.get(task, "missing"), there.tasks.get(task, "missing")
        if states[0] != states[1] and not (task in _ONLY_THERE and states == ("missing", "success")):
            yield Difference(name, f"task {task}", *states)
    for fact in {**here.facts, **there.facts}:
        yield from _of_fact(name, fact, here.facts.get(fact), there.facts.get(fact))


def _of_fact(name: str, fact: str, here: Any, there: Any) -> Iterator[Difference]:
    if isinstance(here, dict) and isinstance(there, dict):
        for member in {**here, **there}:
            yield from _of_fact(name, f"{fact}, {member}", here.get(member), there.get(member))
    elif not _same(here, there):
        yield Difference(name, fact, _told(here), _told(there))


def _same(here: Any, there: Any) -> bool:
    if isinstance(here, float) and isinstance(there, float):
        return abs(here - there) <= TOLERANCE
    return bool(here == there)


def _told(value: Any) -> str:
    return "missing" if value is None else str(value)
