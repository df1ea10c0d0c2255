"""Take the pictures of gate, graph and *Releases* again: ``make pictures``, while `make demo` has a stack up.

Shows a release that waits at its gate, and leaves it there: train with another seed first, and the gate has a
challenger beside the champion. Where none waits, a release of the champion's version is triggered, and rejected
afterwards. Needs the environment of ``requirements-browser.txt`` and a Chromium.
"""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, sync_playwright

from embedded.addresses import Addresses
from embedded.airflow_client import Airflow
from embedded.demo.scoring import Scoring
from embedded.environment import ROOT, Stack
from training.use_case import UseCase, load

IMAGES = Path(__file__).with_name("images")
EXAMPLE = "attrition"
SIZE = {"width": 1280, "height": 900}
FLAT = {"width": 1280, "height": 460}
"""For a graph whose stages stand side by side."""
GATE, REJECT = "await_approval", "Reject"
_HIDE = """([place, other]) => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(place, other);
}"""
"""Where this clone lies says nothing to readers."""
_WITHOUT_MAP = ".react-flow__minimap { display: none }"
"""The small map of the graph would lie on its last stage."""
_GATE_SECONDS = 240.0
"""For build, staging and verification on a busy machine."""
_DRAWN_MS = 3_000.0
"""For the graph to move to its place."""
PAGE_MS = 60_000.0
"""For a page of a server that has just started, or of a machine that is busy."""


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium, without a window."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        sys.exit("no browser was found: install Debian's package chromium")
    with sync_playwright() as playwright:
        # Its sandbox needs what containers and root do not have; it looks at our own pages alone.
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield running
        finally:
            running.close()


def sign_in(page: Page, stack: Stack) -> None:
    """Sign in to Airflow as its administrator."""
    page.set_default_timeout(PAGE_MS)
    page.goto(f"{stack.airflow_url}/auth/login")
    page.fill("input[name=username]", stack.credentials.airflow_user)
    page.fill("input[name=password]", stack.credentials.airflow_password)
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/login" not in url)


def airflow_of(stack: Stack) -> Airflow:
    """Airflow's API; ends the process with what to do where no stack is up."""
    if not (stack.home / "secrets").is_dir():
        sys.exit(f"no stack is up in {stack.home}: call `make demo APPROVE=yes` first")
    return Airflow(stack.airflow_url, stack.credentials.airflow_user, stack.credentials.airflow_password)


@contextmanager
def waiting_gate(airflow: Airflow, stack: Stack, use_case: UseCase) -> Iterator[str]:
    """The run of a release of the champion's version that waits for its answer; rejected at the end."""
    url, key = Addresses(stack).url(use_case.name, "production"), stack.credentials.api_keys["production"]
    version = Scoring(url, key).version() if url else None
    if version is None:
        sys.exit(f"no version of {use_case.name} is in production: call `make demo APPROVE=yes` first")
    run_id = f"pictures__{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}"
    airflow.trigger(use_case.release_dag, run_id, {"version": int(version), "note": "the figures of spring"})
    _await(airflow, use_case, run_id, lambda run, gate: gate == "awaiting_input", "come to its gate")
    try:
        yield run_id
    finally:
        airflow.answer(use_case.release_dag, run_id, GATE, REJECT, "it was asked for a picture")
        _await(airflow, use_case, run_id, lambda run, gate: run == "success", "end")


def gate_to_show(airflow: Airflow, stack: Stack, use_case: UseCase) -> AbstractContextManager[str]:
    """The run of a release that waits for its answer: somebody's, which is left as it is, or one for the pictures."""
    asked = [one["dag_run_id"] for one in airflow.questions(use_case.release_dag) if one["task_id"] == GATE]
    return nullcontext(asked[0]) if asked else waiting_gate(airflow, stack, use_case)


def _await(airflow: Airflow, use_case: UseCase, run_id: str, reached: Callable[[str, str], bool], what: str) -> None:
    """Wait until the states of a run and of its gate are such; ends the process where that takes too long."""
    deadline = time.monotonic() + _GATE_SECONDS
    while True:
        run = airflow.run(use_case.release_dag, run_id)["state"]
        if reached(run, airflow.task(use_case.release_dag, run_id, GATE)["state"]):
            return
        if run == "failed" or time.monotonic() > deadline:
            sys.exit(f"the release {run_id} does not {what}: its run is {run}")
        time.sleep(1)


def gate_page(page: Page, airflow: Airflow, use_case: UseCase, run_id: str) -> None:
    """Open the question of a waiting gate."""
    page.goto(f"{airflow.link(use_case.release_dag, run_id, GATE)}/required_actions")
    page.get_by_role("button", name="Approve").wait_for()


def graph(page: Page, airflow: Airflow, use_case: UseCase, run_id: str) -> Locator:
    """The graph of a release run, as Airflow draws it."""
    page.set_viewport_size(FLAT)
    page.evaluate("localStorage.setItem('default_dag_view', JSON.stringify('graph'))")
    page.goto(airflow.link(use_case.release_dag, run_id))
    page.get_by_role("button", name="Fit View").click()
    page.add_style_tag(content=_WITHOUT_MAP)
    return page.locator(".react-flow")


def main() -> None:
    """Take the pictures."""
    stack, use_case = Stack.read(), load(EXAMPLE)
    airflow = airflow_of(stack)
    with browser() as chromium:
        page = chromium.new_page(viewport=SIZE)
        sign_in(page, stack)
        with gate_to_show(airflow, stack, use_case) as run_id:
            gate_page(page, airflow, use_case, run_id)
            page.evaluate(_HIDE, [str(ROOT), "~/lifecycle"])
            page.screenshot(path=IMAGES / "gate.png")
            drawn = graph(page, airflow, use_case, run_id)
            page.wait_for_timeout(_DRAWN_MS)
            drawn.screenshot(path=IMAGES / "release-graph.png")
            page.set_viewport_size(SIZE)
            page.goto(f"{stack.airflow_url}/lifecycle/releases?use_case={use_case.name}")
            page.get_by_role("table").first.wait_for()
            page.evaluate(_HIDE, [str(ROOT), "~/lifecycle"])
            page.screenshot(path=IMAGES / "model-releases.png", full_page=True)


if __name__ == "__main__":
    main()
