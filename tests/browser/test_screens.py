"""What people see of a stack that is up, in a real browser: `make demo APPROVE=yes`, then `make test-browser`."""

import os
from pathlib import Path

import pytest

from embedded.addresses import Addresses
from embedded.environment import Stack
from training.use_case import load

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
USE_CASE = load("attrition")
HEIGHT, WIDTH = 900, 1280
FORMS = {
    USE_CASE.train_dag: {},
    USE_CASE.release_dag: {},
    USE_CASE.retrain_dag: {},
    USE_CASE.score_dag: {},
    USE_CASE.rollback_dag: {"reason": "too many complaints"},
    USE_CASE.stop_dag: {"reason": "wrong data"},
    USE_CASE.resume_dag: {"reason": "the data is right again"},
}
"""What a person has to fill in, by DAG: everything else may stay as it is."""


@pytest.fixture(scope="module")
def stack():
    return Stack.read(os.environ | {"LIFECYCLE_HOME": str(Path(os.environ["BROWSER_HOME"]).resolve())})


@pytest.fixture(scope="module")
def airflow(stack):
    from docs.pictures import airflow_of

    return airflow_of(stack)


@pytest.fixture(scope="module")
def chromium():
    from docs.pictures import browser

    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def page(chromium, stack):
    """A page of somebody who is signed in."""
    from playwright.sync_api import expect

    from docs.pictures import PAGE_MS, SIZE, sign_in

    expect.set_options(timeout=PAGE_MS)
    opened = chromium.new_page(viewport=SIZE)
    sign_in(opened, stack)
    return opened


@pytest.fixture(scope="module")
def gate(airflow):
    """The run of a release that waits at its gate."""
    from docs.pictures import waiting_gate

    with waiting_gate(airflow, USE_CASE) as run_id:
        yield run_id


@pytest.mark.parametrize("dag", FORMS)
def test_form_can_be_sent_with_what_it_asks_for(page, stack, dag):
    from playwright.sync_api import expect

    page.goto(f"{stack.airflow_url}/dags/{dag}")
    page.get_by_role("button", name="Trigger").first.click()
    form = page.get_by_role("dialog")
    send = form.get_by_role("button", name="Trigger").last
    expect(form.get_by_text("Run Parameters")).to_be_visible()
    for name, text in FORMS[dag].items():
        expect(send).to_be_disabled()
        form.locator(f"#element_{name}").fill(text)
    expect(send).to_be_enabled()


def test_gate_can_be_answered_without_scrolling(page, airflow, gate):
    from docs.pictures import gate_page

    gate_page(page, airflow, USE_CASE, gate)
    for answer in ("Approve", "Reject"):
        box = page.get_by_role("button", name=answer).bounding_box()
        assert box["y"] + box["height"] <= HEIGHT, answer
        assert box["x"] + box["width"] <= WIDTH, answer


def test_page_of_releases_fits_its_window(page, stack, gate):
    page.goto(f"{stack.airflow_url}/lifecycle/releases")
    page.get_by_role("table").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTH
    assert gate in page.content(), "the release that waits for an answer"


def test_api_page_answers_its_own_example(chromium, stack):
    page = chromium.new_page()
    page.goto(f"{Addresses(stack).url(USE_CASE.name, 'production')}/")
    page.get_by_text("/predict").first.wait_for()
    assert "additionalProp1" not in page.content()


def test_links_to_mlflow_open_the_run_that_they_name(page, stack):
    page.goto(f"{stack.airflow_url}/lifecycle/releases")
    links = page.eval_on_selector_all("a", "all => all.map(one => one.href)")
    runs = [
        link for link in links if link.startswith(f"{stack.mlflow_url}/#/experiments/") and "/artifacts" not in link
    ]
    assert runs
    page.goto(runs[0])
    page.get_by_text(runs[0].rpartition("/")[2].partition("?")[0]).first.wait_for()
