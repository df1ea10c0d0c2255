"""The commands of the pages for Azure, as bash reads them and kubectl parses them; no cluster is there to answer.

``tests/infrastructure/test_az_commands.py`` has those of ``az``. No package registry has OpenTofu, kubelogin and Helm:
their options are held to an extract of their references.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from infrastructure.checks import configuration
from tests.support.runbooks import ROOT, clone, code_of, faults, misfits, run_block, told

pytestmark = pytest.mark.tools("kubectl", "jq", "openssl", "curl")

NOBODY = r"connect(ion to the server \S+ was refused|: connection refused)"
AZURE = code_of("azure.md")
DELIVERY = code_of("delivery.md", "kubectl")
SWITCH = code_of("operate.md", "kubectl")


def parsed(folder: Path, code: str) -> tuple[dict[str, list[list[str]]], list[str]]:
    """Run a block in a clone; returns what was called, and what is wrong with it."""
    kubectl = f"{shutil.which('kubectl')} --server=http://127.0.0.1:9 --request-timeout=1s"
    calls = run_block(clone(folder), code, {"kubectl": told(folder, "kubectl", kubectl, NOBODY)})
    held = [fault for name in ("tofu", "kubelogin") for fault in misfits(name, calls.get(name, ()))]
    return calls, [*faults(folder, "kubectl"), *held]


@pytest.mark.parametrize("code", [*AZURE, *DELIVERY, *SWITCH], ids=lambda code: re.findall(r"\w+", code)[0])
def test_command_is_one_that_its_program_knows(tmp_path, code):
    calls, wrong = parsed(tmp_path, code)
    assert wrong == []
    assert calls, "the block calls something"


@pytest.mark.parametrize(
    ("of", "old", "new"),
    [
        ("rolebinding", "--from-literal", "--from-literals"),
        ("rolebinding", "--cert=", "--certificate="),
        ("rolebinding", "kubelogin convert-kubeconfig -l", "kubelogin convert-kubeconfig -x"),
        ("rolebinding", "tofu -chdir=", "tofu -chdirs="),
        ("rolebinding", "output -json", "output -jsons"),
        ("tofu init", "-backend-config=", "-backend-configs="),
        ("tofu init", "tofu apply -var-file", "tofu applies -var-file"),
        ("tofu destroy", "-var-file", "-vars-file"),
        ("monitoring/collector", "--kustomize", "--kustomise"),
    ],
)
def test_misspelt_command_is_found(tmp_path, of, old, new):
    (code,) = [code for code in AZURE if of in code]
    assert old in code, "the test has to plant something"
    _, wrong = parsed(tmp_path, code.replace(old, new))
    assert new.split()[-1].rstrip("=") in " ".join(wrong)


def test_block_that_bash_does_not_understand_is_found(tmp_path):
    with pytest.raises(AssertionError, match="syntax error"):
        parsed(tmp_path, "for who in airflow; do\n  kubectl get pods\n")


def test_kubeconfig_of_the_clusters_calls_kubelogin_as_it_is():
    output = configuration.read().modules[configuration.ROOT / "modules" / "cluster"].of("output")["kube_config"]
    (arguments,) = re.findall(r'"get-token"[^\]]*', output.body["value"])
    call = re.findall(r'"([^"]*)"', arguments)
    assert call[:2] == ["get-token", "--login"]
    assert list(misfits("kubelogin", [call])) == []


PROGRAMS = ("tofu", "airflow", "curl")
"""Those that sentences call; what they say of ``az`` and ``make`` is looked at elsewhere."""


def in_sentences(page: str) -> list[list[str]]:
    """The commands in the sentences of a page, and in what stands in its blocks for other programs than a shell."""
    text = (ROOT / "docs" / page).read_text()
    text = re.sub(r"\s+", " ", re.sub(r"```sh\n.*?```", "", text, flags=re.DOTALL))
    return [span.split() for span in re.findall(rf"`((?:{'|'.join(PROGRAMS)}) [^`]+)`", text)]


def against(command: list[str]) -> str:
    """What the program says against a command; empty where it would carry it out."""
    program, *call = command
    if program == "airflow":
        from airflow.cli import cli_parser

        try:
            cli_parser.get_parser().parse_args(call)
        except SystemExit as error:
            return f"airflow ends with {error.code}"
        return ""
    if program == "curl":
        # An option that it does not know ends it with 2; a host that is not there, otherwise.
        done = subprocess.run(["curl", "--silent", "--max-time", "1", *call], capture_output=True, text=True)
        return done.stderr if done.returncode == 2 else ""
    unknown = [] if call[0] != "output" else set(call[1:]) - {"-raw"} - configuration.read().root.of("output").keys()
    return "; ".join([*misfits(program, [call]), *(f"infrastructure/ has no output {name}" for name in unknown)])


@pytest.mark.parametrize("page", ["azure.md", "delivery.md"])
def test_command_in_a_sentence_is_one_that_its_program_knows(page):
    found = in_sentences(page)
    assert len(found) >= 3
    assert [said for command in found if (said := against(command))] == []


def test_misspelt_command_in_a_sentence_is_found():
    assert {command[0] for command in in_sentences("azure.md")} == set(PROGRAMS)
    for planted in (
        "airflow connection get mlflow", "airflow connections get", "tofu outputs airflow", "tofu output airflows",
        "tofu apply -replaces=x", "curl --locations https://HOST/version",
    ):  # fmt: skip
        assert against(planted.split()), planted
