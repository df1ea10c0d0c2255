"""Every call of ``az`` is one that it knows: of the pages, of the pipelines' scripts, of a smoke run.

The program parses each call itself, in an environment of its own (``make azure-check``), and carries none out.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.runbooks import ROOT, clone, code_of, run_block
from tests.support.smoke_calls import calls_of

pytestmark = pytest.mark.azure

PAGES = ("azure.md", "delivery.md", "signing.md")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Where ``az`` keeps its settings: nobody is signed in there."""
    return tmp_path_factory.mktemp("az")


def wrong(home: Path, calls: list[list[str]]) -> list[str]:
    """What ``az`` says against each call."""
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(home), "AZURE_CONFIG_DIR": str(home),
        "AZURE_CORE_COLLECT_TELEMETRY": "no", "AZURE_CORE_NO_COLOR": "yes",
    }  # fmt: skip
    done = subprocess.run(
        [os.environ["AZ_PYTHON"], ROOT / "tests" / "support" / "az_parser.py"],
        input=json.dumps(calls), env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [f"az {' '.join(call)}: {said}" for call, said in zip(calls, json.loads(done.stdout), strict=True) if said]


def of_pages(folder: Path) -> list[list[str]]:
    """What the pages' blocks call, with every other program a stand-in, and what their sentences name."""
    calls = []
    for number, code in enumerate(code for page in PAGES for code in code_of(page, "az")):
        place = folder / str(number)
        place.mkdir()
        calls += run_block(clone(place), code)["az"]
    return calls


def named() -> list[list[str]]:
    """Commands that sentences of the pages name, without arguments."""
    spans = [span for page in PAGES for span in re.findall(r"`az ([a-z -]+)`", (ROOT / "docs" / page).read_text())]
    return [span.split() for span in spans]


def of_scripts() -> list[list[str]]:
    """What the pipelines' scripts call, as they are written."""
    text = "".join((ROOT / "delivery" / name).read_text() for name in ("deliver.sh", "image.sh")).replace("\\\n", " ")
    return [[word.strip('"') for word in line.split()] for line in re.findall(r"^ *az (.*)$", text, re.MULTILINE)]


def test_every_call_is_one_that_az_knows(home, tmp_path):
    for name in ("pages", "smoke"):
        (tmp_path / name).mkdir()
    smoke = calls_of(tmp_path / "smoke", "az", ("outputs", "secrets", "clusters", "data"))
    found = {"pages": of_pages(tmp_path / "pages"), "scripts": of_scripts(), "smoke": smoke}
    assert {name: len(calls) >= 3 for name, calls in found.items()} == dict.fromkeys(found, True), found
    assert wrong(home, [call for calls in found.values() for call in calls]) == []


def test_command_that_a_sentence_names_is_there(home):
    assert ["keyvault", "key", "rotate"] in named()
    unknown = wrong(home, named())
    assert [said for said in unknown if "misspelled or not recognized" in said] == []


def test_misspelt_call_is_found(home, tmp_path):
    """Each word of each command, and an option of it."""
    planted = {
        (*call[:2], word if number < 2 else "an option"): [*call[:number], f"{word}s", *call[number + 1 :]]
        for call in of_pages(tmp_path)
        for number, word in enumerate(call)
        if number < 2 or word.startswith("--")
    }
    assert len(planted) >= 6
    assert len(wrong(home, list(planted.values()))) == len(planted)
