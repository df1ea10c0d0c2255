"""The manual gate: a sensor that waits, without a worker slot, until a person decides."""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import msgspec
from airflow.sdk import BaseSensorOperator, Param
from airflow.sdk.bases.branch import BranchMixIn
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowFailException, TaskAwaitingInput
from airflow.sdk.execution_time.context import NEVER_EXPIRE
from airflow.sdk.execution_time.hitl import upsert_hitl_detail

from lifecycle import four_eyes, messages, settings
from lifecycle.evidence import links
from lifecycle.evidence.document import Decision
from lifecycle.four_eyes import Requester
from lifecycle.hooks import airflow_api
from lifecycle.task_ids import AWAIT_APPROVAL, RECORD_APPROVAL, RECORD_REJECTION

log = logging.getLogger(__name__)

APPROVE = "Approve"
REJECT = "Reject"
_FIRST_LOOK, _RARE_LOOK = timedelta(seconds=20), timedelta(hours=1)
"""The shortest and the longest time after which a parked task looks whether it was answered unnoticed."""
_SKEW = timedelta(minutes=1)
"""By how much the clocks of Airflow's API server and of its workers may differ."""
_TOLD = "told"
"""Under this key Airflow keeps, from try to try, which messages about the question that stands were sent."""


class Question(msgspec.Struct, frozen=True):
    """What an earlier try asked, as Airflow's own record has it."""

    digest: str
    asked_at: str
    """RFC 3339, UTC. Once a decision was taken and its gate cleared, when the first try after that began."""
    answer: dict[str, Any] | None
    """With the keys of an event of ``decided``; ``None`` where nobody has answered since."""
    spent: bool
    """The record holds an answer that led to a decision before the gate was cleared."""

    @classmethod
    def find(cls, instance: Any) -> Self | None:
        """The question of earlier tries; ``None`` where none of them came to ask.

        Airflow carries the record along from try to try, with an answer that its scheduler then lost.
        """
        found = airflow_api.question(instance.dag_id, instance.run_id, instance.task_id, instance.map_index)
        if found is None:
            return None
        record, tries = found
        decided = max((row for row in tries if row["state"] == "success"), key=_number, default=None)
        asked_at = record["created_at"]
        if decided:
            asked_at = min(row["start_date"] for row in tries if row["start_date"] and _number(row) > _number(decided))
        answered = record["responded_at"]
        spent = bool(decided and answered and _time(answered) <= _time(decided["end_date"]))
        return cls(
            digest=_asked_about(record),
            asked_at=asked_at,
            answer=record if answered and not spent else None,
            spent=spent,
        )


def _asked_about(record: dict[str, Any]) -> str:
    return str(record["params"]["comment"]["schema"].get("digest", ""))


def recorded(context: Any, task_id: str) -> tuple[dict[str, Any], str]:
    """What Airflow's own record says of a gate of this run: an event as ``decided`` takes it, and what it asked about.

    An XCom is not such a record: who may write one could invent an answer. The event also has ``body``, the text that
    was shown. It has no ``responded_at`` where nobody has answered, or where the gate had ended by then: Airflow takes
    answers to a question that is decided.
    """
    run = context["dag_run"]
    found = airflow_api.question(run.dag_id, run.run_id, task_id, -1)
    if found is None:
        raise AirflowFailException(
            f"Airflow has no record of a question that {task_id} put in run {run.run_id}: nothing was approved, and "
            f"nothing is recorded. Clear {task_id} to ask"
        )
    record, tries = found
    ended = max(
        (_time(row["end_date"]) for row in tries if row["state"] == "success" and row["end_date"]), default=None
    )
    if ended and record["responded_at"] and _time(record["responded_at"]) > ended + _SKEW:
        log.warning(
            "%s was answered at %s, and had ended at %s: it counts no more", task_id, record["responded_at"], ended
        )
        record = {**record, "responded_at": None}
    return record, _asked_about(record)


def decision_of(event: dict[str, Any]) -> Decision:
    """The decision in an answer."""
    user = event.get("responded_by_user") or {}
    answered = event["responded_at"]
    number = str(user.get("id") or "")
    return Decision(
        approved=event["chosen_options"] == [APPROVE],
        decided_by=str(user.get("name") or "") or number or "unknown",
        decided_at=(_time(answered) if isinstance(answered, str) else answered).isoformat(),
        comment=str((event.get("params_input") or {}).get("comment") or "").strip(),
        user_id=number,
    )


def silence() -> Decision:
    """Nobody's rejection."""
    return Decision(False, "nobody", datetime.now(UTC).isoformat(), "no answer within the time limit")


def _number(row: dict[str, Any]) -> int:
    return int(row["try_number"])


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _end(asked_at: datetime) -> datetime:
    """Until when an answer counts."""
    return asked_at + settings.load().release.response_timeout


def _page(context: Any) -> str:
    """Where the question is answered."""
    return links.answer_page(settings.load().airflow_url, context["ti"].dag_id, context["ti"].run_id)


class ManualGateSensor(BaseSensorOperator, BranchMixIn):
    """Ask a person for approval and follow one of two branches.

    The question shows on Airflow's required-actions page and at its ``hitlDetails`` endpoints. The task
    parks in ``awaiting_input``, which takes no worker, triggerer or pool slot. Silence counts as a rejection, and that
    is a decision: the task succeeds, returns the decision, and skips the branch that was not taken. Who
    may answer comes from the use case's settings, by id or name, and how long the question stands from ``[release]``.
    Airflow would let only ids answer, so it is told none: an answer of somebody else is not taken, and the question
    stands again.

    An answer counts whenever it arrives. One within seconds of the question can fail the try, because the
    scheduler has not yet read that the worker ended (apache/airflow#66374). Airflow keeps the answer, and the
    next try goes on with it: give the task retries. A retry that finds no answer waits for what is left of
    the time, and does not ask about anything else than the first question did. It sends the messages about the
    question that the try before it did not come to send, and none of them twice.

    :param use_case: name of the use case.
    :param subject: one line. (templated)
    :param body: Markdown that shows what is approved; a cleared task goes on showing the first one. (templated)
    :param digest: of what is approved; an approval of another digest is refused. (templated)
    :param version: the model version that is released. (templated)
    :param sentence: what asks to replace what, for the message to those who may answer. (templated)
    :param approved_task_id: task that follows an approval.
    :param rejected_task_id: task that follows a rejection or silence.
    """

    template_fields: Sequence[str] = ("subject", "body", "digest", "version", "sentence")

    def __init__(
        self,
        *,
        use_case: str,
        subject: Any,
        body: Any,
        digest: Any,
        version: Any = "",
        sentence: Any = "",
        approved_task_id: str,
        rejected_task_id: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.use_case = use_case
        self.subject = subject
        self.body = body
        self.digest = digest
        self.version = version
        self.sentence = sentence
        self.approved_task_id = approved_task_id
        self.rejected_task_id = rejected_task_id

    def execute(self, context: Any) -> None:
        """Put the question and wait, or go on from where an earlier try was."""
        kept = Question.find(context["ti"]) if context["ti"].try_number > 1 else None
        if kept is None:
            asked_at = datetime.now(UTC)
            self._ask(context)
            self._wait(context, self.digest, asked_at.isoformat())
        elif kept.answer:
            self.log.info("an earlier try was answered at %s: going on with that answer", kept.answer["responded_at"])
            self.decided(context, kept.answer, kept.digest, kept.asked_at)
        else:
            self._refuse_a_change(context, kept.digest)
            # Not where the question stands open: asking again removes an answer that arrives at this moment.
            if kept.spent:
                self._ask(context)
            self._wait(context, kept.digest, kept.asked_at)

    def _ask(self, context: Any) -> None:
        """Put the question; what was answered before is removed."""
        listed, requester = settings.load().of(self.use_case).approvers, self._forbidden_requester(context)
        people = requester.people if requester else ()
        approvers = [user for user in listed if not four_eyes.same([user], people)]
        if listed and not approvers:
            raise AirflowFailException(
                f"nobody may answer: the only approver listed ({listed[0]}) asked for this release and "
                f"requester_may_approve is false; list another approver in [use_cases.{self.use_case}] of the "
                "settings file"
            )
        answers = f"Only these people may answer: {', '.join(approvers)}." if approvers else None
        # Two types make the field optional in Airflow's form: Approve stays usable without it. The digest is for
        # Airflow's record, which then says what was asked about; the form ignores it.
        comment = Param(
            None,
            type=["null", "string"],
            maxLength=2000,
            title="Comment: why?",
            description=answers,
            digest=self.digest,
        )
        form = ParamsDict({"comment": comment})
        upsert_hitl_detail(
            ti_id=context["ti"].id,
            options=[APPROVE, REJECT],
            subject=self.subject,
            body=self.body,
            params={key: form.get_param(key).serialize() for key in form},
        )
        self.log.info("asked %s", ", ".join(approvers) or "whoever may edit the DAG")

    def _wait(self, context: Any, digest: str, asked_at: str) -> None:
        """Tell people of the question, and park for a while, and again until the time is over; then silence decides.

        Some time before that, people are reminded. Airflow resumes the task as soon as it is answered. Only where its
        database locks no rows (SQLite), an answer in the moment of the parking leaves the task parked: the end of the
        while then brings it.
        """
        now, end = datetime.now(UTC), _end(_time(asked_at))
        stood, left = now - _time(asked_at), end - now
        if left <= timedelta(0):
            return self._conclude(context, silence(), digest)
        self._tell_once(context, "waits", lambda page: messages.waits(*self._about, self.sentence, end, page))
        rest = left - settings.load().release.reminder
        if rest <= timedelta(0):
            self._tell_once(context, "still waits", lambda page: messages.still_waits(*self._about, end, page))
            rest = left
        self.log.info("an answer counts until %s UTC", f"{end:%Y-%m-%d %H:%M}")
        raise TaskAwaitingInput(
            method_name="decided",
            kwargs={"digest": digest, "asked_at": asked_at},
            timeout=min(rest, _RARE_LOOK, max(_FIRST_LOOK, stood)),
        )

    def _tell_once(self, context: Any, what: str, tell: Callable[[str], None]) -> None:
        """Send a message about the question that stands, unless that was done.

        :param tell: sends it; takes the page where the question is answered.
        """
        memory = context["task_state_store"]
        told = memory.get(_TOLD, [])
        if what not in told:
            tell(_page(context))
            memory.set(_TOLD, [*told, what], retention=NEVER_EXPIRE)

    @property
    def _about(self) -> tuple[str, str]:
        return self.use_case, self.subject

    def decided(self, context: Any, event: dict[str, Any], digest: str, asked_at: str) -> None:
        """Turn the answer into a decision, or wait on where none has come.

        :param digest: what the question was about, whatever the template says by now.
        :param asked_at: when it was first put; RFC 3339, UTC.
        """
        if event.get("error_type") == "timeout":
            return self._wait(context, digest, asked_at)
        if "error" in event:
            raise AirflowFailException(f"the question could not be put: {event['error']}; clear this task to ask again")
        decision = decision_of(event)
        if decision.approved:
            self._refuse_a_change(context, digest)
        user = event.get("responded_by_user") or {}
        requester = self._forbidden_requester(context) if decision.approved else None
        if objection := four_eyes.objection(self.use_case, user, approves=decision.approved, requester=requester):
            message = f"An answer was not taken, and the question stands again: {objection}"
            self.log.warning(message)
            airflow_api.set_run_note(context["ti"].dag_id, context["ti"].run_id, message)
            self._ask(context)
            return self._wait(context, digest, asked_at)
        return self._conclude(context, decision, digest)

    def _conclude(self, context: Any, decision: Decision, digest: str) -> None:
        """Keep the decision as the task's result, and skip the other branch."""
        self.log.info(
            "%s by %s: %s",
            "approved" if decision.approved else "rejected",
            decision.decided_by,
            decision.comment,
        )
        messages.decided(*self._about, decision, _page(context))
        # What a clear opens again is another question, of which people are told too.
        context["task_state_store"].delete(_TOLD)
        # Pushed here and not returned: branching ends the task by an exception.
        context["ti"].xcom_push(key="return_value", value={**msgspec.to_builtins(decision), "digest": digest})
        self.do_branch(context, self.approved_task_id if decision.approved else self.rejected_task_id)

    def _refuse_a_change(self, context: Any, digest: str) -> None:
        """The text may be another by now, what it is about may not."""
        if digest != self.digest:
            raise AirflowFailException(
                f"what was to be approved has changed since this run first asked: from {digest} to {self.digest}. "
                f"Airflow goes on showing the first question: trigger a new run of {context['ti'].dag_id}"
            )

    def _forbidden_requester(self, context: Any) -> Requester | None:
        return four_eyes.forbidden_requester(context, self.use_case, str(self.version))


def gate(use_case: str, candidate: Any, evidence: Any) -> ManualGateSensor:
    """The gate of a release, before the tasks that record an approval and a rejection.

    :param candidate: what ``resolve_candidate`` returned.
    :param evidence: what the task that gathers it returned.
    """
    return ManualGateSensor(
        task_id=AWAIT_APPROVAL,
        use_case=use_case,
        subject=evidence["subject"],
        body=evidence["body"],
        digest=evidence["digest"],
        version=candidate["version"],
        sentence=evidence["sentence"],
        approved_task_id=RECORD_APPROVAL,
        rejected_task_id=RECORD_REJECTION,
        # An answer within seconds of the question costs a try, and the next one goes on with it.
        retries=5,
        retry_delay=timedelta(seconds=3),
        retry_exponential_backoff=False,
    )
