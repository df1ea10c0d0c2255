"""Set-up as a whole, on machines that lack something: what only Linux has, Python 3.11, uv, a network.

Each runs ``make setup`` in a small clone whose requirements are the pinned uv and one little package.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from embedded import setup
from tests.support import managed_python

ROOT = setup.ROOT
PACKAGE = "a2wsgi"
TOOLS = ("sh", "make", "awk", "dirname", "basename", "uname", "env", "ldd", "cat")
UV = str(Path(sys.executable).with_name("uv"))
ADVICE = "install it (macOS: brew install python@3.11; Debian, Ubuntu: apt-get install python3.11-venv)"


@pytest.fixture
def clone(tmp_path):
    """What set-up needs of the clone."""
    folder = tmp_path / "clone"
    for name in ("Makefile", "embedded/__init__.py", "embedded/setup.py", "embedded/python.sh"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    requirements = (ROOT / "requirements.txt").read_text()
    pins = [setup.pinned(requirements, package) for package in (PACKAGE, "uv")]
    (folder / "requirements.txt").write_text("".join(pins))
    return folder


@pytest.fixture
def path(tmp_path):
    """A ``PATH`` with the tools that every system has, and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    return folder


def make_setup(clone, python, **variables):
    environ = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "MAKEFLAGS")}
    return subprocess.run(
        ["make", "--no-print-directory", "setup", "VENV=.venv", f"PYTHON={python}"],
        cwd=clone, env=environ | {name: str(value) for name, value in variables.items()},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200,
    )  # fmt: skip


def in_environment(clone, program):
    done = subprocess.run([clone / ".venv" / "bin" / "python", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.network
def test_set_up_needs_nothing_that_only_linux_has(clone):
    shutil.copy(ROOT / "tests" / "other_system" / "sitecustomize.py", clone)
    done = make_setup(clone, sys.executable)
    assert done.returncode == 0, done.stderr
    assert "the environment is ready" in done.stdout
    assert in_environment(clone, f"import {PACKAGE}; print('imported')") == "imported"
    again = make_setup(clone, sys.executable)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


@pytest.mark.network
def test_where_python_is_missing_set_up_takes_a_managed_one_and_says_so(clone, path, tmp_path):
    (path / "uv").symlink_to(UV)
    variables = managed_python.mirror(tmp_path, UV)
    done = make_setup(clone, "no-such-python", PATH=path, **variables)
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert "'no-such-python' is not a Python 3.11 that can make environments: uv installs a managed one" in said
    assert f"set-up takes {variables['UV_PYTHON_INSTALL_DIR']}" in done.stderr
    base = in_environment(clone, f"import sys, {PACKAGE}; print(sys.base_prefix)")
    assert base.startswith(variables["UV_PYTHON_INSTALL_DIR"])
    again = make_setup(clone, "no-such-python", PATH=path)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


@pytest.mark.network
def test_where_uv_is_missing_another_python_makes_it_beside_the_environment(clone, path, tmp_path):
    (path / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (path / "python3").chmod(0o755)
    variables = managed_python.mirror(tmp_path, UV)
    done = subprocess.run(
        ["sh", "embedded/python.sh", "no-such-python", ".venv"],
        cwd=clone, env=os.environ | {"PATH": str(path), **variables}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(variables["UV_PYTHON_INSTALL_DIR"])
    assert (clone / ".venv-uv" / "bin" / "uv").exists()


def test_without_a_network_it_says_what_to_install(clone, path, tmp_path):
    (path / "uv").symlink_to(UV)
    places = {"UV_PYTHON_INSTALL_DIR": tmp_path / "pythons", "UV_PYTHON_PREFERENCE": "only-managed"}
    done = make_setup(clone, "no-such-python", PATH=path, UV_OFFLINE=1, **places)
    assert done.returncode != 0
    assert ADVICE in done.stderr
    assert not (clone / ".venv").exists()


def test_without_any_python_it_says_what_to_install_in_one_line(clone, path):
    done = make_setup(clone, "no-such-python", PATH=path)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1
    assert said[0].startswith("Python 3.11 is needed, 'no-such-python' is not it")
    assert ADVICE in said[0]
