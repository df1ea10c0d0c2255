"""What `make demo` refuses before it starts anything, and what its users find written down."""

import os
import re
import subprocess
import sys

import pytest

from embedded.environment import MARKER, PART_MARKER, ROOT, Ports, port_setting
from embedded.scoring_child import SLOT_MARKER
from tests.support.guardian import SESSION
from training.use_case import names


def demo(home, *arguments, use_case="attrition"):
    return subprocess.run(
        [sys.executable, "-m", "embedded", "demo", "--use-case", use_case, *arguments],
        cwd=ROOT, env={"PATH": os.environ["PATH"], "LIFECYCLE_HOME": str(home)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no file {path}: DATA names a CSV or Parquet file of employees"),
        (lambda path: path.touch(), "the file {path} is empty: DATA names a CSV or Parquet file of employees"),
        (lambda path: path.mkdir(), "there is no file {path}: DATA names a CSV or Parquet file of employees"),
    ],
    ids=["missing", "empty", "a folder"],
)
def test_file_that_cannot_be_data_is_refused_before_the_stack_starts(tmp_path, make, message):
    path = tmp_path / "employees.csv"
    make(path)
    result = demo(tmp_path / "home", "--data", str(path), "--approve", "yes")
    assert result.returncode == 1
    assert " ".join(result.stdout.split()) == f"The demo failed: {message.format(path=path)}"
    assert not (tmp_path / "home" / "logs").exists()


def test_faults_of_a_table_are_told_once_and_before_the_stack_starts(tmp_path):
    """They came after the stack's start, three times, between the tracebacks of two tries."""
    path = tmp_path / "employees.csv"
    path.write_text("Age,Attrition\n41,Yes\n36,No\n")
    result = demo(tmp_path / "home", "--data", str(path), "--approve", "yes")
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.count("MonthlyIncome: the column is missing") == 1
    assert result.stdout.startswith("The demo failed:\n")
    assert all(len(line) <= 80 or line.split() == [line] for line in result.stdout.splitlines())
    assert "Traceback" not in result.stdout
    assert not (tmp_path / "home" / "logs").exists()


def test_use_case_that_is_not_there_is_one_line_with_those_that_are(tmp_path):
    result = demo(tmp_path / "home", "--approve", "yes", use_case="churn")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"there is no use case 'churn': use one of {', '.join(names())}\n"
    assert not (tmp_path / "home" / "logs").exists()


def test_file_and_synthetic_rows_at_once_are_refused(tmp_path):
    result = demo(tmp_path / "home", "--data", "x.csv", "--synthetic", "yes", "--approve", "yes")
    assert result.returncode == 1
    assert "give one of them" in result.stdout
    assert not (tmp_path / "home" / "logs").exists()


def test_demo_that_nobody_can_answer_says_so_before_the_stack_starts(tmp_path):
    result = demo(tmp_path / "home")
    assert result.returncode == 1
    assert "nobody can type an answer here: give APPROVE=yes or APPROVE=no" in result.stdout
    assert not (tmp_path / "home" / "logs").exists()


def test_make_help_lists_every_target():
    text = (ROOT / "Makefile").read_text()
    phony = text.split(".PHONY:")[1].split("\n\n")[0].replace("\\", " ").split()
    # These tests are themselves run by make, and a make below another one says where it is.
    command = ["make", "--no-print-directory", "help"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    lines = listed.splitlines()
    bold = [line.removeprefix("  \x1b[1m").split()[0] for line in lines if line.startswith("  \x1b[1m")]
    shown = {word.removesuffix("\x1b[0m") for word in bold}
    assert shown == set(phony)
    assert max(len(line.replace("\x1b[1m", "").replace("\x1b[0m", "")) for line in lines) <= 80
    assert {"demo", "test", "lint", "serve", "down", "lock", "bench-serving", "bench-training"} <= shown


def test_example_of_the_environment_names_every_setting_that_is_read():
    """What is read from the shell: by the Makefile's demo, by the stack, and through it by tasks and jobs."""
    sources = [file for folder in ("embedded", "plugins", "training") for file in (ROOT / folder).rglob("*.py")]
    text = "\n".join(file.read_text() for file in [*sources, ROOT / "tests" / "conftest.py"])
    between_processes = {MARKER, PART_MARKER, SLOT_MARKER, "LIFECYCLE_API_KEY", SESSION}
    settings = set(re.findall(r'"(LIFECYCLE_[A-Z_]+)"', text)) - between_processes
    settings |= {port_setting(name) for name in Ports.__dataclass_fields__} | {"PYTHON", "VENV", "TARGET", "USE_CASES"}
    settings |= set(
        re.findall(r"--[\w-]+ \"\$\((\w+)\)\"", (ROOT / "Makefile").read_text().split("\ndemo:")[1].split("\nup:")[0])
    )
    named = set(re.findall(r"^#(\w+)=", (ROOT / "env.example").read_text(), re.MULTILINE))
    assert {"USE_CASE", "DATA", "SYNTHETIC", "APPROVE", "KEEP", "LIFECYCLE_HOME", "LIFECYCLE_SETTINGS"} <= settings
    assert settings - named == set()
