"""The lock has a wheel of every package for each system that the project is meant for."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from embedded.setup import MIN_MACOS

ROOT = Path(__file__).resolve().parents[1]
PLATFORMS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin")
# All but requirements-spark.txt: PySpark comes as source alone, which is Python and Java.
SMALLER_LOCKS = ("serving/requirements.txt", "training/requirements.txt")  # compose's: tests/compose


def _resolved(lock: str, target: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What an installation from the lock would do on another system; nothing but wheels, nothing without a hash."""
    installation = [sys.executable, "-m", "uv", "pip", "install", "--dry-run", "--target", str(folder)]
    system = ["--python-version", "3.11", "--python-platform", target]
    command = [*installation, *system, "--only-binary", ":all:", "--require-hashes", "-r", lock]
    environ = os.environ | {"MACOSX_DEPLOYMENT_TARGET": f"{MIN_MACOS}.0"}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)


@pytest.mark.network
@pytest.mark.parametrize("target", PLATFORMS)
def test_every_package_has_a_wheel(target: str, tmp_path: Path) -> None:
    done = _resolved("requirements.txt", target, tmp_path)
    assert done.returncode == 0, done.stderr
    packages = len(re.findall(r"^ \+ ", done.stderr, re.MULTILINE))
    assert packages > 300


@pytest.mark.network
def test_package_without_a_wheel_is_found(tmp_path: Path) -> None:
    """The reason why set-up refuses Macs with Intel processors."""
    done = _resolved("serving/requirements.txt", "x86_64-apple-darwin", tmp_path)
    assert done.returncode != 0
    assert "onnxruntime" in done.stderr


def _pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize("extra", ["entra", "otlp"])
def test_optional_requirements_of_the_image_follow_the_same_pins(extra: str) -> None:
    whole, image, ours = (
        _pins(name) for name in ("requirements.txt", "serving/requirements.txt", f"serving/requirements-{extra}.txt")
    )
    assert ours
    assert {name: pin for name, pin in ours.items() if whole.get(name) != pin or image.get(name, pin) != pin} == {}
    assert not ours.keys() <= image.keys(), "the image holds them already"


@pytest.mark.parametrize("name", ["requirements-azure-check", "requirements-az", "requirements-lint"])
def test_programs_that_only_check_are_locked_with_hashes_apart_from_what_runs(name: str) -> None:
    wanted = _pins(f"{name}.in")
    assert wanted
    assert wanted.keys() & _pins("requirements.txt").keys() == set()
    assert wanted.items() <= _pins(f"{name}.txt").items()
    pinned = re.split(r"^(?=[\w.-]+==)", (ROOT / f"{name}.txt").read_text(), flags=re.MULTILINE)[1:]
    assert [entry for entry in pinned if "--hash=sha256:" not in entry] == []
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"\$\(call apart,\S+,{name}\.txt\)", makefile), "an environment of its own"
    assert "--require-hashes" in makefile.partition("apart = ")[2].partition("\n\n")[0]


def test_every_build_runs_the_checks_of_the_infrastructure_and_a_smoke_run_with_stand_ins() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert re.search(r'^beside="[^"]*\bazure-check\b', script, re.MULTILINE)
    assert re.search(r"make \$beside$", script, re.MULTILINE)
    assert "make azure-smoke DRY=yes\n" in script


@pytest.mark.parametrize("lock", SMALLER_LOCKS)
def test_smaller_locks_are_part_of_the_one_that_is_resolved(lock: str) -> None:
    whole, ours = _pins("requirements.txt"), _pins(lock)
    assert "onnxruntime" in ours
    assert {name: pin for name, pin in ours.items() if whole.get(name) != pin and name != "gunicorn"} == {}


def test_image_has_the_gunicorn_that_mlflow_holds_back_elsewhere() -> None:
    pins = [_pins(lock)["gunicorn"].split(".") for lock in ("requirements.txt", "serving/requirements.txt")]
    assert [int(major) for major, *_ in pins] == [26, 27]
