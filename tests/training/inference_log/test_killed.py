"""A night that is killed anywhere, and run again, ends with the bytes of one that was not."""

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.nights import FIRST, fingerprint, open_duckdb, process
from tests.support.simulate import CONTAINER, Export
from training.inference_log import landing, layout
from training.inference_log.azure_export import FolderSource
from training.inference_log.duckdb_engine import DuckEngine

pytestmark = pytest.mark.stack

ROOT = Path(__file__).resolve().parents[3]
NIGHTS = [FIRST, FIRST + timedelta(days=1)]


class Killed(BaseException):
    """Stands for the end of the process: nothing may handle it."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An export of two nights and the tables of an undisturbed run: (container, tables).

    Folder ``before`` beside the tables is what they were after the first night.
    """
    home = tmp_path_factory.mktemp("whole")
    export = Export(home / "export", seed=4)
    export.messy_day(FIRST, requests=12)
    engine = open_duckdb(home / "spill", DuckEngine.part_rows)
    for night in NIGHTS:
        export.close(night)
        if night == NIGHTS[-1]:
            shutil.copytree(home / "tables", home / "before")
        process(engine, export.root / CONTAINER, home / "tables", night)
    engine.close()
    return export.root / CONTAINER, home / "tables"


def landed_only(whole, tables):
    """Tables in which the same lines were landed, and nothing else was done."""
    shutil.copytree(whole[1] / "landing", tables / "landing")


def test_killed_at_every_write_of_a_table_and_run_again(whole, tmp_path):
    expected = fingerprint(whole[1])
    kills = 0
    while True:
        tables = tmp_path / f"tables-{kills}"
        shutil.copytree(whole[1].with_name("before"), tables)
        engine = open_duckdb(tmp_path / "spill", DuckEngine.part_rows)
        real, left = engine.write, [kills]

        def write(parts, folder, order_by="", real=real, left=left):
            if left[0] == 0:
                part = folder.with_name(f".{folder.name}.part")
                part.mkdir(parents=True, exist_ok=True)
                (part / "part-0.parquet").write_bytes(b"half")
                raise Killed
            left[0] -= 1
            real(parts, folder, order_by)

        engine.write = write
        try:
            process(engine, whole[0], tables, NIGHTS[-1])
            break
        except Killed:
            kills += 1
        engine.write = real
        process(engine, whole[0], tables, NIGHTS[-1])
        engine.close()
        assert fingerprint(tables) == expected
    assert kills > 9


def test_killed_while_copying_and_run_again(whole, tmp_path):
    class Dying(FolderSource):
        def __init__(self, root, reads):
            super().__init__(root)
            self.reads = reads

        def read(self, name, start, end):
            self.reads -= 1
            if self.reads < 0:
                raise Killed
            yield from super().read(name, start, end)

    first, last = FIRST - timedelta(days=5), FIRST + timedelta(days=5)
    expected = landing.land(FolderSource(whole[0]), tmp_path / "whole", FIRST, first, last)
    for reads in (0, 1, 7, 40):
        tables = tmp_path / f"tables-{reads}"
        with pytest.raises(Killed):
            landing.land(Dying(whole[0], reads), tables, FIRST, first, last)
        assert landing.read_manifest(tables, FIRST) is None
        assert landing.land(FolderSource(whole[0]), tables, FIRST, first, last) == expected


DYING = """
import os, runpy, signal, sys

left, real = int(sys.argv[1]), os.replace

def replace(source, target):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    real(source, target)

os.replace = replace
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script until it puts a file or folder in its place for the time after so many."""


def test_job_process_that_gets_sigkill_and_runs_again(whole, tmp_path):
    tables = tmp_path / "tables"
    landed_only(whole, tables)
    config = {
        "use_case": "attrition", "nights": [night.isoformat() for night in NIGHTS], "tables": str(tables),
        "outcomes": "", "original": "", "model_name": "m", "experiment": "e",
    }  # fmt: skip
    command = [sys.executable, str(ROOT / "training/nightly_job.py"), "curate", "--run-key", "k"]
    command += ["--config", json.dumps(config)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for moves in (0, 3):
        dying = [sys.executable, "-c", DYING, str(moves), *command[1:]]
        job = subprocess.run(dying, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert job.returncode == -signal.SIGKILL, job.stdout + job.stderr
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lines read =" in done.stdout
    assert fingerprint(tables) == fingerprint(whole[1])
    assert not (tables / ".spill").exists()
    assert layout.partitions(tables, "staging") == NIGHTS
