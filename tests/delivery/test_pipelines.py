"""Workflows and pipelines: pinned, with the least rights, and both systems do the same."""

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from delivery import lint
from lifecycle import images

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
PIPELINES = ROOT / lint.PIPELINES
TEXT = {path.name: path.read_text() for path in WORKFLOWS}


def scripts(document: object) -> list[str]:
    """What a pipeline runs in a shell, in order."""
    if isinstance(document, dict):
        own = [str(document[name]) for name in ("run", "script", "inlineScript") if name in document]
        return own + [text for value in document.values() for text in scripts(value)]
    return [text for value in document for text in scripts(value)] if isinstance(document, list) else []


def test_every_action_is_named_by_a_commit_and_says_which_version_it_is():
    used = re.findall(r"uses: (\S+)(.*)", "".join(TEXT.values()))
    others = [(name, comment) for name, comment in used if not name.startswith("./")]
    assert len(others) >= 9
    assert [pair for pair in others if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", pair[0])] == []
    assert [pair for pair in others if not re.fullmatch(r" # v\d+\.\d+\.\d+", pair[1])] == []
    # One version of each action, whatever workflow uses it.
    assert len({name.partition("@")[0] for name, _ in others}) == len({name for name, _ in others})


@pytest.mark.parametrize("name", TEXT)
def test_workflow_has_no_right_that_it_does_not_list_and_no_secret(name):
    document = yaml.safe_load(TEXT[name])
    assert document["permissions"] == {}
    rights = {job: body["permissions"] for job, body in document["jobs"].items()}
    signs_in = {job for job, given in rights.items() if given != {"contents": "read"}}
    assert signs_in == ({"deliver"} if name == "deliver.yaml" else set())
    assert "secrets." not in TEXT[name]
    assert "pull_request_target" not in TEXT[name]


def test_only_what_signs_in_has_an_environment_and_it_waits_for_the_checks():
    job = yaml.safe_load(TEXT["deliver.yaml"])["jobs"]["deliver"]
    assert job["permissions"] == {"contents": "read", "id-token": "write"}
    assert (job["environment"], job["needs"]) == ("production", "checks")
    example = (ROOT / "infrastructure" / "example.tfvars").read_text()
    assert re.findall(r"repo:[\w/]+:environment:(\w+)", example) == [job["environment"]]


def test_both_systems_run_the_same_commands():
    ours = [text for path in WORKFLOWS for text in scripts(yaml.safe_load(TEXT[path.name]))]
    theirs = scripts(yaml.safe_load(PIPELINES.read_text()))
    commit = {"$GITHUB_SHA": "COMMIT", "$BUILD_SOURCEVERSION": "COMMIT"}
    same = [re.sub(r"\$\w+", lambda found: commit[found[0]], text) for text in ours]
    assert same == [re.sub(r"\$\w+", lambda found: commit[found[0]], text) for text in theirs]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", " ".join(same))) <= targets
    assert {"make lint", "make test", "make azure-check", "make airflow-image"} <= set(same)


def test_both_systems_give_the_script_each_variable_that_it_reads():
    script = (ROOT / "delivery" / "deliver.sh").read_text()
    own = set(re.findall(r"(\w+)=\$\(mktemp\)", script))
    read = set(re.findall(r"\$\{?([A-Z_]+)", script)) - own
    job = yaml.safe_load(TEXT["deliver.yaml"])["jobs"]["deliver"]
    (step,) = [step for step in job["steps"] if "deliver.sh" in step.get("run", "")]
    (task,) = re.findall(r"inlineScript: delivery/deliver\.sh.*?env:\n(.*)", PIPELINES.read_text(), re.DOTALL)
    assert read == job["env"].keys() | step["env"].keys() == yaml.safe_load(task).keys()


def test_both_systems_keep_what_is_in_the_image_and_known_against_it_however_the_scan_ends():
    kept = re.findall(
        r"- if: (.*)\n +uses: actions/upload-artifact@.*\n +with: {name: \S+, path: ([\w-]+)", "".join(TEXT.values())
    )
    published = re.findall(r"- {publish: ([\w-]+), artifact: \S+, condition: (.*)}", PIPELINES.read_text())
    assert kept == [("always()", "image-report")] * 2
    assert published == [(path, condition) for condition, path in kept]


def test_pipelines_use_no_anchor_which_azure_devops_does_not_read():
    assert re.findall(r"[:\-\[,] [&*]\w+", PIPELINES.read_text()) == []


def test_variables_that_pipelines_read_are_those_of_the_page():
    page = (ROOT / "docs" / "delivery.md").read_text()
    read = {*re.findall(r"vars\.(\w+)", TEXT["deliver.yaml"]), *re.findall(r"\$\(([A-Z_]+)\)", PIPELINES.read_text())}
    assert "AIRFLOW_VALUES" in read
    assert {name for name in read if f"| `{name}` |" not in page} == set()


def test_image_starts_from_the_official_one_of_airflows_own_version():
    pin = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)[1]
    (base,) = [image for image in images.read() if image.name == "apache/airflow"]
    assert base.tag == f"slim-{pin}-python3.11"
    assert f"ARG BASE_IMAGE={base.reference}\n" in (ROOT / "delivery" / "Dockerfile").read_text()
    values = yaml.safe_load((ROOT / "delivery" / "values.yaml").read_text())
    assert values["airflowVersion"] == pin


def test_image_has_what_tasks_publish_and_build_from_and_no_dag_files():
    from lifecycle.builders import context
    from lifecycle.tasks import publish

    ignored = (ROOT / "delivery" / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    assert ignored[1] == "*"
    wanted = {
        *publish.PACKAGES,
        *publish.SINGLE_FILES,
        *context.CODE_FOLDERS,
        "plugins/lifecycle",
        "use_cases",
        "images.lock",
    }
    assert {name.partition("/")[0] for name in wanted} <= kept
    assert "dags" not in kept
    assert all((ROOT / name).exists() for name in kept)


def test_smaller_lock_of_the_image_has_the_pins_that_the_tests_ran_with():
    whole, ours = (
        dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.txt", "delivery/requirements.txt")
    )
    assert {"apache-airflow-providers-git", "onnxruntime", "minilake"} - ours.keys() == {"minilake"}
    assert {name: pin for name, pin in ours.items() if whole.get(name, pin) != pin} == {}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what the programs look at, to plant things in."""
    for name in (".github", "delivery", "compose", "serving/Dockerfile", "tests/compose/stand-ins", ".hadolint.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.tools
def test_programs_find_nothing_in_what_is_there(copy):
    assert lint.problems(Path(os.environ["LINT_TOOLS"]), copy) == []


@pytest.mark.tools
@pytest.mark.parametrize(
    ("file", "old", "new", "program", "says"),
    [
        (".github/workflows/checks.yaml", "runs-on", "run-on", "actionlint", "run-on"),
        (".github/workflows/checks.yaml", "make lint", "echo ${{ github.head_ref }}", "zizmor", "template-injection"),
        (".github/workflows/checks.yaml", "{persist-credentials: false}", "{}", "zizmor", "artipacked"),
        (".github/workflows/checks.yaml", "{contents: read}", "write-all", "zizmor", "excessive-permissions"),
        (".github/workflows/checks.yaml", "timeout-minutes", "timeout-minute", "check-jsonschema", "timeout-minute"),
        ("delivery/azure-pipelines.yaml", "- script: make lint", "- scriptt: make lint", "check-jsonschema", "scriptt"),
        ("delivery/Dockerfile", "COPY . /opt/lifecycle", "ADD . /opt/lifecycle", "hadolint", "DL3020"),
    ],
)
def test_programs_find_what_is_planted(copy, file, old, new, program, says):
    programs = Path(os.environ["LINT_TOOLS"])
    path = copy / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    found = lint.problems(programs, copy)
    assert any(text.startswith(f"{program}:") and says in text for text in found), found
