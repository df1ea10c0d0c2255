"""How ``k8s/switch.sh`` waits for the pods, with a stand-in for kubectl that says what cluster and servers say."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "k8s" / "switch.sh"
SAID = {"reason": "wrong data", "by": "ann", "since": "2026-11-26T10:00:00Z"}
STOPPED, GOES_ON = {"stopped": {"reason": "wrong data", "since": SAID["since"]}}, {"stopped": None}
STAND_IN = """#!/bin/bash
cd "$STATE" || exit 1
case "$*" in
  *"get --raw /version"*) address=${2#--server=http://}; cat "${address%:*}.json" ;;
  *"get pods"*) if [ -e fails ]; then rm fails; exit 1; fi; cat pods.json ;;
  *patch*) echo "${*: -1}" >patch ;;
esac
"""

pytestmark = [pytest.mark.tools("jq"), pytest.mark.timeout(60)]


def pod(name: str, phase: str = "Running", address: str | None = None, node: str | None = "node-1") -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"nodeName": node, "containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": phase, "podIP": address},
    }


def switch(
    folder: Path, step: str, pods: list[dict[str, Any]], said: dict[str, Any], fails: bool = False, timeout: int = 0
) -> dict[str, Any]:
    """The report of one run; ``said``: what the server at each address says, ``fails``: the first list of pods does."""
    state = folder / "state"
    state.mkdir()
    (folder / "kubectl").write_text(STAND_IN)
    (folder / "kubectl").chmod(0o755)
    (state / "pods.json").write_text(json.dumps({"items": pods}))
    for address, version in said.items():
        (state / f"{address}.json").write_text(json.dumps(version))
    if fails:
        (state / "fails").touch()
    environ = {
        "PATH": f"{folder}:{os.environ['PATH']}", "STATE": str(state), "STEP": step, "NAMESPACE": "n",
        "SAID": json.dumps(SAID), "TIMEOUT": str(timeout), "REPORT": str(folder / "report.json"),
        "TERMINATION": str(folder / "termination"),
    }  # fmt: skip
    # As the pod gets it: there is no file.
    run = subprocess.run(["bash", "-c", SCRIPT.read_text()], env=environ, capture_output=True, text=True)
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    assert (run.returncode == 0) == ("error" not in report), run.stdout + run.stderr
    return report


def test_stop_is_done_when_every_pod_says_so(tmp_path: Path) -> None:
    pods = [pod("a", address="10.0.0.1"), pod("b", address="10.0.0.2"), pod("old", "Succeeded", "10.0.0.3")]
    report = switch(tmp_path, "stop", pods, {"10.0.0.1": STOPPED, "10.0.0.2": STOPPED})
    assert report == {"step": "stop", "said": SAID}
    patch = json.loads((tmp_path / "state" / "patch").read_text())
    assert json.loads(patch["data"]["stop.json"]) == SAID


@pytest.mark.parametrize(
    "version", [GOES_ON, {"stopped": {"reason": "earlier", "since": "2020"}}, {"service": "of before"}, None], ids=str
)
def test_pods_that_do_not_stop_in_time_are_named(tmp_path: Path, version: Any) -> None:
    said = {"10.0.0.1": STOPPED} | ({"10.0.0.2": version} if version else {})  # it does not answer at all
    report = switch(tmp_path, "stop", [pod("a", address="10.0.0.1"), pod("b", address="10.0.0.2")], said)
    assert report["passed"] is False
    assert report["error"].strip().endswith("after 0 s these pods have not taken it up (stop): b")


def test_list_of_pods_that_fails_once_is_asked_for_again(tmp_path: Path) -> None:
    pods = [pod("a", address="10.0.0.1")]
    assert "(stop): a" in switch(tmp_path, "stop", pods, {"10.0.0.1": GOES_ON}, fails=True, timeout=1)["error"]


def test_list_of_pods_that_fails_to_the_end_is_no_success(tmp_path: Path) -> None:
    report = switch(tmp_path, "stop", [pod("a", address="10.0.0.1")], {"10.0.0.1": STOPPED}, fails=True)
    assert "could not be listed" in report["error"]


def test_pod_that_is_being_prepared_may_have_mounted_what_was_said_before(tmp_path: Path) -> None:
    """One that no node has taken yet mounts what is said now."""
    pods = [pod("a", address="10.0.0.1"), pod("coming", "Pending"), pod("waiting", "Pending", node=None)]
    assert "(stop): coming" in switch(tmp_path, "stop", pods, {"10.0.0.1": STOPPED})["error"]


def test_resume_waits_for_those_that_run(tmp_path: Path) -> None:
    pods = [pod("a", address="10.0.0.1"), pod("coming", "Pending")]
    assert "error" not in switch(tmp_path, "resume", pods, {"10.0.0.1": GOES_ON})
    assert json.loads((tmp_path / "state" / "patch").read_text()) == {"data": {"stop.json": None}}


def test_resume_names_those_that_are_still_stopped(tmp_path: Path) -> None:
    assert "(resume): a" in switch(tmp_path, "resume", [pod("a", address="10.0.0.1")], {"10.0.0.1": STOPPED})["error"]
