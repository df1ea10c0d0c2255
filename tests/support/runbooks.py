"""The commands of a page, run by bash with scripts in the place of programs that would reach a cloud."""

import json
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.support.certificate import write_certificate
from tests.support.markdown import blocks

ROOT = Path(__file__).parents[2]
TOOLS = (
    "bash", "base64", "cat", "cp", "cut", "dirname", "grep", "jq", "mkdir", "openssl", "sed", "sha256sum", "tr",
)  # fmt: skip
"""Programs of the machine that the blocks may call; any other is a fault."""
STAND_INS = {
    "tofu": """echo '{"triggerer": "t", "workers": "w"}'""",
    **dict.fromkeys(("az", "kubectl", "kubelogin", "make", "shred"), ""),
}
"""What each prints that is called and not run; that the targets of make are there is another test's."""
_OPTIONS: dict[str, dict[str, list[str]]] = {
    program: commands
    for program, commands in json.loads(Path(__file__).with_name("runbook_options.json").read_text()).items()
    if program != "about"
}


def code_of(page: str, *programs: str) -> list[str]:
    """The blocks of a page for a shell, those in its lists too; if programs are given, those alone that call one."""
    text = re.sub("^ {3}", "", (ROOT / "docs" / page).read_text(), flags=re.MULTILINE)  # where a list's blocks stand
    found = [code for _, code in blocks(text, "sh")]
    return [code for code in found if not programs or any(re.search(rf"\b{name} ", code) for name in programs)]


def clone(folder: Path) -> Path:
    """A clone as far as the commands go, with the certificate that a reader has."""
    for name in ("k8s", "monitoring/collector"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("infrastructure", "config"):
        (folder / name).mkdir()
    (folder / "infrastructure" / "example.tfvars").touch()
    (folder / "approval-key.json").write_text("{}")
    certificate = write_certificate(folder)
    for name in ("tls.crt", "tls.key"):
        shutil.copy(certificate, folder / name)
    return folder


def run_block(folder: Path, code: str, scripts: Mapping[str, str] = {}) -> dict[str, list[list[str]]]:
    """Run a block; returns the calls of each program, which ``scripts`` give a body of their own.

    Raises ``AssertionError`` where bash does not understand the block, or a program is called that is not expected.
    """
    programs = folder / "bin"
    programs.mkdir()
    for name in TOOLS:
        (programs / name).symlink_to(str(shutil.which(name)))
    for name, body in {**STAND_INS, **scripts}.items():
        call = f"{{ printf '%s\\x1f' \"$@\"; echo; }} >>{folder}/{name}.calls"
        write_script(programs / name, f"{call}\n{body}")
    # The page changes into this folder once, for the commands of OpenTofu.
    where = folder / "infrastructure" if code.startswith("tofu") else folder
    done = subprocess.run(
        ["bash", "-eu", "-c", code], cwd=where, env={"PATH": str(programs), "HOME": str(folder)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, f"{code}\n{done.stderr}"
    return {
        file.stem: [line.split("\x1f")[:-1] for line in file.read_text().splitlines()]
        for file in folder.glob("*.calls")
    }


def told(folder: Path, name: str, command: str, harmless: str) -> str:
    """A body that runs the program itself and keeps what it says in a failure, but for lines that ``harmless`` fits."""
    kept = f'grep -Ev "{harmless}" >>"{folder}/{name}.faults"'
    return f'said=$({command} "$@" 2>&1 >/dev/null) || echo "$said" | {kept}; :'


def faults(folder: Path, name: str) -> list[str]:
    """What ``told`` has kept."""
    file = folder / f"{name}.faults"
    return file.read_text().splitlines() if file.exists() else []


def write_script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def misfits(program: str, calls: Iterable[list[str]]) -> Iterator[str]:
    """Commands and options that the reference of a program lacks which no package registry has."""
    known = _OPTIONS[program]
    for call in calls:
        command = next((word for word in call if not word.startswith("-")), "")
        if command not in known:
            yield f"{program} has no {command}: {' '.join(call)}"
            continue
        for number, word in enumerate(call):
            option = word.partition("=")[0]
            place = "" if number < call.index(command) else command
            if word.startswith("-") and option not in known[place]:
                yield f"{program} {place} has no {option}: there are {', '.join(known[place])}"
