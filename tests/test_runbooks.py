"""The commands of the pages for Azure, as bash reads them and kubectl parses them; no cluster is there to answer.

A stand-in takes the place of what no package registry has, OpenTofu and kubelogin, and of ``az``, which would bring 150
packages for two commands.
"""

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.certificate import write_certificate
from tests.support.markdown import blocks

pytestmark = pytest.mark.tools("kubectl", "jq", "openssl")

ROOT = Path(__file__).parents[1]
STAND_INS = {
    "tofu": """echo '{"airflow": "a", "workers": "w"}'""",
    "az": "", "kubelogin": "", "make": "", "shred": "",
}  # fmt: skip
"""What is called and not run: that the targets of make are there is another test's."""
TOOLS = ("bash", "cat", "cp", "cut", "dirname", "grep", "jq", "mkdir", "openssl", "sed", "sha256sum", "tr")
NOBODY = r"connect(ion to the server \S+ was refused|: connection refused)"


def parsed(folder: Path, code: str) -> dict[str, list[str]]:
    """Run a block; returns the calls of each stand-in and what kubectl said that it does not know.

    Raises ``AssertionError`` where bash does not understand the block, or a program is called that is not expected.
    """
    programs = folder / "bin"
    programs.mkdir()
    for name in TOOLS:
        (programs / name).symlink_to(str(shutil.which(name)))
    for name, prints in STAND_INS.items():
        script(programs / name, f'echo "$*" >>"{folder}/{name}.calls"\n{prints}')
    kubectl = f"{shutil.which('kubectl')} --server=http://127.0.0.1:9 --request-timeout=1s"
    script(
        programs / "kubectl",
        f'said=$({kubectl} "$@" 2>&1 >/dev/null) || echo "$said" | grep -Ev "{NOBODY}" >>"{folder}/kubectl.faults"\n'
        f'echo "$*" >>"{folder}/kubectl.calls"',
    )
    # The page changes into this folder once, for the commands of OpenTofu.
    where = folder / "infrastructure" if code.startswith("tofu") else folder
    done = subprocess.run(
        ["bash", "-eu", "-c", code], cwd=where, env={"PATH": str(programs), "HOME": str(folder)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, f"{code}\n{done.stderr}"
    found = {file.stem: file.read_text().splitlines() for file in folder.glob("*.calls")}
    faults = folder / "kubectl.faults"
    return {**found, "faults": faults.read_text().splitlines() if faults.exists() else []}


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A clone as far as the commands go, with the certificate that a reader has."""
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    for name in ("infrastructure", "config"):
        (tmp_path / name).mkdir()
    (tmp_path / "infrastructure" / "example.tfvars").touch()
    certificate = write_certificate(tmp_path)
    for name in ("tls.crt", "tls.key"):
        shutil.copy(certificate, tmp_path / name)
    return tmp_path


def code_of(page: str) -> list[str]:
    return [code for _, code in blocks((ROOT / "docs" / page).read_text(), "sh")]


AZURE = code_of("azure.md")
SWITCH = [code for code in code_of("operate.md") if "kubectl" in code]


@pytest.mark.parametrize("code", [*AZURE, *SWITCH], ids=lambda code: re.findall(r"\w+", code)[0])
def test_command_is_one_that_its_program_knows(folder, code):
    found = parsed(folder, code)
    assert found.pop("faults") == []
    assert found, "the block calls something"


def test_misspelt_command_is_found(folder):
    (cluster,) = [code for code in AZURE if "rolebinding" in code]
    planted = cluster.replace("--from-literal", "--from-literals").replace("--cert=", "--certificate=")
    assert planted != cluster
    said = " ".join(parsed(folder, planted)["faults"])
    assert "--from-literals" in said
    assert "--certificate" in said


def test_block_that_bash_does_not_understand_is_found(folder):
    with pytest.raises(AssertionError, match="syntax error"):
        parsed(folder, "for who in airflow; do\n  kubectl get pods\n")
