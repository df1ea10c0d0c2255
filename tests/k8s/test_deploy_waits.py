"""How ``k8s/deploy.sh`` follows a rollout, with a stand-in for kubectl that says what a cluster says."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.k8s.test_deploy_variables import SCRIPT, SOUND
from tests.support.image_names import digest
from tests.support.machine import eventually

KUBECTL = Path(__file__).resolve().parents[1] / "support" / "kubectl.sh"
MINE = {"lifecycle/digest": digest("aa")}

pytestmark = [pytest.mark.tools("kubectl", "jq"), pytest.mark.timeout(60)]


def deployment(made=0, ready=0, generation=2, **conditions):
    """A Deployment of two pods; conditions by type, as status, reason and message."""
    listed = [
        {"type": name, "status": status, "reason": reason, "message": message}
        for name, (status, reason, message) in conditions.items()
    ]
    status = {"observedGeneration": generation, "updatedReplicas": made, "replicas": made, "availableReplicas": ready}
    return {
        "metadata": {"generation": 2},
        "spec": {"replicas": 2},
        "status": {**status, "conditions": listed},
    }


def pod(reason, message="", restarts=0, **status):
    waiting = {"reason": reason, "message": message}
    container = {
        "name": "scoring",
        "ready": False,
        "restartCount": restarts,
        "imageID": "",
        "state": {"waiting": waiting},
    }
    return {
        "metadata": {"name": "scoring-1", "annotations": MINE},
        "status": {"containerStatuses": [container] if reason else [], **status},
    }


def replica_set(**conditions):
    found = deployment(**conditions)
    metadata = {"name": "scoring-abc", "creationTimestamp": "2026-11-26T10:00:00Z"}
    return {**found, "metadata": metadata, "spec": {"template": {"metadata": {"annotations": MINE}}}}


def events(*messages):
    return {"items": [{"type": "Warning", "reason": "FailedCreate", "message": message} for message in messages]}


class Rollout:
    """One run of the script in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir()
        (folder / "bin").mkdir()
        (folder / "bin" / "kubectl").symlink_to(KUBECTL)
        shutil.copytree(SCRIPT.parent, folder / "k8s")

    def say(self, **kinds):
        """What the cluster answers about each kind of object; a text is an error."""
        for kind, answer in kinds.items():
            name = kind.replace("__", "-")
            if isinstance(answer, str):
                (self.state / f"{name}.error").write_text(answer)
            else:
                (self.state / f"{name}.json").write_text(
                    json.dumps({"items": answer} if isinstance(answer, list) else answer)
                )

    def start(self, **variables):
        given = {
            **SOUND,
            "TIMEOUT": "30",
            "PACE": "0.2",
            "PATIENCE": "1",
            **variables,
            "STATE": str(self.state),
            "KUBECTL": shutil.which("kubectl"),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "REPORT": str(self.folder / "report"),
            "TERMINATION": str(self.folder / "termination"),
        }
        command = ["bash", str(self.folder / "k8s" / "deploy.sh")]
        return subprocess.Popen(command, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, **variables):
        """Seconds that it took, and the first line of its reason (the report, where it succeeded)."""
        began = time.monotonic()
        process = self.start(**variables)
        self.output, _ = process.communicate(timeout=50)
        report = json.loads((self.folder / "report").read_text())
        assert (process.returncode == 0) == ("error" not in report), self.output
        self.reason = report.get("error", "")
        return time.monotonic() - began, report

    def calls(self, what):
        return [line for line in (self.state / "calls").read_text().splitlines() if what in line]


@pytest.fixture
def rollout(tmp_path):
    return Rollout(tmp_path)


REFUSALS = {
    "quota": 'pods "scoring-abc-x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2',
    "webhook": 'Internal error occurred: failed calling webhook "policy.example.com": connection refused',
    "service account": 'pods "scoring-abc-" is forbidden: error looking up service account a/scoring: not found',
}


@pytest.mark.parametrize("message", REFUSALS.values(), ids=REFUSALS)
def test_rollout_whose_pods_are_never_made_is_given_up_and_explained_by_what_should_make_them(rollout, message):
    """kubernetes/kubernetes#96634: no pod is ever there, so no pod can say why."""
    failed = ("True", "FailedCreate", message)
    rollout.say(
        deployment=deployment(
            ReplicaFailure=failed, Progressing=("True", "NewReplicaSetCreated", "Created scoring-abc")
        ),
        replicasets=[replica_set(ReplicaFailure=failed)],
        replicaset=replica_set(ReplicaFailure=failed),
        **{"events-ReplicaSet-scoring-abc": events(f"Error creating: {message}")},
    )
    seconds, _ = rollout.run()
    assert seconds < 10
    assert rollout.reason.startswith(f"ReplicaFailure: FailedCreate: {message}")
    assert f"Warning FailedCreate: Error creating: {message}" in rollout.reason
    assert f"ReplicaFailure=True FailedCreate: {message}" in rollout.reason
    assert "undone: nothing runs as before" in rollout.reason


HOPELESS = {
    "crash loop": (pod("CrashLoopBackOff", "back-off 20s restarting", 2), "scoring-1: CrashLoopBackOff: back-off 20s"),
    "no pull": (pod("ErrImageNeverPull", "image is not present"), "scoring-1: ErrImageNeverPull: image is not present"),
    "secret": (
        pod("CreateContainerConfigError", 'secret "k" not found'),
        'scoring-1: CreateContainerConfigError: secret "k"',
    ),
    "pull": (pod("ImagePullBackOff", "Back-off pulling"), "scoring-1: ImagePullBackOff: Back-off pulling"),
}


@pytest.mark.parametrize(("found", "reason"), HOPELESS.values(), ids=HOPELESS)
def test_rollout_whose_pod_cannot_run_is_given_up_early(rollout, found, reason):
    rollout.say(deployment=deployment(made=1), pods=[found])
    seconds, _ = rollout.run()
    assert seconds < 10
    assert rollout.reason.startswith(reason)


def test_rollout_that_the_cluster_has_given_up_is_not_waited_for(rollout):
    late = ("False", "ProgressDeadlineExceeded", 'ReplicaSet "scoring-abc" has timed out progressing.')
    rollout.say(deployment=deployment(made=1, Progressing=late))
    seconds, _ = rollout.run(PATIENCE="20")
    assert seconds < 10
    assert rollout.reason.startswith("ProgressDeadlineExceeded: ReplicaSet")


def test_condition_of_the_former_rollout_says_nothing_of_this_one(rollout):
    late = ("False", "ProgressDeadlineExceeded", "of yesterday")
    rollout.say(deployment=deployment(generation=1, Progressing=late))
    rollout.run(TIMEOUT="2")
    assert rollout.reason.startswith("not ready within 2 s: the cluster has not taken up the change")


def test_fault_that_passes_is_waited_for(rollout):
    rollout.say(
        deployment=deployment(made=1, ReplicaFailure=("True", "FailedCreate", "quota")),
        **{"deployment.next": deployment(made=2, ready=2)},
    )
    _, report = rollout.run(PATIENCE="20")
    assert (report["image"], report["version"], report["previous"]) == (SOUND["IMAGE"], "3", None)
    assert "digest" not in report


def test_pod_that_no_node_has_room_for_is_named_when_the_time_is_over(rollout):
    unschedulable = {"type": "PodScheduled", "reason": "Unschedulable", "message": "0/3 nodes: Insufficient cpu"}
    rollout.say(deployment=deployment(made=1), pods=[pod("", conditions=[unschedulable])])
    rollout.run(TIMEOUT="2")
    assert rollout.reason.startswith("not ready within 2 s: scoring-1: Unschedulable: 0/3 nodes: Insufficient cpu")


def test_cluster_that_does_not_answer_is_asked_at_a_pace_and_named(rollout):
    """A kubectl that fails at once made a busy loop."""
    rollout.say(deployment="Unable to connect to the server: connection refused")
    rollout.run(TIMEOUT="3", PACE="1")
    assert rollout.reason.startswith("not ready within 3 s: kubectl: Unable to connect to the server")
    assert 2 <= len(rollout.calls("get deployment scoring")) <= 6


def test_rollout_that_is_told_to_stop_is_undone_at_once(rollout):
    """A pod that is deleted has 45 s; the script once heard of it only when it had waited to the end."""
    rollout.say(deployment=deployment(made=1))
    process = rollout.start()
    assert eventually(lambda: (rollout.state / "calls").exists() and len(rollout.calls("get deployment scoring")) > 1)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert time.monotonic() - began < 10
    assert process.returncode == 1
    assert "stopped before the end" in (rollout.folder / "termination").read_text()


def test_script_that_is_told_to_stop_at_its_beginning_rolls_nothing_out(rollout):
    """As the first process of its container it passed the signal over, and was killed in the middle of a rollout."""
    (rollout.state / "kustomize.term").touch()
    rollout.run()
    assert rollout.reason == "stopped before the end\nnothing was changed\n"
    assert not (rollout.state / "calls").exists(), "nothing was asked of the cluster"


@pytest.mark.parametrize(
    ("image_id", "reason"),
    [
        (f"docker://{digest('bb')}", "the image in this cluster is docker://sha256:bb"),
        (None, "no pod says what it runs"),
    ],
)
def test_image_of_an_engine_is_compared_with_what_runs(rollout, image_id, reason):
    running = pod("Running")
    running["status"]["containerStatuses"][0] |= {"imageID": image_id, "state": {"running": {}}}
    rollout.say(deployment=deployment(made=2, ready=2), pods=[running] if image_id else [])
    rollout.run(IMAGE=digest("aa"))
    assert reason in rollout.reason.splitlines()[0]


def test_record_of_0_1_0_is_read_as_one_image(rollout):
    kept = {"image": "scoring:v1-0123-cccccccccccc", "digest": digest("cc"), "version": "1", "previous": "null"}
    rollout.say(deployment=deployment(made=2, ready=2), configmap={"data": kept})
    _, report = rollout.run()
    assert report["previous"] == {"image": digest("cc"), "version": "1"}


OURS = "deployment,service,serviceaccount,configmap,ingress,horizontalpodautoscaler,poddisruptionbudget"
NO_ANSWER = "Unable to connect to the server: connection refused"


def test_manifest_that_cannot_be_read_deletes_nothing_of_what_runs(rollout):
    """One request that failed made the list empty of what is to stay."""
    running = [{"kind": "Deployment", "metadata": {"name": "scoring"}}]
    rollout.say(deployment=deployment(made=2, ready=2), create=NO_ANSWER, **{OURS: running})
    _, report = rollout.run()
    assert report["version"] == "3"
    assert rollout.calls("delete") == []
    assert "could not be removed" in rollout.output


def test_record_that_cannot_be_read_deletes_nothing_of_what_ran(rollout):
    running = [{"kind": "Deployment", "metadata": {"name": "scoring"}}]
    late = ("False", "ProgressDeadlineExceeded", "timed out")
    rollout.say(deployment=deployment(made=1, Progressing=late), **{"configmap.later": NO_ANSWER, OURS: running})
    rollout.run()
    assert rollout.reason.startswith("ProgressDeadlineExceeded")
    assert "what ran before could not be restored" in rollout.reason
    assert rollout.calls("delete") == []


def test_image_of_an_engine_is_not_taken_for_the_right_one_where_nobody_says_what_runs(rollout):
    rollout.say(deployment=deployment(made=2, ready=2), pods=NO_ANSWER)
    rollout.run(IMAGE=digest("aa"))
    assert "its pods could not be listed" in rollout.reason.splitlines()[0]
