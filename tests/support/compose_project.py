"""Docker Compose as a command: the plugin of this machine's docker, or the pinned package, and one project of it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PINS = ROOT / "tests" / "compose" / "compose-cli.txt"


def find(scratch: Path) -> list[str]:
    """The command's first words. Without a plugin the package is installed into ``scratch`` (20 MB)."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*install, "--target", str(scratch), "-r", str(PINS)], check=True)
    return [str(scratch / "compose" / "docker-compose")]


@dataclass(frozen=True)
class Project:
    """A compose project with some files and variables."""

    command: list[str]
    name: str
    files: list[Path]
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, ok: bool = True, seconds: float = 600) -> subprocess.CompletedProcess[str]:
        """``docker compose ARGUMENTS``; a failure is shown with its output unless ``ok`` is false."""
        files = [word for file in self.files for word in ("-f", str(file))]
        done = subprocess.run(
            [*self.command, "--project-name", self.name, "--project-directory", str(ROOT), *files, *arguments],
            # Without buildx there is nothing but the engine's own builder.
            env={**os.environ, "DOCKER_BUILDKIT": "0", **self.variables}, cwd=ROOT,
            capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        assert done.returncode == 0 or not ok, f"{arguments}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done

    def inside(self, service: str, *command: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in a service's running container."""
        return self.run("exec", "-T", service, *command, ok=ok)

    def config(self) -> dict[str, Any]:
        """The project as compose understands it."""
        found: dict[str, Any] = json.loads(self.run("config", "--format", "json").stdout)
        return found

    def states(self) -> dict[str, dict[str, Any]]:
        """Service to what ``docker compose ps`` says of its container."""
        lines = self.run("ps", "--all", "--format", "json").stdout.splitlines()
        return {entry["Service"]: entry for entry in map(json.loads, lines)}
