"""What of the stack answers, what runs in production, and what waits: asked now, not remembered."""

import time
from collections.abc import Callable, Iterator

import requests

from embedded import processes
from embedded import stack as stacks
from embedded.addresses import Addresses
from embedded.airflow_client import Airflow
from embedded.environment import TARGETS, Stack
from embedded.lines import WIDTH, filled, with_address
from embedded.parts import Part, parts
from lifecycle.evidence import links
from lifecycle.hooks.slot import Unit, read_status
from lifecycle.task_ids import AWAIT_APPROVAL
from training.use_case import Target

Say = Callable[[str], None]
_BEAT_SECONDS = 60.0
"""Age from which a heartbeat counts for nothing."""
_ASK_SECONDS = 10.0
"""For an answer of Airflow: whoever asks for the status does not wait for minutes."""


def tell(stack: Stack, say: Say = print) -> int:
    """Say how the stack stands; the exit code is 0 where all of it answers, 3 where it is down, 4 otherwise."""
    if not stacks.is_held(stack):
        return _tell_down(stack, say)
    silent = [line for part in parts(stack) for line in _part(part, say)]
    for use_case in (addresses := Addresses(stack)).assigned():
        for target in TARGETS:
            for line in _server(stack, use_case, target, addresses.url(use_case, target) or ""):
                say(line)
    if not addresses.assigned():
        say("nothing is deployed yet: `make demo` takes a model to production")
    if silent:
        say(filled(f"no answer from {', '.join(silent)}:\n`make logs PART=NAME` shows the last lines of each"))
    else:
        for line in _in_airflow(stack):
            say(line)
    say(f"{'sign in to Airflow':<22} {stack.credentials.airflow_user} / {stack.credentials.airflow_password}")
    return 4 if silent else 0


def _tell_down(stack: Stack, say: Say) -> int:
    if left := processes.leftovers(stack.home):
        say(
            f"the stack in {stack.home} has lost its supervisor,\n"
            f"and {len(left)} of its processes go on without it:\n"
            "`make up` ends them and starts again, `make down` ends them"
        )
    else:
        say(f"the stack in {stack.home} is down: `make up` starts it")
    return 3


def _part(part: Part, say: Say) -> Iterator[str]:
    """Say of each thing that a part does whether it answers; yields those that do not."""
    for check in part.checks:
        answers = check.ready(time.time() - _BEAT_SECONDS)
        say(_line(check.name, check.address, "answers" if answers else "DOES NOT ANSWER"))
        if not answers:
            yield check.name


def _server(stack: Stack, use_case: str, target: Target, url: str) -> Iterator[str]:
    """What runs at a target; why it does not answer as it should is a line of its own."""
    from embedded.demo.scoring import Scoring, ScoringError

    name = f"{use_case}, {target}"
    unit: Unit | None = read_status(stack.slot(use_case, target)).stable
    try:
        version = Scoring(url, stack.credentials.api_keys[target]).version()
    except (ScoringError, requests.RequestException) as error:
        yield _line(name, url, "DOES NOT ANSWER")
        yield f"  {error}"
        return
    if version and unit:
        yield _line(name, url, f"version {version}, sha256:{unit.image.rpartition(':')[2][:12]}", f"version {version}")
    else:
        yield _line(name, url, "DOES NOT ANSWER" if unit else "runs nothing")


def _line(name: str, address: str, *said: str) -> str:
    """The line of a part, with the first of what may be said of it that fits; an address without room stands alone."""
    lines = (f"{name:<22} {what}  {address}".rstrip() for what in said)
    return next((line for line in lines if len(line) <= WIDTH), with_address(f"{name:<22} {said[-1]} ", address))


def _in_airflow(stack: Stack) -> Iterator[str]:
    """Gates that wait for an answer, and what starts by itself but is paused."""
    credentials = stack.credentials
    airflow = Airflow(stack.airflow_url, credentials.airflow_user, credentials.airflow_password, patience=_ASK_SECONDS)
    for asking in airflow.questions():
        if asking["task_id"] == AWAIT_APPROVAL:
            gate = links.answer_page(stack.airflow_url, asking["dag_id"], asking["dag_run_id"])
            yield f"a release waits for your answer:\n{gate}"
    paused = [dag for dag in airflow.listed("/dags", "dags", paused="true") if dag["timetable_summary"]]
    if paused:
        yield "paused in Airflow: these start nothing by themselves until you switch them on:"
    for dag in paused:
        yield f"  {dag['dag_id']}: {dag['timetable_description']}"
