"""``python -m delivery.lint PROGRAMS``: workflows, pipelines and Dockerfiles, by the programs of
``requirements-lint.txt``.

``PROGRAMS`` is the folder that holds them. None needs a network. Ends with code 1 where one of them finds something.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIPELINES = "delivery/azure-pipelines.yaml"


def commands(root: Path = ROOT) -> list[list[str]]:
    """Each program with its arguments; paths are relative to ``root``."""
    workflows = _found(root, ".github/workflows/*.yaml")
    schema = ["check-jsonschema", "--builtin-schema"]
    return [
        ["actionlint", *workflows],
        ["zizmor", "--offline", "--quiet", "--no-progress", *workflows],
        [*schema, "vendor.github-workflows", *workflows],
        # The schema has patterns that the default engine for regular expressions refuses.
        [*schema, "vendor.azure-pipelines", "--regex-variant", "python", PIPELINES],
        ["hadolint", *_found(root, "*/Dockerfile"), *_found(root, "tests/**/Dockerfile")],
    ]


def _found(root: Path, pattern: str) -> list[str]:
    found = sorted(path.relative_to(root).as_posix() for path in root.glob(pattern))
    if not found:
        raise FileNotFoundError(f"nothing in {root} is called {pattern}")
    return found


def problems(programs: Path, root: Path = ROOT) -> list[str]:
    """What the programs in a folder say of the files below ``root``; empty where nothing is wrong."""
    said = []
    for name, *arguments in commands(root):
        done = subprocess.run([programs.resolve() / name, *arguments], cwd=root, capture_output=True, text=True)
        if done.returncode:
            said.append(f"{name}:\n{done.stdout}{done.stderr}")
    return said


def main(arguments: Sequence[str]) -> int:
    """Print what is wrong; returns the code to end with."""
    said = problems(Path(arguments[0]))
    sys.stdout.writelines(said)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
