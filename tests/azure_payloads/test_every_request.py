"""Every module that asks something elsewhere stands in the page's table, with the test that looks at what it sends."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "azure.md"
HEADING = "## What is sent, and which test looks at it"
CODE = ("plugins", "serving", "training", "monitoring", "delivery", "dags")
CLIENTS = re.compile(
    r"(requests|httpx|urllib\.request|urllib3|http\.client|aiohttp|smtplib|azure|msal|databricks|mlflow|docker|jwt|"
    r"kubernetes|opentelemetry\.exporter|fsspec|adlfs|airflow\.sdk\.ObjectStoragePath|"
    r"airflow\.providers\.(databricks|microsoft|http|smtp|cncf|git))(\.|$)"
)
"""Packages that ask."""
RAW = {"rest", "curl", "wget"}
"""Words of programs, and of ``az``, that send what they are given."""
NAMES_ALONE = re.compile(
    r".*\.(exceptions|errors|entities|types|models|amqp)(\.|$)|mlflow\.pyfunc|kubernetes\.(client|utils)\.|"
    r"airflow\.providers\.\w+(\.\w+)*\.(triggers|utils)\."
)
"""Parts of them that hold words and forms for what others ask."""


def imported(tree: ast.AST) -> Iterator[str]:
    """Full names of what a module imports when it runs, wherever in it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        else:
            yield from imported(node)


def calls_raw(tree: ast.AST) -> bool:
    """Whether a module has a program send a request that it writes itself."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    words = [{word.value for word in call.args if isinstance(word, ast.Constant)} for call in calls]
    return any(RAW & found for found in words)


def asks(source: str) -> bool:
    """Whether a module imports something that asks, or has a program do so."""
    tree = ast.parse(source)
    return calls_raw(tree) or any(CLIENTS.match(name) and not NAMES_ALONE.match(name) for name in imported(tree))


def asking() -> set[str]:
    """The modules that ask, as the page names them."""
    files = [file for folder in CODE for file in (ROOT / folder).rglob("*.py")]
    return {str(file.relative_to(ROOT)).removeprefix("plugins/") for file in files if asks(file.read_text())}


def rows() -> list[list[str]]:
    """The cells of the table."""
    section = PAGE.read_text().partition(HEADING)[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [line.strip("|").split("|") for line in lines[2:]]


def test_every_module_that_asks_stands_in_the_table():
    listed = [name for row in rows() for name in re.findall(r"`([\w/]+\.py)`", row[1])]
    assert len(listed) == len(set(listed))
    assert asking() - set(listed) == set(), f"write it into the table of {PAGE.name}, with the test that looks at it"
    gone = {name for name in listed if not (ROOT / name).exists() and not (ROOT / "plugins" / name).exists()}
    assert gone == set()


def test_every_row_names_a_test_that_is_there():
    for row in rows():
        named = re.findall(r"`(tests/[\w/]+(?:\.py)?)`", row[2])
        assert named, row
        assert [name for name in named if not (ROOT / name).exists()] == []


def test_new_request_would_be_found():
    for source in (
        "import requests", "def ask():\n    import httpx", "from urllib.request import urlopen",
        "from azure.storage.blob import BlobClient", "import mlflow",
        "from airflow.providers.http.hooks.http import HttpHook", "from airflow.sdk import ObjectStoragePath",
        "def read(address):\n    import fsspec", "programs.run('curl', '--data', body, url)",
        "az('rest', '--url', url)",
    ):  # fmt: skip
        assert asks(source), source
    for source in (
        "from azure.core.exceptions import AzureError", "from kubernetes.client import models",
        "from urllib.parse import quote", "if TYPE_CHECKING:\n    import mlflow",
        "from mlflow.entities import Run", "from airflow.sdk import task", "run('kubectl', 'apply')",
    ):  # fmt: skip
        assert not asks(source), source
