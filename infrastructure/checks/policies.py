"""Policies of trivy and checkov over both environments, less the findings that ``accepted.toml`` gives reasons for."""

import json
import os
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from infrastructure.checks.configuration import ROOT

ENVIRONMENTS = ("small", "full")
EXAMPLE = "example.tfvars"


class PolicyError(RuntimeError):
    """Raised where a program could not judge the configuration; the message holds what it said."""


class Finding(NamedTuple):
    """One policy that one resource breaks."""

    tool: str
    id: str
    on: str
    """The resource's address, without index: ``module.lake.azurerm_storage_account.this``."""
    title: str

    def __str__(self) -> str:
        return f"{self.tool} {self.id} on {self.on}: {self.title}"


class Accepted(NamedTuple):
    """A finding that stays, and why."""

    finding: str
    """Program, policy and the end of the resource's address: ``trivy AZU-0012 on module.lake``."""
    reason: str

    def covers(self, finding: Finding) -> bool:
        policy, _, address = self.finding.partition(" on ")
        return policy == f"{finding.tool} {finding.id}" and finding.on.endswith(address)


def accepted(folder: Path = ROOT) -> list[Accepted]:
    """The list, from ``accepted.toml``."""
    entries = tomllib.loads((folder / "accepted.toml").read_text())["accepted"]
    return [Accepted(finding, entry["reason"]) for entry in entries for finding in entry["findings"]]


def problems(tools: Path, folder: Path = ROOT) -> list[str]:
    """What is wrong in one of the environments. ``tools`` holds the programs."""
    with ThreadPoolExecutor(len(ENVIRONMENTS)) as pool:
        found = pool.map(lambda environment: _judged(tools, folder, environment), ENVIRONMENTS)
        return unaccepted(set().union(*found), accepted(folder))


def unaccepted(found: set[Finding], listed: list[Accepted]) -> list[str]:
    """Findings that nobody accepted, and what is accepted and does not occur."""
    return [
        *(str(finding) for finding in sorted(found) if not any(entry.covers(finding) for entry in listed)),
        *(
            f"accepted.toml accepts {entry.finding}, which does not occur: take it out"
            for entry in listed
            if not any(entry.covers(finding) for finding in found)
        ),
    ]


def _judged(tools: Path, folder: Path, environment: str) -> set[Finding]:
    with tempfile.TemporaryDirectory() as scratch:
        variables = Path(scratch) / "environment.tfvars"
        variables.write_text(_variables(folder, environment))
        return {*_trivy(tools, folder, variables, Path(scratch)), *_checkov(tools, folder, variables)}


def _variables(folder: Path, environment: str) -> str:
    """The example's values, for one environment."""
    text, count = re.subn(
        r'^(environment\s*=\s*)"\w+"', rf'\1"{environment}"', (folder / EXAMPLE).read_text(), flags=re.MULTILINE
    )
    if count != 1:
        raise PolicyError(f"{EXAMPLE} has to say the environment once, and says it {count} times")
    return text


def _trivy(tools: Path, folder: Path, variables: Path, scratch: Path) -> Iterator[Finding]:
    command = ["config", "--skip-check-update", "--quiet", "--format", "json", "--tf-vars", str(variables), str(folder)]
    document = _run(tools / "trivy", command, {"TRIVY_CACHE_DIR": str(scratch / "trivy")})
    for result in document.get("Results", ()):
        for entry in result.get("Misconfigurations", ()):
            address = entry["CauseMetadata"].get("Resource") or result["Target"]
            yield Finding("trivy", entry["ID"], _address(address), entry["Title"])


def _checkov(tools: Path, folder: Path, variables: Path) -> Iterator[Finding]:
    options = ["--framework", "terraform", "--output", "json", "--compact", "--quiet", "--skip-download", "--soft-fail"]
    document = _run(tools / "checkov", [*options, "--var-file", str(variables), "--directory", str(folder)], {})
    if document["results"].get("parsing_errors"):
        raise PolicyError(f"checkov could not read {', '.join(document['results']['parsing_errors'])}")
    for entry in document["results"]["failed_checks"]:
        yield Finding("checkov", entry["check_id"], _address(entry["resource"]), entry["check_name"])


def _address(address: str) -> str:
    return re.sub(r"\[[^\]]*\]", "", address)


def _run(program: Path, arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    # Without the path of our own packages: checkov brings another module of the name hcl2.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [program, *arguments], env={**inherited, **environment}, capture_output=True, text=True, timeout=600
    )
    try:
        loaded: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError as error:
        raise PolicyError(
            f"{program.name} ended with {done.returncode} and said:\n{done.stderr or done.stdout}"
        ) from error
    return loaded
