"""The one operator behind every step that touches a scoring target.

Imported by DAG files, so mind what it imports: the provider's pod operator costs seconds already.
"""

import time
from datetime import timedelta
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.xcom_sidecar import PodDefaults
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client import V1Pod
from kubernetes.client.exceptions import ApiException

from lifecycle import settings
from lifecycle.hooks import targets
from lifecycle.hooks.slot import Slot
from lifecycle.hooks.stop_switch import refuse_older_resume
from lifecycle.hooks.targets import CONNECTIONS
from lifecycle.idempotency import action_key
from lifecycle.image_reference import ImageReference, ImageReferenceError
from lifecycle.operators import pods
from lifecycle.operators.group_step import GroupStep, PlaceError
from lifecycle.operators.local_steps import LocalSteps
from lifecycle.operators.steps import (
    Step,
    StepError,
    Work,
    failed_checks,
    refuse_overtaken,
    refuse_unapproved,
    refuse_unsigned,
    told,
)
from lifecycle.trace import trace_parent
from training.use_case import Target

_BESIDE_THE_WATCH = timedelta(hours=1)
"""What the task that watches a canary may take beside it: its pod has to start."""


def _image(text: Any) -> ImageReference | None:
    """What an operator was given as an image; ``None`` for an empty text."""
    try:
        return ImageReference.parse(str(text)) if text else None
    except ImageReferenceError as error:
        raise AirflowFailException(str(error)) from error


class ScoringStepOperator(KubernetesPodOperator):
    """Do one step of a release at one target, in a pod of the cluster or on the scoring host of this machine.

    The type of the target's connection (``scoring_staging``, ``scoring_production``) decides. ``kubernetes``:
    a pod does the step, watched without a worker slot, found again after a restart of Airflow, and gone
    afterwards. ``gunicorn``: the same step through the scoring host's slot. ``azure_container_instance``
    (``scoring_qa``): a container group does the step ``try``, watched by the worker, found again and gone likewise.

    - ``try``: run the image for a moment beside its verification client, apart from every target.
    - ``deploy``: roll the image out; a failed rollout is undone. Returns ``{"image", "version", "since",
      "previous": {"image", "version"} or None}``.
    - ``canary``: start one instance beside what runs, behind the same address; removed again if it fails.
    - ``watch``: follow the canary's errors and latency for ``release.canary_seconds``.
    - ``verify``: ask the target for health, version, golden answers, errors and a short load.
    - ``restore``: put back a given image, or remove the deployment where ``image`` is empty.
    - ``stop``, ``resume``: set the target's stop switch or take it back, and wait until every server says so.

    ``verify`` and ``watch`` return ``{"passed", "checks": [{"name", "passed", "detail"}], "requests",
    "errors", "p50_ms", "p95_ms", ...}``; the report of a failed one is pushed as XCom too.

    A step that fails for a reason of the release raises ``AirflowFailException`` with that reason, for
    trying again would not help; a cluster that does not answer raises what may be tried again.

    :param use_case: name of the use case.
    :param target: ``staging`` or ``production``.
    :param step: what to do.
    :param image: what to deploy, as ``BuildImageOperator`` returned it; empty only for a ``restore`` to nothing, and
        for ``stop`` and ``resume``, which need none. (templated)
    :param version: its model version. (templated)
    :param approved_image: the image that was approved; production takes no other. (templated)
    :param replaces: what ran at the target when the run looked, or what it has brought there since; the step changes
        nothing where neither that nor ``image`` runs by now. ``None``: whatever runs. (templated)
    :param said: what the stop switch is to say, of ``stop`` and ``resume``. (templated)
    """

    template_fields = (*KubernetesPodOperator.template_fields, "version", "approved_image", "replaces", "said")

    def __init__(
        self,
        *,
        use_case: str,
        target: Target,
        step: Step,
        image: Any,
        version: Any,
        approved_image: Any = "",
        replaces: Any = None,
        said: Any = "",
        **kwargs: Any,
    ) -> None:
        conn_id = targets.QA_CONNECTION if step == "try" else CONNECTIONS[target]
        if step == "watch":
            # The pod of the step ends by itself. A shorter limit would begin the watch again, and then give it up.
            kwargs["execution_timeout"] = timedelta(seconds=settings.load().release.canary_seconds) + _BESIDE_THE_WATCH
        super().__init__(
            kubernetes_conn_id=conn_id,
            image=image,
            # The name is the action key: a second pod of the same action cannot exist.
            random_name_suffix=False,
            # Waits without a worker slot. A killed Airflow leaves the pod at work and finds it again; a
            # killed task takes its pod along, and deploy.sh undoes what it has begun.
            deferrable=True,
            durable=True,
            on_kill_action="delete_pod",
            on_finish_action="delete_pod",
            termination_grace_period=45,
            startup_timeout_seconds=180,
            do_xcom_push=True,
            image_pull_policy="IfNotPresent",
            security_context=pods.pod_security(),
            container_security_context=pods.container_security(),
            xcom_sidecar_container_security_context=pods.container_security(),
            container_resources=pods.resources(),
            # deploy.sh writes its reason there; a client that dies without one leaves its last lines.
            termination_message_policy="FallbackToLogsOnError",
            log_events_on_failure=True,
            log_pod_spec_on_failure=False,
            **kwargs,
        )
        self.use_case = use_case
        self.target: Target = target
        self.conn_id = conn_id
        self.step: Step = step
        self.version = version
        self.approved_image = approved_image
        self.replaces = replaces
        self.said = said
        self._steps_here: LocalSteps | GroupStep | None = None
        self._report: dict[str, Any] | None = None
        self._deployed_image: ImageReference | None = None

    def execute(self, context: Any) -> Any:
        """Refuse what is not approved, not signed or does not belong there; then do the step where it is to be done."""
        work = self._work(context)
        self._deployed_image = work.image  # for ``image`` becomes the pod's own
        self.log.info("%s: version %s, image %s", self._what, work.version or "(none)", work.image or "(none)")
        connection = BaseHook.get_connection(self.conn_id)
        if self.step == "try":
            return self._run_group(connection, work, context)
        if self.step == "resume":
            refuse_older_resume(self.use_case, self.target, str(self.said))
        running = self._running(work)
        if self.replaces is not None:
            refuse_overtaken(work, _image(self.replaces), running)
        refuse_unapproved(work, _image(self.approved_image), running)
        if work.image is not None:
            try:
                targets.refuse_foreign(self.use_case, self.target, work.image)
            except targets.TargetError as error:
                raise AirflowFailException(str(error)) from error
        refuse_unsigned(work, running)
        if connection.conn_type == "gunicorn":
            return self._run_embedded(connection, work, context)
        self._shape_pod(work)
        return super().execute(context)

    def on_kill(self) -> None:
        """Leave nothing behind: the pod goes, and its script undoes an unfinished rollout."""
        if self._steps_here is not None:
            self._steps_here.stop()
        else:
            super().on_kill()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Image and deployment, where OpenLineage is configured."""
        from lifecycle.evidence import lineage

        changed = {"deploy": self.target, "restore": self.target, "canary": f"{self.target}-canary"}.get(self.step)
        # A resumed task has not executed here, and its ``image`` is what it was given.
        image = self._deployed_image or _image(self.image)
        if changed is None or image is None:
            return lineage.nothing()
        return lineage.deployed(self.use_case, image, changed)

    def _work(self, context: Any) -> Work:
        instance = context["ti"]
        key = action_key(
            dag_id=instance.dag_id,
            run_id=instance.run_id,
            task_id=instance.task_id,
            purpose=f"{self.step}-{self.target}",
        )
        image = _image(self.image)
        if image is None and self.step not in ("restore", "stop", "resume"):
            raise AirflowFailException(f"{self.step} at {self.target} was given no image: run the build again")
        return Work(
            self.use_case,
            self.step,
            self.target,
            image,
            self.version,
            key,
            said=self.said,
            trace_parent=trace_parent(instance),
        )

    def _running(self, work: Work) -> ImageReference | None:
        """What runs at the target, where it matters."""
        if self.replaces is None and (work.step != "restore" or work.image is None):
            return None
        return _image(targets.known(self.use_case, self.target)["image"])

    # --- the embedded stack ---

    def _run_embedded(self, connection: Any, work: Work, context: Any) -> dict[str, Any]:
        return self._judged(self._run(LocalSteps(Slot(connection, self.use_case, self.target), work)), context)

    def _run(self, steps: LocalSteps | GroupStep) -> dict[str, Any]:
        self._steps_here = steps
        try:
            return steps.run()
        except StepError as error:
            raise AirflowFailException(f"{self._what} failed: {error}") from error

    # --- Azure Container Instances ---

    def _run_group(self, connection: Any, work: Work, context: Any) -> dict[str, Any]:
        try:
            step = GroupStep(connection, work)
            targets.refuse_unlisted(self.use_case, "qa", step.image)
        except (PlaceError, targets.TargetError) as error:
            raise AirflowFailException(str(error)) from error
        refuse_unsigned(work, None)
        return self._judged(self._run(step), context)

    # --- Kubernetes ---

    def _shape_pod(self, work: Work) -> None:
        """Turn this operator into that of the step's own pod."""
        parts = pods.pod_parts(work)
        for name in parts.__struct_fields__:
            setattr(self, name, getattr(parts, name))
        self.name = work.key
        self.namespace = targets.settings_of(self.use_case, self.target).namespace
        self.labels = pods.labels(work)

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> V1Pod:
        """The provider's pod, with a sidecar that a private and hardened cluster can run."""
        pod = super().build_pod_request_obj(context, dry_run=dry_run)
        extra = BaseHook.get_connection(self.conn_id).extra_dejson
        return pods.finish(pod, extra.get("xcom_sidecar_container_image"))

    def get_or_create_pod(self, pod_request_obj: V1Pod, context: Any) -> V1Pod:
        """Wait until an ended try's pod of the same name is gone, then find or make ours."""
        metadata = pod_request_obj.metadata
        deadline = time.monotonic() + 2 * (self.termination_grace_period or 0)
        while self._is_ending(metadata.name, metadata.namespace):
            if time.monotonic() > deadline:
                raise AirflowException(f"pod {metadata.name} of an earlier try does not come to its end")
            time.sleep(1)
        try:
            return super().get_or_create_pod(pod_request_obj, context)
        except ApiException as error:
            raise AirflowException(
                f"Kubernetes refuses the pod {metadata.name} of {self.step} at {self.target}: {pods.reason(error)}"
            ) from error

    def _is_ending(self, name: str, namespace: str) -> bool:
        try:
            return self.hook.get_pod(name, namespace).metadata.deletion_timestamp is not None
        except ApiException as error:
            if error.status == 404:
                return False
            raise

    def convert_config_file_to_dict(self) -> None:
        """Leave KUBECONFIG of the worker alone: the connection says which cluster it is.

        The provider would hand both to the trigger, which refuses two answers to one question.
        """
        self._config_dict = None

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> Any:
        """Take the pod's report; a report of failure is the task's, and no retry helps against it."""
        try:
            super().trigger_reentry(context, event)
        except AirflowException as error:
            if self._report is None:
                # The provider looks at no init container, so it knows no better than "took too long".
                raise AirflowException(f"{error}\n{pods.waiting(self.pod)}".strip()) from error
            if reason := self._report.get("error"):
                message = f"{self.step} at {self.target} failed: {reason}"
                raise AirflowFailException(message) from error
        if self._report is None:
            raise AirflowException(
                f"the pod of {self.step} at {self.target} is gone without its report: clear the task to do it again"
            )
        return self._judged(self._report, context)

    def extract_xcom(self, pod: V1Pod, *, ignore_kill_failure: bool = True) -> dict[Any, Any] | None:
        """The pod's report; ``None`` where it never came to run, so that the real cause is what is raised."""
        if not self.pod_manager.container_is_running(pod, PodDefaults.SIDECAR_CONTAINER_NAME):
            return None
        self._report = super().extract_xcom(pod, ignore_kill_failure=ignore_kill_failure)
        if self._report and self.step in ("verify", "watch"):
            self._check_restarts(self._report)
        return self._report

    def _check_restarts(self, report: dict[str, Any]) -> None:
        """Add the check that no container of the target was restarted while it was looked at."""
        found = self.client.list_namespaced_pod(
            targets.settings_of(self.use_case, self.target).namespace, label_selector=targets.SELECTOR
        )
        restarted = [
            pod.metadata.name
            for pod in found.items
            for status in pod.status.container_statuses or ()
            if not pod.metadata.deletion_timestamp and pods.restarted_since(status, report["started"])
        ]
        seen = f"restarted: {', '.join(restarted)}" if restarted else f"none of {len(found.items)} pods"
        report["checks"].append({"name": "no restart", "passed": not restarted, "detail": seen})
        report["passed"] = report["passed"] and not restarted

    # --- both ---

    def _judged(self, report: dict[str, Any], context: Any) -> dict[str, Any]:
        """The report, unless it says that a check failed: then that is the task's failure.

        Pushed here as well as returned: a pod that has ended before the task could wait for it is taken
        up within ``execute``, whose caller drops what the provider's way through returns.
        """
        context["ti"].xcom_push(key="return_value", value=report)
        self.log.info("%s: %s", self._what, told(report))
        if report.get("passed", True):
            return report
        raise AirflowFailException(f"{self._what} failed:\n{failed_checks(report)}")

    @property
    def _what(self) -> str:
        return "trying the image" if self.step == "try" else f"{self.step} at {self.target}"
