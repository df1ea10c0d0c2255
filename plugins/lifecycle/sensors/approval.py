"""The manual gate: a sensor that waits, without a worker slot, until a person decides."""

from collections.abc import Sequence
from typing import Any

import msgspec
from airflow.sdk import BaseSensorOperator, Param
from airflow.sdk.bases.branch import BranchMixIn
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowFailException, TaskAwaitingInput
from airflow.sdk.execution_time.comms import CreateHITLDetailPayload

from lifecycle import settings

APPROVE = "Approve"
REJECT = "Reject"


class Decision(msgspec.Struct, frozen=True):
    """Who decided what, when and why. A time-out is nobody's rejection."""

    approved: bool
    decided_by: str
    decided_at: str
    """RFC 3339, UTC."""
    comment: str


def put_question(**question: Any) -> str:
    """Ask, and return the body that people are shown: Airflow keeps the first question of a cleared task."""
    # The SDK's upsert_hitl_detail does not return the answer.
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    kept: Any = SUPERVISOR_COMMS.send(CreateHITLDetailPayload(**question))
    return str(kept.body)


class ManualGateSensor(BaseSensorOperator, BranchMixIn):
    """Ask a person for approval and follow one of two branches.

    The question shows on Airflow's required-actions page and at its ``hitlDetails`` endpoints. The task
    parks in ``awaiting_input``, which takes no worker, triggerer or pool slot. Silence is a no, and a no
    is a decision: the task succeeds, returns the decision, and skips the branch that was not taken. Who
    may answer, and for how long the question stands, come from the settings (``[release]``).

    :param subject: one line. (templated)
    :param body: Markdown that shows what is approved. (templated)
    :param digest: of what is approved; the result repeats it as it was when the question was put. (templated)
    :param approved_task_id: task that follows an approval.
    :param rejected_task_id: task that follows a rejection or silence.
    """

    template_fields: Sequence[str] = ("subject", "body", "digest")

    def __init__(
        self, *, subject: str, body: str, digest: str, approved_task_id: str, rejected_task_id: str, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.subject = subject
        self.body = body
        self.digest = digest
        self.approved_task_id = approved_task_id
        self.rejected_task_id = rejected_task_id

    def execute(self, context: Any) -> None:
        """Put the question, then wait."""
        release = settings.load().release
        approvers = self._approvers(context)
        if release.approvers and not approvers:
            raise AirflowFailException(
                f"nobody may answer: the only approver listed ({release.approvers[0]}) started this release "
                "and requester_may_approve is false; list another approver in [release] of the settings file"
            )
        # Two types make the field optional in Airflow's form: Approve stays usable without it.
        form = ParamsDict({"comment": Param(None, type=["null", "string"], maxLength=2000, title="Comment: why?")})
        shown = put_question(
            ti_id=context["ti"].id,
            options=[APPROVE, REJECT],
            subject=self.subject,
            body=self.body,
            params={key: form.get_param(key).serialize() for key in form},
            assigned_users=[{"id": user, "name": user} for user in approvers],
        )
        if shown != self.body:
            raise AirflowFailException(
                "what was to be approved has changed since this run first asked, and Airflow goes on showing the "
                f"first question: trigger {context['ti'].dag_id} anew instead of clearing its tasks"
            )
        self.log.info("waiting up to %s for an answer by %s", release.response_timeout, approvers or "any editor")
        raise TaskAwaitingInput(method_name="decided", kwargs={"digest": self.digest}, timeout=release.response_timeout)

    def decided(self, context: Any, event: dict[str, Any], digest: str) -> None:
        """Turn the answer into a decision, keep it as the task's result, and skip the other branch.

        :param digest: what the question was about, whatever the template says by now.
        """
        decision = self._decision(event)
        if decision.approved and decision.decided_by == self._forbidden_approver(context):
            self.log.warning("%s started this release and may not approve it: asking again", decision.decided_by)
            self.execute(context)
        self.log.info(
            "%s by %s: %s",
            "approved" if decision.approved else "rejected",
            decision.decided_by,
            decision.comment,
        )
        # Pushed here and not returned: branching ends the task by an exception.
        context["ti"].xcom_push(key="return_value", value={**msgspec.to_builtins(decision), "digest": digest})
        self.do_branch(context, self.approved_task_id if decision.approved else self.rejected_task_id)

    def _approvers(self, context: Any) -> list[str]:
        forbidden = self._forbidden_approver(context)
        return [user for user in settings.load().release.approvers if user != forbidden]

    @staticmethod
    def _forbidden_approver(context: Any) -> str | None:
        """The one who started the run, where the settings keep them from approving it."""
        if settings.load().release.requester_may_approve:
            return None
        requester: str | None = context["dag_run"].triggering_user_name
        return requester

    @staticmethod
    def _decision(event: dict[str, Any]) -> Decision:
        from airflow.sdk.timezone import utcnow

        if event.get("error_type") == "timeout":
            return Decision(False, "nobody", utcnow().isoformat(), "no answer within the time limit")
        if "error" in event:
            raise AirflowFailException(f"the question could not be put: {event['error']}; clear this task to ask again")
        user = event.get("responded_by_user") or {}
        answered = event["responded_at"]
        return Decision(
            approved=event["chosen_options"] == [APPROVE],
            decided_by=str(user.get("id") or "unknown"),
            decided_at=answered if isinstance(answered, str) else answered.isoformat(),
            comment=str((event.get("params_input") or {}).get("comment") or "").strip(),
        )
