"""The one operator behind every step that touches a scoring target.

Imported by DAG files, so mind what it imports: the provider's pod operator costs seconds already.
"""

from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowFailException

from attrition import targets
from attrition.keys import action_key
from attrition.operators.embedded_steps import EmbeddedSteps
from attrition.operators.steps import Place, Step, StepError, Work, failed_checks, refuse_unapproved
from attrition.slot import Slot


class ScoringStepOperator(KubernetesPodOperator):
    """Do one step of a release at one target, in a pod of the cluster or on the embedded scoring host.

    The type of the connection decides. ``kubernetes``: a pod does the step, watched without a worker
    slot, found again after a restart of Airflow, and gone afterwards. ``gunicorn``: the same step through
    the scoring host's slot.

    - ``deploy``: roll the image out; a failed rollout is undone. Returns ``{"digest", "version", "since",
      "previous": {"image", "digest", "version"} or None}``.
    - ``canary``: start one instance beside what runs, behind the same address; removed again if it fails.
    - ``watch``: follow the canary's errors and latency for ``release.canary_seconds``.
    - ``verify``: ask the target for health, version, golden answers, errors and a short load.
    - ``restore``: put back a given image, or remove the deployment where ``digest`` is empty.

    ``verify`` and ``watch`` return ``{"passed", "checks": [{"name", "passed", "detail"}], "requests",
    "errors", "p50_ms", "p95_ms", ...}``; the report of a failed one is pushed as XCom too.

    A step that fails for a reason of the release raises ``AirflowFailException`` with that reason, for
    trying again would not help; a cluster that does not answer raises what may be tried again.

    :param conn_id: ``scoring_staging`` or ``scoring_production``.
    :param step: what to do.
    :param image: what to deploy, as ``BuildImageOperator`` returned it. (templated)
    :param digest: its digest; empty only for a ``restore`` to nothing. (templated)
    :param version: its model version. (templated)
    :param approved_digest: the digest that was approved; production takes no other. (templated)
    :param target: ``staging`` or ``production``; follows from ``conn_id`` where it is not given.
    """

    template_fields = (*KubernetesPodOperator.template_fields, "digest", "version", "approved_digest")

    def __init__(
        self,
        *,
        conn_id: str,
        step: Step,
        image: str,
        digest: str,
        version: str,
        approved_digest: str = "",
        target: Place | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(kubernetes_conn_id=conn_id, image=image, **kwargs)
        self.conn_id = conn_id
        self.step: Step = step
        self.digest = digest
        self.version = version
        self.approved_digest = approved_digest
        self.target: Place = target or targets.target_of(conn_id)  # type: ignore[assignment]
        self._embedded: EmbeddedSteps | None = None

    def execute(self, context: Any) -> Any:
        """Refuse what was not approved, then do the step where the connection says."""
        work = self._work(context)
        running = targets.current(self.conn_id) or {}
        refuse_unapproved(work, self.approved_digest, running.get("digest", ""))
        connection = BaseHook.get_connection(self.conn_id)
        if connection.conn_type == "gunicorn":
            return self._run_embedded(connection, work, context)
        raise AirflowFailException("kubernetes: not yet")

    def on_kill(self) -> None:
        """Leave nothing behind: the pod goes, and its script undoes an unfinished rollout."""
        if self._embedded is not None:
            self._embedded.stop()
        else:
            super().on_kill()

    def _work(self, context: Any) -> Work:
        instance = context["ti"]
        key = action_key(
            dag_id=instance.dag_id,
            run_id=instance.run_id,
            task_id=instance.task_id,
            purpose=f"{self.step}-{self.target}-{self.digest.removeprefix('sha256:')[:12]}",
        )
        return Work(self.step, self.target, self.image or "", self.digest, self.version, key)

    def _run_embedded(self, connection: Any, work: Work, context: Any) -> dict[str, Any]:
        self._embedded = EmbeddedSteps(Slot(connection), work)
        try:
            report = self._embedded.run()
        except StepError as error:
            raise AirflowFailException(f"{self.step} at {self.target} failed: {error}") from error
        return self._judged(report, context)

    def _judged(self, report: dict[str, Any], context: Any) -> dict[str, Any]:
        """The report, unless it says that a check failed: then that is the task's failure."""
        if report.get("passed", True):
            return report
        context["ti"].xcom_push(key="return_value", value=report)
        raise AirflowFailException(f"{self.step} at {self.target} failed:\n{failed_checks(report)}")
