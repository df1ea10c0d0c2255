"""The pods that do a release's steps inside the target cluster.

All of them meet the restricted pod security standard, mount no more than they need, and only the deploy
pods can talk to the cluster's API, as the service account of ``k8s/rbac``.
"""

import json
import shlex
from pathlib import Path
from typing import Any

import msgspec
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from kubernetes.utils import parse_quantity

from lifecycle import images, settings
from lifecycle.hooks import targets
from lifecycle.operators.steps import SWITCH_SECONDS, Work, verify_arguments
from training import use_case as definitions

DEPLOYER_ACCOUNT = "scoring-deployer"
SWITCH_ACCOUNT = "scoring-switch"
CLIENT_ACCOUNT = "default"
KEY_SECRET, KEY_SECRET_KEY = "scoring-client-key", "api-key"
"""The Secret with the API key of the verification client, made by an administrator."""
REPORT = Path("/airflow/xcom/return.json")
SWITCH = Path(__file__).resolve().parents[3] / "k8s" / "switch.sh"
USER = 10001
_WORK = "/work"
_SPARE_SECONDS = 300
"""What a pod may take beyond its own limit, for pulling images and undoing."""
_KINDS = "deployment,service,serviceaccount,configmap,ingress,horizontalpodautoscaler,poddisruptionbudget"


class PodParts(msgspec.Struct, frozen=True):
    """What differs between the pods of the steps; arguments of ``KubernetesPodOperator``."""

    image: str
    cmds: list[str]
    arguments: list[str]
    env_vars: list[k8s.V1EnvVar]
    active_deadline_seconds: int
    service_account_name: str
    automount_service_account_token: bool
    init_containers: list[k8s.V1Container] = []
    volumes: list[k8s.V1Volume] = []
    volume_mounts: list[k8s.V1VolumeMount] = []


def container_security() -> k8s.V1SecurityContext:
    """For every container of every pod, the report's sidecar too."""
    return k8s.V1SecurityContext(
        allow_privilege_escalation=False,
        read_only_root_filesystem=True,
        capabilities=k8s.V1Capabilities(drop=["ALL"]),
    )


def pod_security() -> k8s.V1PodSecurityContext:
    """For every pod."""
    return k8s.V1PodSecurityContext(
        run_as_non_root=True,
        run_as_user=USER,
        run_as_group=USER,
        fs_group=USER,
        seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
    )


def resources() -> k8s.V1ResourceRequirements:
    """Small: these pods wait most of the time."""
    return k8s.V1ResourceRequirements(requests={"cpu": "50m", "memory": "64Mi"}, limits={"cpu": "1", "memory": "256Mi"})


def vcpus() -> float:
    """What the pod of a step asks for: its container, and the sidecar that hands its report over."""
    return float(2 * parse_quantity(resources().requests["cpu"]))


def labels(work: Work) -> dict[str, str]:
    """``lifecycle/key`` is the action key that a second try finds the pod by."""
    return {
        "app.kubernetes.io/name": "scoring-release",
        "app.kubernetes.io/part-of": "lifecycle",
        "lifecycle/use-case": definitions.load(work.use_case).slug,
        "lifecycle/step": work.step,
        "lifecycle/key": work.key,
    }


def pod_parts(work: Work) -> PodParts:
    """The pod of one step, which knows the trace that it is a part of."""
    parts = _parts(work)
    trace = k8s.V1EnvVar(name="TRACEPARENT", value=work.trace_parent)
    return msgspec.structs.replace(parts, env_vars=[*parts.env_vars, trace])


def _parts(work: Work) -> PodParts:
    if work.step in ("verify", "watch"):
        return _client(work)
    if work.step in ("stop", "resume"):
        return _switch(work)
    return _deployer(work) if work.image else _remover(work)


def _deployer(work: Work) -> PodParts:
    """Runs the image's ``deploy.sh``: an init container of the image brings its manifests and scripts."""
    configured = settings.load()
    target = targets.settings_of(work.use_case, work.target)
    timeout = configured.release.rollout_timeout
    environment = {
        "STEP": "canary" if work.step == "canary" else "deploy",
        "USE_CASE": definitions.load(work.use_case).slug,
        "TARGET": work.target,
        "NAMESPACE": target.namespace,
        "IMAGE": str(work.image),
        "VERSION": work.version,
        "REPLICAS": str(target.replicas),
        "LEAVE_OUT": " ".join(configured.scoring.leave_out),
        "TIMEOUT": str(timeout),
    }
    brings = k8s.V1Container(
        name="manifests",
        image=str(work.image),
        image_pull_policy="IfNotPresent",
        command=["cp", "-R", "/app/k8s", f"{_WORK}/"],
        volume_mounts=[_mount()],
        resources=resources(),
        security_context=container_security(),
    )
    parts = _script([f"{_WORK}/k8s/deploy.sh"], DEPLOYER_ACCOUNT, environment, timeout)
    return msgspec.structs.replace(parts, init_containers=[brings])


def _switch(work: Work) -> PodParts:
    """Runs ``switch.sh`` as it is here: an emergency waits for no image, whatever it is that runs."""
    environment = {
        "STEP": work.step,
        "NAMESPACE": targets.settings_of(work.use_case, work.target).namespace,
        "SAID": work.said,
        "TIMEOUT": str(SWITCH_SECONDS),
    }
    return _script(["-c", SWITCH.read_text()], SWITCH_ACCOUNT, environment, SWITCH_SECONDS)


def _script(arguments: list[str], account: str, environment: dict[str, str], timeout: int) -> PodParts:
    """kubectl's image runs a script for bash."""
    environment |= {"HOME": _WORK, "TMPDIR": _WORK}  # kubectl keeps its cache there
    return PodParts(
        image=images.pinned(settings.load().scoring.kubectl_image),
        cmds=["bash"],
        arguments=arguments,
        env_vars=[k8s.V1EnvVar(name=variable, value=value) for variable, value in environment.items()],
        active_deadline_seconds=timeout + _SPARE_SECONDS,
        service_account_name=account,
        automount_service_account_token=True,
        volumes=[_scratch()],
        volume_mounts=[_mount()],
    )


def _remover(work: Work) -> PodParts:
    """Takes away everything that releases made here: there was nothing before the first one."""
    namespace = shlex.quote(targets.settings_of(work.use_case, work.target).namespace)
    script = (
        f"kubectl -n {namespace} delete {_KINDS} -l app.kubernetes.io/managed-by=lifecycle-release"
        f" && kubectl -n {namespace} delete configmap scoring-record --ignore-not-found"
        f' && echo \'{{"image": "", "version": "", "since": "", "previous": null}}\' >{REPORT}'
    )
    return PodParts(
        image=images.pinned(settings.load().scoring.kubectl_image),
        cmds=["bash"],
        arguments=["-c", script],
        env_vars=[k8s.V1EnvVar(name="HOME", value=_WORK)],
        active_deadline_seconds=_SPARE_SECONDS,
        service_account_name=DEPLOYER_ACCOUNT,
        automount_service_account_token=True,
        volumes=[_scratch()],
        volume_mounts=[_mount()],
    )


def _client(work: Work) -> PodParts:
    """The verification client of the very image that it verifies, with the golden answers it carries."""
    service = f"{targets.CANARY}:{targets.METRICS_PORT}" if work.step == "watch" else targets.DEPLOYMENT
    key = k8s.V1SecretKeySelector(name=KEY_SECRET, key=KEY_SECRET_KEY)
    return PodParts(
        image=str(work.image),
        cmds=["python"],
        arguments=["-B", *verify_arguments(work, f"http://{service}", Path("/app/bundle"), REPORT)],
        env_vars=[k8s.V1EnvVar(name="LIFECYCLE_API_KEY", value_from=k8s.V1EnvVarSource(secret_key_ref=key))],
        active_deadline_seconds=settings.load().release.canary_seconds + _SPARE_SECONDS,
        service_account_name=CLIENT_ACCOUNT,
        automount_service_account_token=False,
    )


def reason(error: ApiException) -> str:
    """What Kubernetes says of a request that it refuses, in one line: a quota, an admission policy, missing rights."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):  # not an answer of its API server
        return f"{error.status} {error.reason}"


def waiting(pod: k8s.V1Pod | None) -> str:
    """Why a pod or its containers wait, one line each: no node has room for it, an image cannot be pulled.

    The cluster's message names the image only where the registry got as far as to look for it.
    """
    if pod is None or pod.status is None:
        return ""
    statuses = [*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())]
    nowhere = [
        f"{condition.reason}: {condition.message or 'no message'}"
        for condition in pod.status.conditions or ()
        if condition.type == "PodScheduled" and condition.status == "False"
    ]
    waits = [
        f"{status.name} ({status.image}): {status.state.waiting.reason}: {status.state.waiting.message or 'no message'}"
        for status in statuses
        if status.state.waiting and status.state.waiting.reason not in ("PodInitializing", "ContainerCreating")
    ]
    return "\n".join([*nowhere, *waits])


def restarted_since(status: Any, moment: float) -> bool:
    """Whether a container (its ``V1ContainerStatus``) has ended after ``moment`` (seconds since 1970).

    Told from when it was started last: the end of the former run is not always known to the cluster.
    """
    if status.state.terminated:
        return True
    running = status.state.running
    return status.restart_count > 0 and (running is None or running.started_at.timestamp() >= moment)


def _mount() -> k8s.V1VolumeMount:
    return k8s.V1VolumeMount(name="work", mount_path=_WORK)


def _scratch() -> k8s.V1Volume:
    return k8s.V1Volume(name="work", empty_dir=k8s.V1EmptyDirVolumeSource(size_limit="64Mi"))


def finish(pod: k8s.V1Pod, sidecar_image: Any) -> k8s.V1Pod:
    """Give the report's sidecar what the provider leaves open: our image, pull policy, limits, and an end.

    ``sidecar_image`` is what the connection says, if anything; the provider's default is an image of a public
    registry, which a private cluster cannot pull. As the first process of its container the sidecar ignores
    SIGTERM unless it traps it: a pod that is killed would stay for its whole grace period.
    """
    base, *others = pod.spec.containers
    for container in others:
        container.image = sidecar_image or base.image
        container.command = ["sh", "-c", 'trap "exit 0" INT TERM; while true; do sleep 1; done']
        container.image_pull_policy = "IfNotPresent"
        container.resources = resources()
        container.security_context = container_security()
    return pod
