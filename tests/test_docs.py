"""The documentation: generated pages are fresh, links lead somewhere, and what it names exists."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md"), ROOT / "README.md"])
TEXT = {path: path.read_text() for path in PAGES}


def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(path):
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ["dags.md", "reference.md", "evidence.schema.json"])
def test_generated_page_is_what_the_code_says(page):
    assert (ROOT / "docs" / page).read_text() == generator().PAGES[page](), f"docs/{page} is stale: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_are_there(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXT[page]):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_that_a_page_names_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z][a-z-]+)", TEXT[page], re.MULTILINE)) <= targets


def test_reference_lists_every_connection_that_the_code_asks_for():
    asked = set()
    for path in (ROOT / "plugins").rglob("*.py"):
        asked |= set(re.findall(r'(?:CONNECTION_ID|STAGING|PRODUCTION|conn_id: str) = "(\w+)"', path.read_text()))
    listed = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE)
    assert {"mlflow", "registry", "scoring_production"} <= asked
    assert asked <= set(re.findall(r"\w+", " ".join(listed)))


def test_reference_lists_every_asset():
    assets = set()
    for path in (ROOT / "dags").glob("*.py"):
        assets |= set(re.findall(r'Asset\("(\w+)"\)', path.read_text()))
    text = (ROOT / "docs" / "reference.md").read_text()
    for asset in assets:
        assert f"| `{asset}` |" in text


def test_reference_lists_every_metric_of_the_server():
    source = (ROOT / "serving" / "metrics.py").read_text()
    text = (ROOT / "docs" / "reference.md").read_text()
    for name in set(re.findall(r'"(scoring_[a-z_]+)"', source)):
        assert name in text
