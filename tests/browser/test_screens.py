"""What people see of a stack that is up, in a real browser: `make demo APPROVE=yes`, then `make test-browser`."""

import os
from pathlib import Path

import pytest

from embedded.addresses import Addresses
from embedded.environment import Stack
from tests.support import names
from training.use_case import load

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
USE_CASE = load("attrition")
HEIGHT, WIDTH = 900, 1280
GATE_TEXT = 600
"""Pixels that the text on the gate may take, so that its buttons are seen without scrolling."""
CONTRAST = 4.5
"""Of text to what is behind it, as WCAG 2.2 wants it (level AA)."""
ASKED = {
    USE_CASE.rollback_dag: {"reason": "too many complaints"},
    load("demand").rollback_dag: {"reason": "too many complaints"},
    USE_CASE.stop_dag: {"reason": "wrong data"},
    USE_CASE.resume_dag: {"reason": "the data is right again"},
}
"""What a person has to fill in, by DAG: everything else may stay as it is."""
WITHOUT_FORM = {found.arrivals_dag for found in (USE_CASE, load("demand"))}
FORMS = sorted((names.dags(USE_CASE) | names.dags(load("demand"))) - WITHOUT_FORM)
FAINT = """() => {
  const channel = value => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([red, green, blue]) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const found = parts(getComputedStyle(one).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const shades = [light(parts(element.closest("svg") ? style.fill : style.color)), light(behind(element))];
    const ratio = (Math.max(...shades) + 0.05) / (Math.min(...shades) + 0.05);
    if (ratio < LEAST) found.push(`${ratio.toFixed(2)}: ${texts.currentNode.data.trim().slice(0, 40)}`);
  }
  return found;
}""".replace("LEAST", str(CONTRAST))
"""Texts of a page that are hard to tell from what is behind them."""
CUT = """() => [...document.querySelectorAll(".scroll")]
  .filter(one => one.scrollWidth > one.clientWidth).map(one => one.innerText.slice(0, 60))"""
"""Tables that are wider than their place."""


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
def gate(airflow, stack):
    """The run of a release that waits at its gate."""
    from docs.pictures import waiting_gate

    with waiting_gate(airflow, stack, USE_CASE) as run_id:
        yield run_id


@pytest.mark.parametrize("dag", FORMS)
def test_form_can_be_sent_with_what_it_asks_for(page, stack, dag):
    from playwright.sync_api import expect

    page.goto(f"{stack.airflow_url}/dags/{dag}")
    page.get_by_role("button", name="Trigger").first.click()
    form = page.get_by_role("dialog")
    send = form.get_by_role("button", name="Trigger").last
    expect(form.get_by_text("Run Parameters")).to_be_visible()
    for name, text in ASKED.get(dag, {}).items():
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


def test_text_on_the_gate_is_short(page, airflow, gate):
    from docs.pictures import gate_page

    gate_page(page, airflow, USE_CASE, gate)
    top = page.get_by_text("asks to").first.bounding_box()["y"]
    note = page.get_by_text("the figures of spring").first.bounding_box()
    assert note["y"] + note["height"] - top <= GATE_TEXT


@pytest.fixture(params=["light", "dark"])
def themed(request, page):
    """The page of somebody who has chosen a theme in Airflow."""
    page.evaluate("theme => localStorage.setItem('theme', theme)", request.param)
    yield page
    page.evaluate("localStorage.removeItem('theme')")


@pytest.mark.parametrize("which", ["releases", "evidence", "glossary"])
def test_page_can_be_read_and_fits_its_window(themed, stack, gate, which):
    themed.goto(f"{stack.airflow_url}/lifecycle/{'glossary' if which == 'glossary' else 'releases'}")
    if which == "releases":
        assert gate in themed.content(), "the release that waits for an answer"
    if which == "evidence":
        themed.goto(themed.get_by_role("link", name="All of the evidence").first.get_attribute("href"))
    themed.get_by_role("heading").first.wait_for()
    assert themed.evaluate("document.documentElement.scrollWidth") <= WIDTH
    assert themed.evaluate(CUT) == []
    assert themed.evaluate(FAINT) == []


def test_airflow_shows_the_page_in_its_own_theme(themed, stack):
    themed.goto(stack.airflow_url)
    themed.get_by_text("Releases").first.click()
    frame = themed.frame_locator("iframe")
    frame.get_by_role("heading", name="Releases").first.wait_for()
    assert frame.locator("html").get_attribute("data-theme") == themed.evaluate("localStorage.getItem('theme')")


def test_api_page_answers_its_own_example(chromium, stack):
    from playwright.sync_api import expect

    page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.goto(f"{Addresses(stack).url(USE_CASE.name, 'production')}/")
    call = page.locator(".opblock-summary", has_text="Score records")
    call.wait_for()
    box = call.bounding_box()
    assert box["y"] + box["height"] <= HEIGHT, "the form is seen without scrolling past the examples"
    page.get_by_role("button", name="Authorize").first.click()
    window = page.locator(".modal-ux")
    window.locator("input").fill(stack.credentials.api_keys["production"])
    window.locator("button.authorize").click()
    window.locator("button.btn-done").click()
    call.click()
    assert "additionalProp1" not in page.content()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .response-col_status").last).to_contain_text("200")


def test_links_to_mlflow_open_the_run_that_they_name(page, stack):
    page.goto(f"{stack.airflow_url}/lifecycle/releases")
    links = page.eval_on_selector_all("a", "all => all.map(one => one.href)")
    runs = [
        link for link in links if link.startswith(f"{stack.mlflow_url}/#/experiments/") and "/artifacts" not in link
    ]
    assert runs
    page.goto(runs[0])
    page.get_by_text(runs[0].rpartition("/")[2].partition("?")[0]).first.wait_for()
