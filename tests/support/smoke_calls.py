"""What steps of a smoke run call, with stand-ins for all programs."""

import os
from collections.abc import Sequence
from pathlib import Path

from delivery.smoke import local
from delivery.smoke.cloud import Given
from delivery.smoke.programs import Programs
from delivery.smoke.state import Home
from training.use_case import load


def calls_of(folder: Path, program: str, steps: Sequence[str], table: str = "content\n") -> list[list[str]]:
    """The arguments of each call of ``program``, in the order of ``steps``; ``table`` is what they upload."""
    path = f"{local.write_stand_ins(folder, 1)}{os.pathsep}/usr/bin:/bin"
    for name, content in {"rows.csv": table, "key.json": "content\n", "tokens.json": "content\n"}.items():
        (folder / name).write_text(content)
    programs = Programs(folder / "programs.log", lambda: 60.0, {**os.environ, "PATH": path})
    given = Given(
        variables=folder, backend=folder, approval_key=folder / "key.json", repository="https://example.com/x.git",
        dags_connection=folder / "tokens.json", data=folder / "rows.csv",
    )  # fmt: skip
    cloud = local.DryCloud(given, load("attrition"), Home(folder / "home"), programs, stack=None, say=str)
    for step in steps:
        getattr(cloud, step)()
    lines = (folder / "calls").read_text().splitlines()
    return [line.split()[1:] for line in lines if line.startswith(f"{program} ")]
