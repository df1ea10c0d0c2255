"""The manual gate: what it asks, who may answer, and what each answer leads to."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import msgspec
import pytest
import requests
from airflow.models.connection import Connection
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped, TaskAwaitingInput

from lifecycle import settings
from lifecycle.sensors import approval as gate
from tests.support.airflow import USE_CASE, make_settings

ANSWERED = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
AGO: dict[int, str] = {}
"""What was the time so many minutes ago, when the test began."""
ASKED = {"digest": "sha256:aa"}


@pytest.fixture(autouse=True)
def clock():
    now = datetime.now(UTC)
    AGO.update({minutes: (now - timedelta(minutes=minutes)).isoformat() for minutes in (0, 1, 5, 30, 60, 90, 300)})
    ASKED["asked_at"] = AGO[0]


@pytest.fixture
def use_release_settings(monkeypatch):
    def use(response_hours=48, **of):
        changed = make_settings(of, release=settings.Release(response_hours=response_hours))
        monkeypatch.setattr(settings, "load", lambda: changed)

    use(approvers=("rita", "omar"), response_hours=2)
    return use


@pytest.fixture
def asked(monkeypatch):
    questions = []
    monkeypatch.setattr(gate, "upsert_hitl_detail", lambda **question: questions.append(question))
    return questions


@pytest.fixture(autouse=True)
def told(monkeypatch):
    """The kinds of messages that were sent."""
    kinds = []
    for kind in ("waits", "still_waits", "decided"):
        monkeypatch.setattr(gate.messages, kind, lambda *said, kind=kind: kinds.append(kind))
    return kinds


@pytest.fixture
def sensor(use_release_settings):
    with DAG("release", schedule=None):
        sensor = gate.ManualGateSensor(
            task_id="await_approval",
            use_case=USE_CASE,
            subject="Release?",
            body="| a | b |",
            digest="sha256:aa",
            approved_task_id="go",
            rejected_task_id="stop",
        )
        sensor >> [EmptyOperator(task_id="go"), EmptyOperator(task_id="stop")]
    return sensor


@pytest.fixture
def context(sensor):
    pushed = {}
    instance = SimpleNamespace(
        id="ti",
        dag_id="release",
        run_id="run 1",
        task_id="await_approval",
        task=sensor,
        map_index=-1,
        try_number=1,
        pushed=pushed,
        xcom_push=lambda key, value: pushed.update({key: value}),
    )
    run = SimpleNamespace(dag_id="release", run_id="run 1", run_type="manual", triggering_user_name="omar", conf={})
    return {"ti": instance, "dag_run": run, "task_state_store": Memory()}


class Memory:
    """What Airflow keeps for a task from try to try."""

    def __init__(self):
        self.kept = {}

    def get(self, key, default=None):
        return self.kept.get(key, default)

    def set(self, key, value, *, retention):
        self.kept[key] = value

    def delete(self, key):
        self.kept.pop(key, None)


def answer(option, user="rita", comment="looks right"):
    return {
        "chosen_options": [option],
        "params_input": {"comment": comment},
        "responded_by_user": user if isinstance(user, dict) else {"id": user, "name": user},
        "responded_at": ANSWERED,
        "timedout": False,
    }


def test_execute_asks_the_listed_approvers_and_parks_without_a_slot(sensor, context, asked):
    with pytest.raises(TaskAwaitingInput) as parked:
        sensor.execute(context)
    assert parked.value.timeout == timedelta(seconds=20), "then it looks for an answer that Airflow did not notice"
    assert parked.value.method_name == "decided"
    assert parked.value.kwargs["digest"] == "sha256:aa"
    assert datetime.now(UTC) - datetime.fromisoformat(parked.value.kwargs["asked_at"]) < timedelta(minutes=1)
    assert asked[0]["params"]["comment"]["description"] == "Only these people may answer: rita, omar."
    assert "assigned_users" not in asked[0], "Airflow would compare ids alone, and the list may hold names"
    assert asked[0]["options"] == ["Approve", "Reject"]
    assert "defaults" not in asked[0], "a default would answer in silence"


def test_execute_leaves_the_requester_out_where_they_may_not_approve(sensor, context, asked, use_release_settings):
    use_release_settings(approvers=("rita", "omar"), requester_may_approve=False)
    with pytest.raises(TaskAwaitingInput):
        sensor.execute(context)
    assert asked[0]["params"]["comment"]["description"].endswith(": rita.")


def test_execute_fails_when_the_requester_is_the_only_approver(sensor, context, asked, use_release_settings):
    use_release_settings(approvers=("omar",), requester_may_approve=False)
    with pytest.raises(AirflowFailException, match="list another approver"):
        sensor.execute(context)
    assert asked == []


@pytest.mark.parametrize(
    ("option", "approved", "skipped"),
    [("Approve", True, "stop"), ("Reject", False, "go")],
    ids=["approve", "reject"],
)
def test_answer_is_kept_and_skips_the_other_branch(sensor, context, option, approved, skipped):
    with pytest.raises(DownstreamTasksSkipped) as branch:
        sensor.decided(context, answer(option), **ASKED)
    assert branch.value.tasks == [(skipped, -1)]
    decision = msgspec.convert(context["ti"].pushed["return_value"], gate.Decision)
    assert decision == gate.Decision(approved, "rita", ANSWERED.isoformat(), "looks right", "rita")


def test_approval_of_something_else_than_is_to_be_released_by_now_is_refused(sensor, context):
    sensor.digest = "sha256:rebuilt"
    with pytest.raises(AirflowFailException, match="from sha256:aa to sha256:rebuilt"):
        sensor.decided(context, answer("Approve"), **ASKED)
    assert context["ti"].pushed == {}


def test_rejection_counts_whatever_has_been_rebuilt(sensor, context):
    sensor.digest = "sha256:rebuilt"
    with pytest.raises(DownstreamTasksSkipped) as branch:
        sensor.decided(context, answer("Reject"), **ASKED)
    assert branch.value.tasks == [("go", -1)]
    assert context["ti"].pushed["return_value"]["digest"] == "sha256:aa"


TIMEOUT = {"error": "timed out", "error_type": "timeout"}


def test_people_are_told_of_the_question_and_of_the_decision_once(sensor, context, asked, told):
    with pytest.raises(TaskAwaitingInput):
        sensor.execute(context)
    with pytest.raises(TaskAwaitingInput):
        sensor.decided(context, TIMEOUT, **ASKED)
    with pytest.raises(DownstreamTasksSkipped):
        sensor.decided(context, answer("Reject"), **ASKED)
    assert told == ["waits", "decided"]


def test_people_are_reminded_once_before_the_time_is_over(sensor, context, asked, told, use_release_settings, retry):
    use_release_settings(response_hours=8)
    with pytest.raises(TaskAwaitingInput):
        sensor.decided(context, TIMEOUT, digest="sha256:aa", asked_at=AGO[90])
    assert told == ["waits"]
    for _ in range(2):
        with pytest.raises(TaskAwaitingInput):
            sensor.decided(context, TIMEOUT, digest="sha256:aa", asked_at=AGO[300])
    retry(asked=300, tries=[tried(1, "failed", 300, 30), tried(2, "running", 30)])
    with pytest.raises(TaskAwaitingInput):
        sensor.execute(context)
    assert told == ["waits", "still_waits"]


def test_question_of_a_worker_that_died_before_it_told_anybody_is_told_by_the_next_try(
    sensor, context, asked, told, retry, monkeypatch
):
    class Died(BaseException):
        """Stands for the end of the process."""

    def die(*said):
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(gate.messages, "waits", die)
        with pytest.raises(Died):
            sensor.execute(context)
    assert len(asked) == 1
    retry(asked=1, tries=[tried(1, "failed", 1, 0), tried(2, "running", 0)])
    for _ in range(2):  # a third try tells nobody again
        with pytest.raises(TaskAwaitingInput):
            sensor.execute(context)
    assert told == ["waits"]
    assert len(asked) == 1


def test_question_that_nobody_was_told_of_in_time_is_not_told_after_it(sensor, context, told, retry):
    retry(asked=300, tries=[tried(1, "failed", 300, 1), tried(2, "running", 1)])
    with pytest.raises(DownstreamTasksSkipped):
        sensor.execute(context)
    assert told == ["decided"]


def test_park_ends_when_the_reminder_is_due(sensor, context, use_release_settings):
    use_release_settings(response_hours=5.5)
    with pytest.raises(TaskAwaitingInput) as parked:
        sensor.decided(context, TIMEOUT, digest="sha256:aa", asked_at=AGO[60])
    assert abs(parked.value.timeout - timedelta(minutes=30)) < timedelta(minutes=1), "and not after an hour"


def test_silence_is_a_no(sensor, context):
    with pytest.raises(DownstreamTasksSkipped) as branch:
        sensor.decided(context, TIMEOUT, digest="sha256:aa", asked_at=AGO[300])
    assert branch.value.tasks == [("go", -1)]
    assert context["ti"].pushed["return_value"]["approved"] is False
    assert context["ti"].pushed["return_value"]["decided_by"] == "nobody"


@pytest.mark.parametrize(("minutes", "parks"), [(5, 5), (30, 30), (90, 30)], ids=["soon", "later", "near the end"])
def test_look_that_finds_no_answer_parks_for_as_long_again_and_never_beyond_the_limit(
    sensor, context, asked, minutes, parks
):
    with pytest.raises(TaskAwaitingInput) as parked:
        sensor.decided(context, TIMEOUT, digest="sha256:aa", asked_at=AGO[minutes])
    assert abs(parked.value.timeout - timedelta(minutes=parks)) < timedelta(minutes=1)
    assert parked.value.kwargs == {"digest": "sha256:aa", "asked_at": AGO[minutes]}
    assert asked == []


def test_looks_are_never_more_than_an_hour_apart(sensor, context, use_release_settings):
    use_release_settings(approvers=("rita",), response_hours=48)
    with pytest.raises(TaskAwaitingInput) as parked:
        sensor.decided(context, TIMEOUT, digest="sha256:aa", asked_at=AGO[300])
    assert parked.value.timeout == timedelta(hours=1)


def test_other_error_fails_and_says_how_to_ask_again(sensor, context):
    with pytest.raises(AirflowFailException, match="clear this task"):
        sensor.decided(context, {"error": "database gone", "error_type": "unknown"}, **ASKED)


USERS = {
    "SimpleAuthManager": {"id": "omar", "name": "omar"},
    "FAB": {"id": "7", "name": "omar"},
    "Keycloak": {"id": "0b7e-41", "name": "Omar@Example.com"},
}
"""The same person as three auth managers name them, who triggers a run as ``name``."""


@pytest.fixture
def notes(monkeypatch):
    kept = []
    monkeypatch.setattr(gate.airflow_api, "set_run_note", lambda dag_id, run_id, note: kept.append(note))
    return kept


@pytest.mark.parametrize("user", USERS.values(), ids=USERS)
def test_requester_approving_an_open_question_is_asked_again(sensor, context, asked, notes, use_release_settings, user):
    use_release_settings(approvers=(), requester_may_approve=False)
    context["dag_run"].triggering_user_name = user["name"].lower()
    with pytest.raises(TaskAwaitingInput):
        sensor.decided(context, answer("Approve", user=user), **ASKED)
    assert len(asked) == 1
    assert "return_value" not in context["ti"].pushed
    assert "asked for this release" in notes[0]


@pytest.mark.parametrize("listed", ["name", "id"])
@pytest.mark.parametrize("user", USERS.values(), ids=USERS)
def test_approver_may_be_listed_by_id_or_name(sensor, context, use_release_settings, user, listed):
    use_release_settings(approvers=(user[listed].lower(),))
    with pytest.raises(DownstreamTasksSkipped):
        sensor.decided(context, answer("Approve", user=user), **ASKED)
    assert context["ti"].pushed["return_value"]["user_id"] == user["id"]
    assert context["ti"].pushed["return_value"]["decided_by"] == user["name"]


@pytest.mark.parametrize("option", ["Approve", "Reject"])
def test_answer_of_somebody_who_is_not_listed_now_is_not_taken(sensor, context, asked, notes, option):
    """Whom Airflow lets answer is one thing, and whom the settings list when the answer comes another."""
    with pytest.raises(TaskAwaitingInput):
        sensor.decided(context, answer(option, user={"id": "9", "name": "mallory"}), **ASKED)
    assert len(asked) == 1
    assert "return_value" not in context["ti"].pushed
    assert notes == [
        "An answer was not taken, and the question stands again: mallory (id 9) is not among the approvers (rita, omar)"
    ]


def test_nobody_is_asked_where_the_requester_cannot_be_told(sensor, context, asked, use_release_settings):
    use_release_settings(approvers=("rita",), requester_may_approve=False)
    context["dag_run"].run_type = "asset_triggered"
    context["dag_run"].triggering_user_name = None
    posted = SimpleNamespace(extra={"version": "", "from_rest_api": True}, source_dag_id=None, source_run_id=None)
    context["triggering_asset_events"] = {"asset": [posted]}
    with pytest.raises(
        AirflowFailException, match=r"posted to Airflow's API.*Trigger attrition_release under your own"
    ):
        sensor.execute(context)
    assert asked == []


def test_requester_may_reject_their_own_release(sensor, context, use_release_settings):
    use_release_settings(approvers=(), requester_may_approve=False)
    with pytest.raises(DownstreamTasksSkipped) as branch:
        sensor.decided(context, answer("Reject", user="omar"), **ASKED)
    assert branch.value.tasks == [("go", -1)]


@pytest.fixture
def retry(context, connections, monkeypatch):
    """Let Airflow know of an earlier try: ``retry(asked=minutes ago, answered=event, tries=rows)``."""
    connections["airflow_api"] = Connection(
        conn_id="airflow_api", conn_type="http", host="airflow", port=8080, password="token"
    )

    def of(asked, answered=None, at=None, digest="sha256:aa", tries=()):
        record = {
            **(answered or {"chosen_options": None, "params_input": {}, "responded_by_user": None}),
            "created_at": AGO[asked],
            "responded_at": AGO[at] if at else None,
            "params": {"comment": {"value": None, "description": None, "schema": {"digest": digest}}},
        }
        place = "http://airflow:8080/api/v2/dags/release/dagRuns/run%201/taskInstances/await_approval/-1"
        known = {f"{place}/hitlDetails": record, f"{place}/tries": {"task_instances": list(tries)}}
        monkeypatch.setattr(requests.Session, "get", lambda session, url, timeout: reply(known[url]))
        context["ti"].try_number = 2

    return of


def reply(body, status=200):
    return SimpleNamespace(status_code=status, json=lambda: body, raise_for_status=lambda: None)


def tried(number, state, began, ended=None):
    return {"try_number": number, "state": state, "start_date": AGO[began], "end_date": AGO[ended] if ended else None}


def test_first_try_needs_no_connection_to_airflow(sensor, context, asked, connections):
    with pytest.raises(TaskAwaitingInput):
        sensor.execute(context)


def test_answer_that_airflow_kept_of_a_try_it_failed_decides_the_next_one(sensor, context, asked, retry):
    retry(asked=30, answered=answer("Approve"), at=30, tries=[tried(1, "failed", 30, 30), tried(2, "running", 30)])
    sensor.body = "| the same image | in other words |"
    with pytest.raises(DownstreamTasksSkipped) as branch:
        sensor.execute(context)
    assert branch.value.tasks == [("stop", -1)]
    assert msgspec.convert(context["ti"].pushed["return_value"], gate.Decision) == gate.Decision(
        True, "rita", AGO[30], "looks right", "rita"
    )
    assert asked == [], "asking again would remove the answer"


def test_answer_kept_from_before_the_deadline_counts_after_it(sensor, context, retry):
    retry(asked=300, answered=answer("Approve"), at=300, tries=[tried(2, "running", 1)])
    with pytest.raises(DownstreamTasksSkipped) as branch:
        sensor.execute(context)
    assert branch.value.tasks == [("stop", -1)]


def test_kept_approval_of_another_digest_is_refused(sensor, context, asked, retry):
    retry(asked=30, answered=answer("Approve"), at=30, digest="sha256:old")
    with pytest.raises(AirflowFailException, match="from sha256:old to sha256:aa"):
        sensor.execute(context)
    assert asked == []
    assert context["ti"].pushed == {}


def test_kept_approval_by_the_requester_does_not_count(sensor, context, asked, notes, retry, use_release_settings):
    use_release_settings(approvers=(), requester_may_approve=False, response_hours=2)
    retry(asked=90, answered=answer("Approve", user="omar"), at=90)
    with pytest.raises(TaskAwaitingInput) as parked:
        sensor.execute(context)
    assert len(asked) == 1
    assert timedelta(minutes=29) < parked.value.timeout <= timedelta(minutes=30), "own approval wins no time"


def test_retry_without_an_answer_waits_for_what_is_left_since_the_first_question(sensor, context, asked, retry):
    retry(asked=90, tries=[tried(1, "failed", 90, 30), tried(2, "running", 30)])
    sensor.body = "| the same image | in other words |"
    with pytest.raises(TaskAwaitingInput) as parked:
        sensor.execute(context)
    assert timedelta(minutes=29) < parked.value.timeout <= timedelta(minutes=30)
    assert parked.value.kwargs == {"digest": "sha256:aa", "asked_at": AGO[90]}
    assert asked == [], "asking again would remove an answer that arrives at this moment"


def test_retry_past_the_deadline_is_silence(sensor, context, asked, retry):
    retry(asked=300)
    with pytest.raises(DownstreamTasksSkipped) as branch:
        sensor.execute(context)
    assert branch.value.tasks == [("go", -1)]
    assert context["ti"].pushed["return_value"]["decided_by"] == "nobody"
    assert asked == []


def test_retry_about_another_digest_is_refused_before_anyone_answers(sensor, context, asked, retry):
    retry(asked=30, digest="sha256:old")
    with pytest.raises(AirflowFailException, match="trigger a new run of release"):
        sensor.execute(context)
    assert asked == []


def test_gate_that_is_cleared_after_its_decision_asks_again_and_has_the_whole_time(sensor, context, asked, told, retry):
    with pytest.raises(DownstreamTasksSkipped):
        sensor.decided(context, answer("Reject"), digest="sha256:aa", asked_at=AGO[300])
    tries = [tried(1, "success", 300, 90), tried(2, "failed", 60, 30), tried(3, "running", 5)]
    retry(asked=300, answered=answer("Reject"), at=90, tries=tries)
    with pytest.raises(TaskAwaitingInput) as parked:
        sensor.execute(context)
    assert len(asked) == 1
    assert timedelta(minutes=59) < parked.value.timeout <= timedelta(minutes=60), "counted from the try after the clear"
    assert told[:2] == ["decided", "waits"], "people are told of what is asked again"


@pytest.mark.parametrize("answered", [None, "Approve"], ids=["no answer yet", "answered before the task ran"])
def test_gate_that_is_cleared_after_silence_stands_open_again(sensor, context, asked, retry, answered):
    tries = [tried(1, "success", 300, 90), tried(2, "running", 30)]
    if answered:
        retry(asked=300, answered=answer("Approve"), at=60, tries=tries)
        with pytest.raises(DownstreamTasksSkipped):
            sensor.execute(context)
    else:
        retry(asked=300, tries=tries)
        with pytest.raises(TaskAwaitingInput):
            sensor.execute(context)
    assert asked == []


def test_retry_of_a_try_that_failed_before_it_asked_asks(sensor, context, asked, retry, monkeypatch):
    retry(asked=30)
    monkeypatch.setattr(requests.Session, "get", lambda *arguments, **options: reply({}, status=404))
    with pytest.raises(TaskAwaitingInput):
        sensor.execute(context)
    assert len(asked) == 1
