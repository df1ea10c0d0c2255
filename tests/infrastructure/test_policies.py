"""Policies of trivy and checkov find what is planted in a copy (``make azure-check``)."""

import os
import shutil
from pathlib import Path

import pytest

from infrastructure.checks import policies
from infrastructure.checks.__main__ import main
from infrastructure.checks.configuration import ROOT

pytestmark = pytest.mark.azure


@pytest.fixture
def tools() -> Path:
    """The folder of the programs."""
    return Path(os.environ["AZURE_TOOLS"])


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT, tmp_path / "infrastructure"))


def replace(copy: Path, file: str, old: str, new: str) -> None:
    path = copy / file
    assert old in path.read_text(), "the test has to plant something"
    path.write_text(path.read_text().replace(old, new, 1))


def command(copy: Path, tools: Path) -> str:
    """What `make azure-check` says of a copy in which something is wrong."""
    with pytest.raises(SystemExit) as ended:
        main(["--folder", str(copy), "--tools", str(tools)])
    return str(ended.value.code)


def test_public_container_open_account_and_public_database_fail(copy, tools):
    """Three faults in one copy, for the programs take their time."""
    replace(copy, "modules/lake/main.tf", 'container_access_type = "private"', 'container_access_type = "blob"')
    replace(
        copy, "modules/lake/main.tf", "shared_access_key_enabled         = false", "shared_access_key_enabled = true"
    )
    replace(
        copy,
        "modules/database/main.tf",
        "public_network_access_enabled     = false",
        "public_network_access_enabled = true",
    )
    said = command(copy, tools)
    assert "azurerm_storage_container.this" in said
    assert "azurerm_storage_account.this" in said
    assert "on module.database" in said


def test_misspelling_fails_before_any_policy_is_asked(copy, tools):
    replace(copy, "modules/lake/main.tf", "min_tls_version ", "min_tls_versio ")
    assert "no argument min_tls_versio" in command(copy, tools)


def test_right_too_many_fails(copy, tools):
    replace(
        copy,
        "access.tf",
        '    { who = "pipeline", role = "AcrPush", on = "airflow registry" },',
        '    { who = "pipeline", role = "AcrPush", on = "airflow registry" },\n'
        '    { who = "pipeline", role = "AcrPush", on = "image registry" },',
    )
    assert "pipeline has AcrPush on image registry" in command(copy, tools)


def test_program_that_says_nothing_is_no_clean_bill(copy, tmp_path):
    for name in ("trivy", "checkov"):
        (tmp_path / name).write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(policies.PolicyError, match="trivy ended with 3 and said:\nbroken"):
        policies.problems(tmp_path, copy)
