"""The pods of the release's steps, as they are sent to the cluster."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import kubernetes_validate
import pytest
import yaml
from airflow.models.connection import Connection
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client import ApiClient
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException

from lifecycle import settings
from lifecycle.hooks import registry, targets
from lifecycle.operators import pods
from lifecycle.operators.release_step import ScoringStepOperator
from tests.support.airflow import USE_CASE, make_settings
from tests.support.golden import check_golden
from tests.support.image_names import image
from tests.support.scoring_steps import IMAGE, STEPS, context, make

GOLDEN = Path(__file__).with_name("golden")


def pod_of(operator):
    """The pod as ``execute`` would send it, without asking a cluster."""
    now = context(operator)
    operator._shape_pod(operator._work(now))
    return ApiClient().sanitize_for_serialization(operator.build_pod_request_obj(now, dry_run=True))


@pytest.fixture(autouse=True)
def clusters(connections):
    """Connections to two clusters that no test here asks."""
    for target in ("staging", "production"):
        name = f"scoring_{target}"
        connections[name] = Connection(conn_id=name, conn_type="kubernetes")
    connections["registry"] = Connection(conn_id="registry", conn_type="docker", host="registry.example.com")
    return connections


@pytest.fixture
def production(monkeypatch):
    """Production, where version 2 runs."""
    running = {"image": image("0a"), "version": "2"}
    monkeypatch.setattr(targets, "current", lambda use_case, target: running)


@pytest.mark.parametrize("name", STEPS)
def test_pod_is_the_checked_in_one_and_fits_the_schema(name):
    pod = pod_of(make(**STEPS[name], name=name))
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    check_golden(GOLDEN / f"{name}.yaml", yaml.safe_dump(pod, sort_keys=True))


@pytest.mark.parametrize("name", STEPS)
def test_every_container_of_every_pod_is_hardened(name):
    pod = pod_of(make(**STEPS[name]))
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["spec"]["activeDeadlineSeconds"] > 0
    containers = pod["spec"]["containers"] + pod["spec"].get("initContainers", [])
    assert "airflow-xcom-sidecar" in [container["name"] for container in containers]
    for container in containers:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert container["imagePullPolicy"] == "IfNotPresent"
        assert container["resources"]["limits"]


def test_only_deploying_pods_may_talk_to_the_cluster():
    for arguments in STEPS.values():
        spec = pod_of(make(**arguments))["spec"]
        step = arguments["step"]
        asks_only = step in ("verify", "watch")
        assert spec["automountServiceAccountToken"] is not asks_only
        account = "scoring-switch" if step in ("stop", "resume") else "scoring-deployer"
        assert spec["serviceAccountName"] == ("default" if asks_only else account)


def test_api_key_is_a_reference_and_never_a_value():
    key, trace = pod_of(make("verify", "staging"))["spec"]["containers"][0]["env"]
    assert trace["name"] == "TRACEPARENT"
    assert [key] == [
        {
            "name": "LIFECYCLE_API_KEY",
            "valueFrom": {"secretKeyRef": {"name": "scoring-client-key", "key": "api-key"}},
        }
    ]


def test_pod_name_follows_from_the_task_alone():
    names = [pod_of(make(**arguments, name=name))["metadata"]["name"] for name, arguments in STEPS.items()] * 2
    tasks = {name.removesuffix(".to_nothing") for name in STEPS}
    assert len(set(names)) == len(tasks)
    assert all(len(name) <= 63 for name in names)


def test_canary_may_be_watched_for_longer_than_other_tasks_may_take(monkeypatch):
    """A watch of three hours was begun again after two, three times, and then the release was given up."""
    patient = make_settings(release=settings.Release(canary_seconds=24 * 3600))
    monkeypatch.setattr(settings, "load", lambda: patient)
    usual = timedelta(hours=2)
    with DAG("attrition_release", schedule=None, default_args={"execution_timeout": usual}):
        steps = {
            step: ScoringStepOperator(
                task_id=step, use_case=USE_CASE, target="production", step=step, image=IMAGE, version="3"
            )
            for step in ("watch", "verify")
        }
    assert steps["watch"].execution_timeout > timedelta(days=1)
    assert steps["verify"].execution_timeout == usual


@pytest.mark.parametrize("step", ["deploy", "canary"])
def test_production_refuses_an_image_that_is_not_the_approved_one(production, step):
    operator = make(step, "production", approved_image=image("cc"))
    with pytest.raises(AirflowFailException, match=f"refuses {IMAGE}: the approval is for {image('cc')}"):
        operator.execute(context(operator))


@pytest.fixture
def unapproved(monkeypatch):
    """A registry with a version that nobody has approved."""
    version = registry.Version(name="m", version="3", run_id="run", tags={})
    monkeypatch.setattr(registry, "resolve", lambda use_case, number: version)


@pytest.mark.parametrize("step", ["deploy", "canary", "restore"])
def test_production_refuses_what_was_never_approved(production, unapproved, step):
    operator = make(step, "production", approved_image=IMAGE)
    with pytest.raises(AirflowFailException, match="version 3 of model m was never approved for production with image"):
        operator.execute(context(operator))


def test_connection_of_another_type_is_refused_with_the_allowed_ones(clusters):
    clusters["scoring_staging"] = Connection(conn_id="scoring_staging", conn_type="http")
    operator = make("deploy", "staging")
    with pytest.raises(AirflowFailException, match="has type 'http': use kubernetes or gunicorn"):
        operator.execute(context(operator))


def container(restarts=0, started=None, ended=False):
    state = k8s.V1ContainerState(
        running=k8s.V1ContainerStateRunning(started_at=datetime.fromtimestamp(started, UTC)) if started else None,
        terminated=k8s.V1ContainerStateTerminated(exit_code=1) if ended else None,
    )
    return k8s.V1ContainerStatus(
        name="scoring", image="i", image_id="i", ready=True, restart_count=restarts, state=state
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(container(started=50), False, id="never restarted"),
        pytest.param(container(restarts=1, started=50), False, id="restarted long ago"),
        pytest.param(container(restarts=1, started=150), True, id="restarted meanwhile"),
        pytest.param(container(started=150), False, id="a new pod of the autoscaler"),
        pytest.param(container(restarts=1), True, id="waiting to be started again"),
        pytest.param(container(ended=True), True, id="just ended"),
    ],
)
def test_restart_is_told_from_the_start_of_the_container(status, expected):
    assert pods.restarted_since(status, 100.0) is expected


def test_container_that_waits_is_named_with_its_image_and_the_clusters_reason():
    def status(name, reason, message=None):
        state = k8s.V1ContainerState(waiting=k8s.V1ContainerStateWaiting(reason=reason, message=message))
        return k8s.V1ContainerStatus(name=name, image=IMAGE, image_id="", ready=False, restart_count=0, state=state)

    pulled = status("manifests", "ErrImagePull", "dial tcp: lookup registry.example.com: no such host")
    found = k8s.V1PodStatus(init_container_statuses=[pulled], container_statuses=[status("base", "PodInitializing")])
    assert pods.waiting(k8s.V1Pod(status=found)) == (
        f"manifests ({IMAGE}): ErrImagePull: dial tcp: lookup registry.example.com: no such host"
    )
    assert pods.waiting(None) == ""


def test_pod_that_no_node_has_room_for_says_so():
    full = k8s.V1PodCondition(
        type="PodScheduled", status="False", reason="Unschedulable", message="0/3 nodes are available: Insufficient cpu"
    )
    found = k8s.V1Pod(status=k8s.V1PodStatus(conditions=[full]))
    assert pods.waiting(found) == "Unschedulable: 0/3 nodes are available: Insufficient cpu"


REFUSALS = {
    "forbidden: exceeded quota: small": '{"message": "forbidden: exceeded quota: small"}',
    "403 Forbidden": "<html>a proxy's own words</html>",
}


@pytest.mark.parametrize("said", REFUSALS)
def test_pod_that_the_cluster_refuses_fails_with_its_reason_alone_and_may_be_tried_again(monkeypatch, said):
    """The client's own text is twelve lines of HTTP headers."""

    def refuse(*arguments, **named):
        raise ApiException(
            http_resp=SimpleNamespace(status=403, reason="Forbidden", data=REFUSALS[said], getheaders=dict)
        )

    monkeypatch.setattr(KubernetesPodOperator, "get_or_create_pod", refuse)
    monkeypatch.setattr(ScoringStepOperator, "_is_ending", lambda *_: False)
    pod = k8s.V1Pod(metadata=k8s.V1ObjectMeta(name="deploy", namespace="staging"))
    with pytest.raises(AirflowException) as raised:
        make("deploy", "staging").get_or_create_pod(pod, {})
    assert str(raised.value) == f"Kubernetes refuses the pod deploy of deploy at staging: {said}"
    assert not isinstance(raised.value, AirflowFailException)


def reentered(monkeypatch, operator, report, error=None):
    """Resume a task whose pod has ended with this report."""

    def ended(self, now, event):
        self._report = report
        if error:
            raise AirflowException(error)

    monkeypatch.setattr("airflow.providers.cncf.kubernetes.operators.pod.KubernetesPodOperator.trigger_reentry", ended)
    now = context(operator)
    return now, lambda: operator.trigger_reentry(now, {})


def test_failed_check_fails_the_task_with_its_detail_and_keeps_the_report(monkeypatch):
    checks = [{"name": "golden answers", "passed": False, "detail": "example 0 should be 0.1, is 0.4"}]
    report = {"passed": False, "checks": checks}
    now, resume = reentered(monkeypatch, make("verify", "staging"), report, "Pod returned a failure.")
    with pytest.raises(AirflowFailException, match=r"golden answers: example 0 should be 0\.1"):
        resume()
    assert now["ti"].pushed["return_value"] == report


def test_failed_rollout_fails_the_task_with_the_pods_reason(monkeypatch):
    report = {"passed": False, "error": "CrashLoopBackOff\nundone: version 2 runs as before"}
    _, resume = reentered(monkeypatch, make("deploy", "staging"), report, "Pod returned a failure.")
    with pytest.raises(AirflowFailException, match="deploy at staging failed: CrashLoopBackOff"):
        resume()


def test_pod_that_never_ran_may_be_tried_again(monkeypatch):
    _, resume = reentered(monkeypatch, make("deploy", "staging"), None, "ErrImagePull")
    with pytest.raises(AirflowException, match="ErrImagePull") as raised:
        resume()
    assert not isinstance(raised.value, AirflowFailException)


def test_pod_that_vanished_with_its_report_says_what_to_do(monkeypatch):
    _, resume = reentered(monkeypatch, make("deploy", "staging"), None)
    with pytest.raises(AirflowException, match="clear the task to do it again"):
        resume()


def test_successful_report_is_returned_and_pushed(monkeypatch):
    report = {"image": IMAGE, "version": "3", "since": "now", "previous": None}
    now, resume = reentered(monkeypatch, make("deploy", "staging"), report)
    assert resume() == report
    assert now["ti"].pushed["return_value"] == report
