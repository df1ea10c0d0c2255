"""Scripts and Makefile run with what macOS brings: bash 3.2, make 3.81, and the tools of BSD."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# What each pattern finds, by an example that it must find.
BASH_4 = {
    "declare -A x": r"\b(declare|local|typeset)\s+-\w*[Agn]",
    "mapfile -t x": r"\b(mapfile|readarray|coproc)\b",
    "echo ${x,,}": r"\$\{\w+(\[[^]]*\])?(,,?|\^\^?)",
    "echo ${x@Q}": r"\$\{\w+(\[[^]]*\])?@[A-Za-z]\}",
    "echo ${x: -1:-1}": r"\$\{\w+:[^}]*:\s*-",
    "echo ${x[-1]}": r"\$\{\w+\[-\d",
    "make |& cat": r"\|&",
    "make &>> log": r"&>>",
    "shopt -s globstar": r"\b(globstar|lastpipe|inherit_errexit)\b",
    "wait -n": r"\bwait\s+-[np]",
    "[[ -v x ]]": r"\[\[?\s+(!\s+)?-[vR]\s",
    "printf '%(%F)T'": r"%\([^)]*\)T",
    "exec {fd}>log": r"\bexec\s+\{\w+\}",
    "echo {01..10}": r"\{0\d+\.\.\d+\}",
    "echo $EPOCHSECONDS": r"\b(EPOCHSECONDS|EPOCHREALTIME|BASHPID|SRANDOM)\b",
}
GNU_TOOLS = {
    "stat -c %s x": r"\bstat\s+(-c|--)",
    "sed -i s/a/b/ x": r"\bsed\s+(-\w*[ir]|--)",
    "readlink -f x": r"\breadlink\s+-[fem]",
    "date -d yesterday": r"\bdate\s+(-d|--)",
    "date +%N": r"\bdate\b[^|;]*%N",
    "grep -P x": r"\bgrep\s+-\w*P",
    "xargs -r x": r"\bxargs\s+-\w*[rd]",
    "cp -t x": r"\b(cp|mv|ln)\s+-\w*[tT]",
    "head -n -1": r"\b(head|tail)\s+(-n\s+|-c\s+)-\d",
    "setsid x": r"\b(setsid|timeout|nproc|tac|sha256sum|md5sum|realpath|numfmt|shuf|ionice|flock|pidof)\b(?!=)",
    "base64 -w0": r"\bbase64\s+-w",
    "ps --forest": r"\bps\s+--",
}
MAKE_4 = {
    ".ONESHELL:": r"\.ONESHELL|\.SHELLFLAGS|\.NOTINTERMEDIATE|\.EXTRA_PREREQS",
    "x != date": r"^\s*\w+\s*!=",
    "x ::= y": r":::?=",
    "a b &: c": r"^[^#\t]*&:",
    "$(file >x,y)": r"\$\((file|guile|let|intcmp)\s",
    "undefine x": r"^(undefine|load|private)\s",
    "define x =": r"^define\s+\w+\s*[:+?]?=",
    "make --output-sync": r"--output-sync|--trace\b|(?<![\w-])-O\b",
}


def _scripts() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.splitlines() if _is_script(ROOT / name)]


def _is_script(path: Path) -> bool:
    if path.suffix == ".sh":
        return True
    if path.suffix or not path.is_file():
        return False
    with path.open("rb") as file:
        return re.match(rb"#!.*\b(ba)?sh\b", file.readline()) is not None


def _found(text: str, patterns: dict[str, str]) -> list[str]:
    """Lines, without comments, that a pattern finds."""
    lines = [re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines()]
    return [
        f"line {number}: {line.strip()} (as in {example!r})"
        for number, line in enumerate(lines, 1)
        for example, pattern in patterns.items()
        if re.search(pattern, line)
    ]


def test_scripts_are_found() -> None:
    assert {".ci/run", "k8s/deploy.sh", "compose/cluster.sh", "embedded/python.sh"} <= set(_scripts())


@pytest.mark.parametrize("name", _scripts())
def test_script_needs_nothing_that_bash_3_2_lacks(name: str) -> None:
    assert _found((ROOT / name).read_text(), BASH_4) == []


def _runs_on_a_mac(name: str) -> bool:
    """CI installs Debian's packages, and the others run in containers."""
    return name.startswith("embedded/")


@pytest.mark.parametrize("name", ["Makefile", *filter(_runs_on_a_mac, _scripts())])
def test_what_runs_on_a_mac_needs_no_tool_of_gnu(name: str) -> None:
    assert _found((ROOT / name).read_text(), GNU_TOOLS) == []


def test_makefile_needs_nothing_that_make_3_81_lacks() -> None:
    assert _found((ROOT / "Makefile").read_text(), BASH_4 | MAKE_4) == []


@pytest.mark.parametrize(("example", "pattern"), (BASH_4 | GNU_TOOLS | MAKE_4).items())
def test_pattern_finds_its_example(example: str, pattern: str) -> None:
    assert _found(example, {example: pattern})
