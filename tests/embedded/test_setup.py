"""The set-up of the Python environment; making a whole one is CI's first step."""

import platform
import shutil
import sys
from types import SimpleNamespace

import pytest

from embedded import setup

REQUIREMENTS = """\
# compiled
uv==0.13.8 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via -r requirements.in
uvicorn==1.0 \\
    --hash=sha256:cc
"""


def test_pin_of_a_package_comes_with_its_hashes_and_nothing_else():
    assert setup.pinned(REQUIREMENTS, "uv") == "uv==0.13.8 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"


def test_package_without_a_pin_is_named():
    with pytest.raises(setup.SetupError, match="does not pin flask: run `make lock`"):
        setup.pinned(REQUIREMENTS, "flask")


def test_project_pins_its_installer():
    assert "--hash=sha256:" in setup.pinned((setup.ROOT / "requirements.txt").read_text(), "uv")


def test_environment_is_current_until_its_requirements_change(tmp_path):
    assert not setup.is_current(tmp_path, REQUIREMENTS)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (tmp_path / ".requirements.sha256").write_text(setup._digest(REQUIREMENTS))
    assert setup.is_current(tmp_path, REQUIREMENTS)
    assert not setup.is_current(tmp_path, REQUIREMENTS + "new==1\n")


def test_too_little_disk_stops_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100 * 2**20))
    with pytest.raises(setup.SetupError, match="100 MiB of disk are free"):
        setup.make(tmp_path / "venv", setup.ROOT / "requirements.txt")
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(
    ("system", "machine", "release", "said"),
    [
        ("Darwin", "x86_64", "15.1", "onnxruntime has no package for a Mac with x86_64"),
        ("Darwin", "arm64", "13.6.1", "onnxruntime needs macOS 14 or newer, this is 13.6.1"),
        ("Windows", "AMD64", "", "runs on Linux and macOS, not on Windows: on Windows, use WSL 2"),
    ],
)
def test_system_without_packages_is_told_in_one_line_before_anything_is_made(
    tmp_path, monkeypatch, capsys, system, machine, release, said
):
    _pretend(monkeypatch, system, machine, release)
    monkeypatch.setattr(sys, "argv", ["setup", str(tmp_path / "venv")])
    assert setup.main() == 1
    told = capsys.readouterr()
    assert said in told.err
    assert len(told.err.splitlines()) == 1
    assert told.out == ""
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_linux_is_let_through(monkeypatch, machine):
    _pretend(monkeypatch, "Linux", machine, "")
    setup._check_system()


@pytest.mark.parametrize("release", ["14.0", "26.1"])
def test_mac_with_apple_silicon_is_let_through(monkeypatch, release):
    _pretend(monkeypatch, "Darwin", "arm64", release)
    setup._check_system()


def _pretend(monkeypatch, system, machine, release):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "mac_ver", lambda: (release, ("", "", ""), machine))
