"""The manual gate: what it asks, who may answer, and what each answer leads to."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import msgspec
import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped, TaskAwaitingInput

from lifecycle import settings
from lifecycle.sensors import approval as gate

ANSWERED = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


@pytest.fixture
def use_release_settings(monkeypatch):
    def use(**changes):
        changed = settings.Settings(
            environment="test", airflow_url="", mlflow_url="", release=settings.Release(**changes)
        )
        monkeypatch.setattr(settings, "load", lambda: changed)

    use(approvers=("rita", "omar"), response_hours=2)
    return use


@pytest.fixture
def asked(monkeypatch):
    questions = []

    def put(**question):
        questions.append(question)
        return questions[0]["body"]  # as Airflow keeps it

    monkeypatch.setattr(gate, "put_question", put)
    return questions


@pytest.fixture
def sensor(use_release_settings):
    with DAG("release", schedule=None):
        sensor = gate.ManualGateSensor(
            task_id="await_approval",
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
        task=sensor,
        map_index=-1,
        pushed=pushed,
        xcom_push=lambda key, value: pushed.update({key: value}),
    )
    return {"ti": instance, "dag_run": SimpleNamespace(triggering_user_name="omar")}


def answer(option, user="rita", comment="looks right"):
    return {
        "chosen_options": [option],
        "params_input": {"comment": comment},
        "responded_by_user": {"id": user, "name": user},
        "responded_at": ANSWERED,
        "timedout": False,
    }


def test_execute_asks_the_listed_approvers_and_parks_without_a_slot(sensor, context, asked):
    with pytest.raises(TaskAwaitingInput) as parked:
        sensor.execute(context)
    assert parked.value.timeout == timedelta(hours=2)
    assert parked.value.method_name == "decided"
    assert parked.value.kwargs == {"digest": "sha256:aa"}
    assert [user["id"] for user in asked[0]["assigned_users"]] == ["rita", "omar"]
    assert asked[0]["options"] == ["Approve", "Reject"]
    assert "defaults" not in asked[0], "a default would answer in silence"


def test_execute_leaves_the_requester_out_where_they_may_not_approve(sensor, context, asked, use_release_settings):
    use_release_settings(approvers=("rita", "omar"), requester_may_approve=False)
    with pytest.raises(TaskAwaitingInput):
        sensor.execute(context)
    assert [user["id"] for user in asked[0]["assigned_users"]] == ["rita"]


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
        sensor.decided(context, answer(option), digest="sha256:aa")
    assert branch.value.tasks == [(skipped, -1)]
    decision = msgspec.convert(context["ti"].pushed["return_value"], gate.Decision)
    assert decision == gate.Decision(approved, "rita", ANSWERED.isoformat(), "looks right")


def test_result_names_the_digest_that_was_asked_about_and_not_a_later_one(sensor, context):
    sensor.digest = "sha256:rebuilt"
    with pytest.raises(DownstreamTasksSkipped):
        sensor.decided(context, answer("Approve"), digest="sha256:aa")
    assert context["ti"].pushed["return_value"]["digest"] == "sha256:aa"


def test_question_that_airflow_keeps_from_before_a_rebuild_is_not_asked_again(sensor, context, asked):
    with pytest.raises(TaskAwaitingInput):
        sensor.execute(context)
    sensor.body = "| another | image |"
    with pytest.raises(AirflowFailException, match="goes on showing the first question: trigger release anew"):
        sensor.execute(context)


def test_silence_is_a_no(sensor, context):
    with pytest.raises(DownstreamTasksSkipped) as branch:
        sensor.decided(context, {"error": "timed out", "error_type": "timeout"}, digest="sha256:aa")
    assert branch.value.tasks == [("go", -1)]
    assert context["ti"].pushed["return_value"]["approved"] is False
    assert context["ti"].pushed["return_value"]["decided_by"] == "nobody"


def test_other_error_fails_and_says_how_to_ask_again(sensor, context):
    with pytest.raises(AirflowFailException, match="clear this task"):
        sensor.decided(context, {"error": "database gone", "error_type": "unknown"}, digest="sha256:aa")


def test_requester_approving_an_open_question_is_asked_again(sensor, context, asked, use_release_settings):
    use_release_settings(approvers=(), requester_may_approve=False)
    with pytest.raises(TaskAwaitingInput):
        sensor.decided(context, answer("Approve", user="omar"), digest="sha256:aa")
    assert len(asked) == 1
    assert "return_value" not in context["ti"].pushed


def test_requester_may_reject_their_own_release(sensor, context, use_release_settings):
    use_release_settings(approvers=(), requester_may_approve=False)
    with pytest.raises(DownstreamTasksSkipped) as branch:
        sensor.decided(context, answer("Reject", user="omar"), digest="sha256:aa")
    assert branch.value.tasks == [("go", -1)]
