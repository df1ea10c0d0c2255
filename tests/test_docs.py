"""The documentation: generated pages are fresh, links lead somewhere, and what it names exists."""

import importlib.util
import re
from pathlib import Path

import pytest

from lifecycle.hooks.targets import CONNECTIONS
from tests.support import names
from training.use_case import load

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("[!.]*/README.md"), ROOT / "README.md"])
TEXT = {path: path.read_text() for path in PAGES}
STUMBLED = re.compile(
    r"(?<!there )(?<!There )\b(?:is|are) none of|\band \w+ is none\b|[;,] else\b|\bsane\b|\bsilence is a no\b"
    r"|\bone (?:partition|column|folder|file|line|row|run|DAG) a (?!time\b)\w+"
)
"""What people do not say: "is none of", "else" for "otherwise", "one file a date" for "one file for each date"."""


def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(path):
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ["dags.md", "reference.md", "architecture.md", "evidence.schema.json"])
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


def test_readme_names_every_dag_file():
    files = {f"dags/{path.name}" for path in (ROOT / "dags").glob("*.py")} - {"dags/broken_use_cases.py"}
    assert files - set(re.findall(r"\]\((dags/\w+\.py)\)", TEXT[ROOT / "README.md"])) == set()


@pytest.mark.parametrize("path", sorted(PAGES), ids=lambda path: str(path.relative_to(ROOT)))
def test_page_has_no_phrase_that_its_readers_stumbled_over(path):
    """Each was found by somebody who did not know us, or is of the same kind."""
    assert [found[0] for found in STUMBLED.finditer(TEXT[path])] == []


def test_reference_lists_every_connection_that_the_code_asks_for():
    asked = set()
    for path in (ROOT / "plugins").rglob("*.py"):
        asked |= set(re.findall(r'(?:CONNECTION_ID|conn_id: str) = "(\w+)"', path.read_text()))
    asked |= set(CONNECTIONS.values())
    listed = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE)
    assert {"mlflow", "registry", "scoring_production"} <= asked
    assert asked <= set(re.findall(r"\w+", " ".join(listed)))


def test_reference_lists_every_asset():
    text = (ROOT / "docs" / "reference.md").read_text()
    for asset in (EXAMPLE.version_asset, EXAMPLE.production_asset):
        assert f"| `{asset}` |" in text


def test_reference_lists_every_metric_of_the_server():
    source = (ROOT / "serving" / "metrics.py").read_text()
    text = (ROOT / "docs" / "reference.md").read_text()
    for name in set(re.findall(r'"(scoring_[a-z_]+)"', source)):
        assert name in text


FOLDERS = (
    "compose",
    "config",
    "dags",
    "embedded",
    "infrastructure",
    "k8s",
    "monitoring",
    "plugins",
    "serving",
    "tests",
    "training",
)
KINDS = ("*.py", "*.sh", "*.tf", "*.toml", "*.yaml", "Dockerfile")
SOURCES = [path for folder in FOLDERS if folder != "tests" for kind in KINDS for path in (ROOT / folder).rglob(kind)]
SOURCES += [ROOT / name for name in ("Makefile", "docker-compose.yaml", "env.example")]
EXAMPLE = load(generator().EXAMPLE)
IDS = sorted(names.dags(EXAMPLE) | names.assets(EXAMPLE))
CODE = "\n".join([*(path.read_text() for path in SOURCES), generator().server(), *IDS])
YOURS = "compose/own.env"  # ignored by git


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_and_paths_that_a_page_uses_are_in_the_code(page):
    names = set(re.findall(r"\b(?:attrition_|LIFECYCLE_|SCORING_)\w*\w\b", TEXT[page]))
    assert {name for name in names if name not in CODE} == set()
    paths = set(re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)`", TEXT[page])) - {YOURS}
    assert {path for path in paths if not (ROOT / path).exists() and not (page.parent / path).exists()} == set()
    fields = settings_by_table()
    used = set(re.findall(r"`\[([\w.]+)\] (\w+)`", TEXT[page]))
    assert {(table, field) for table, field in used if field not in fields.get(table, ())} == set()


def settings_by_table():
    """Names of the settings of each table, as the reference lists them."""
    parts = re.split(r"^\*\*`(.+)`\*\*$", (ROOT / "docs" / "reference.md").read_text(), flags=re.MULTILINE)[1:]
    return {
        title.partition("]")[0].strip("["): set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


def test_alerts_of_the_runbooks_are_those_that_can_fire():
    said = re.findall(r"^Alerts? (.+?)\.$", (ROOT / "docs" / "operate.md").read_text(), re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"\*([\w-]+)\*", " ".join(said)))
    assert "ScoringFailing" in named
    # Prometheus, the nightly DAG (what is lost, and others), Azure Monitor.
    known = ("alert: {}", 'texts["{}"]', 'Loss("{}"', 'Alert("{}"')
    assert {name for name in named if not any(form.format(name) in CODE for form in known)} == set()
