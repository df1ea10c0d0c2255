"""The code of a page, as its readers copy it."""

import os
import re
import subprocess
import sys
from pathlib import Path


def blocks(text: str, *languages: str) -> list[tuple[str, str]]:
    """Language and code of each block of a Markdown text in one of these languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(language, code) for language, code in found if language in languages]


def run(language: str, code: str, folder: Path, **environ: str) -> str:
    """What a block prints that is run in a folder; one that fails fails the test."""
    command = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[language]
    done = subprocess.run(
        [*command, code], cwd=folder, env=os.environ | environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
    return done.stdout
