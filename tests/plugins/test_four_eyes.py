"""Who is behind a release: the schedule, a person by hand or by an API token, or somebody who posted an event."""

from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from lifecycle import four_eyes, settings
from lifecycle.hooks import airflow_api
from tests.support.airflow import USE_CASE, make_settings

TRAIN, NIGHTLY = "attrition_train", "attrition_retrain_nightly"
ALICE = {"id": "7", "name": "alice"}


def airflow_run(run_type="manual", user=None, conf=None):
    return {"run_type": run_type, "triggering_user_name": user, "conf": conf}


def triggered_by(run_id, dag_id=NIGHTLY):
    return airflow_run("operator_triggered", conf={four_eyes.STARTED_BY: {"dag_id": dag_id, "run_id": run_id}})


@pytest.fixture
def runs(monkeypatch):
    """Airflow's runs by DAG and run id, and the events that trainings announced versions by."""
    known = {}
    monkeypatch.setattr(airflow_api, "dag_run", lambda dag_id, run_id: known.get((dag_id, run_id)))
    monkeypatch.setattr(airflow_api, "asset_events", lambda dag_id: iter(known.get("events", [])))
    strict = make_settings({"requester_may_approve": False})
    monkeypatch.setattr(settings, "load", lambda: strict)
    return known


def event(version, run_id=None):
    posted = {"from_rest_api": True} if run_id is None else {}
    return SimpleNamespace(
        extra={"version": version, **posted}, source_run_id=run_id, source_dag_id=TRAIN if run_id else None
    )


def context(*events, run_type="asset_triggered", user=None, conf=None):
    run = SimpleNamespace(
        dag_id="attrition_release", run_id="r", run_type=run_type, triggering_user_name=user, conf=conf
    )
    return {"dag_run": run, "triggering_asset_events": {"asset": list(events)} if events else {}}


def test_release_after_a_training_of_the_nightly_schedule_has_no_requester(runs):
    runs[TRAIN, "night"] = triggered_by("scheduled__1")
    runs[NIGHTLY, "scheduled__1"] = airflow_run("scheduled")
    found = four_eyes.find(context(event("3", "night")), USE_CASE, "3")
    assert found == four_eyes.Requester("the schedule (attrition_retrain_nightly)")
    assert four_eyes.objection(USE_CASE, ALICE, approves=True, requester=found) == ""


@pytest.mark.parametrize(("outcomes", "people"), [("/outcomes", ("alice",)), ("", ())], ids=["read", "none"])
def test_outcomes_that_wait_for_the_night_are_not_approved_by_those_who_write_them(runs, monkeypatch, outcomes, people):
    """Whoever may write outcomes had only to let the schedule find them, and could approve what they led to."""
    of = {"requester_may_approve": False, "data_writers": ["alice"], "outcomes": outcomes}
    monkeypatch.setattr(settings, "load", lambda: make_settings(of))
    runs[TRAIN, "night"] = triggered_by("scheduled__1")
    runs[NIGHTLY, "scheduled__1"] = airflow_run("scheduled")
    found = four_eyes.forbidden_requester(context(event("3", "night")), USE_CASE, "3")
    assert found == four_eyes.Requester("the schedule (attrition_retrain_nightly)", people)
    assert bool(four_eyes.objection(USE_CASE, ALICE, approves=True, requester=found)) == bool(people)
    assert four_eyes.objection(USE_CASE, {"id": "8", "name": "rita"}, approves=True, requester=found) == ""


CHAINS = {
    "training by hand": {(TRAIN, "t"): airflow_run(user="alice")},
    "nightly run by hand": {
        (TRAIN, "t"): triggered_by("by hand"),
        (NIGHTLY, "by hand"): airflow_run(user="alice"),
    },
    "nightly run by hand, whose user the training inherits": {(TRAIN, "t"): airflow_run("operator_triggered", "alice")},
    "materialised": {(TRAIN, "t"): airflow_run("asset_materialization", "alice")},
}


@pytest.mark.parametrize("known", CHAINS.values(), ids=CHAINS)
def test_person_at_the_beginning_of_the_chain_may_not_approve_what_it_led_to(runs, known):
    """security.md, finding 2: the id is 7, the name alice, and the asset's release names nobody."""
    runs.update(known)
    found = four_eyes.forbidden_requester(context(event("3", "t")), USE_CASE, "3")
    assert found.people == ("alice",)
    objection = four_eyes.objection(USE_CASE, ALICE, approves=True, requester=found)
    assert objection == "alice (id 7) asked for this release, and requester_may_approve is false"
    assert four_eyes.objection(USE_CASE, ALICE, approves=False, requester=found) == "", "a no is a no"
    assert four_eyes.objection(USE_CASE, {"id": "8", "name": "rita"}, approves=True, requester=found) == ""


@pytest.mark.parametrize("user", ["alice", "Alice@example.com"], ids=["name", "mail in another case"])
def test_run_started_with_an_api_token_is_its_users(runs, user):
    """Airflow keeps the name of the token's user; the answer brings another id."""
    found = four_eyes.forbidden_requester(context(run_type="manual", user=user), USE_CASE, "3")
    answers = {"id": "0b7e-41", "name": user.lower()}
    assert "asked for this release" in four_eyes.objection(USE_CASE, answers, approves=True, requester=found)


ARRIVALS = "attrition_arrivals"


@pytest.mark.parametrize("run_type", ["asset_triggered", "scheduled"], ids=["event", "sweep"])
def test_release_that_new_data_asked_for_is_not_approved_by_those_who_write_there(runs, monkeypatch, run_type):
    """The sweep finds the same file, so a file that waits for it must not be anybody's way around the second person."""
    writers = make_settings({"requester_may_approve": False, "data_writers": ["alice"]})
    monkeypatch.setattr(settings, "load", lambda: writers)
    runs[TRAIN, "t"] = triggered_by("a", ARRIVALS)
    runs[ARRIVALS, "a"] = airflow_run(run_type)
    found = four_eyes.forbidden_requester(context(event("3", "t")), USE_CASE, "3")
    assert found == four_eyes.Requester("new data", ("alice",))
    assert "asked for this release" in four_eyes.objection(USE_CASE, ALICE, approves=True, requester=found)
    assert four_eyes.objection(USE_CASE, {"id": "8", "name": "rita"}, approves=True, requester=found) == ""


def test_nightly_run_that_new_outcomes_started_is_new_datas_too(runs):
    runs[TRAIN, "t"] = triggered_by("n")
    runs[NIGHTLY, "n"] = triggered_by("a", ARRIVALS)
    runs[ARRIVALS, "a"] = airflow_run("asset_triggered")
    assert four_eyes.find(context(event("3", "t")), USE_CASE, "3").text == "new data"


@pytest.mark.parametrize(
    ("began", "says"),
    [
        ({"run_type": "scheduled"}, "the schedule (attrition_retrain_nightly: drift of Age)"),
        ({"user": "alice"}, "alice (drift of Age)"),
    ],
)
def test_reason_of_a_retraining_is_told_with_whoever_is_behind_it(runs, began, says):
    """The gate said that the schedule asked, and not that it was for drift."""
    runs[TRAIN, "t"] = triggered_by("n")
    runs[TRAIN, "t"]["conf"][four_eyes.STARTED_BY]["why"] = "drift of Age"
    runs[NIGHTLY, "n"] = airflow_run(**began)
    found = four_eyes.find(context(event("3", "t")), USE_CASE, "3")
    assert found.text == says
    assert found.people == tuple(filter(None, [began.get("user")]))


def test_sweep_by_hand_is_whose_hand_it_was(runs):
    runs[TRAIN, "t"] = triggered_by("a", ARRIVALS)
    runs[ARRIVALS, "a"] = airflow_run(user="alice")
    assert four_eyes.find(context(event("3", "t")), USE_CASE, "3").people == ("alice",)


UNKNOWN = {
    "new data, and nobody said who writes it": (
        context(event("3", "t")),
        {(TRAIN, "t"): triggered_by("a", ARRIVALS), (ARRIVALS, "a"): airflow_run("asset_triggered")},
        "data_writers of [use_cases.attrition] in the settings file does not say who may write there",
    ),
    "posted event": (context(event("3")), {}, "an asset event was posted to Airflow's API"),
    "posted beside a training's event": (
        context(event("2", "t"), event("3")), {(TRAIN, "t"): airflow_run(user="alice")}, "was posted"
    ),
    "run by hand without a user": (context(run_type="manual"), {}, "names no user"),
    "a conf that a person wrote": (
        context(run_type="manual", conf={four_eyes.STARTED_BY: {"dag_id": NIGHTLY, "run_id": "s"}}),
        {(NIGHTLY, "s"): airflow_run("scheduled")},
        "names no user",
    ),
    "run that was deleted": (context(event("3", "t")), {}, "Airflow has no run t of attrition_train any more"),
    "operator of another DAG": (
        context(event("3", "t")), {(TRAIN, "t"): airflow_run("operator_triggered")}, "names no user"
    ),
    "chain without an end": (context(event("3", "t")), {(TRAIN, "t"): triggered_by("t", TRAIN)}, "names no user"),
    "challenger that nothing announced": (
        context(event("2", "t")), {(TRAIN, "t"): airflow_run("scheduled")}, "was posted"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("now", "known", "reason"), UNKNOWN.values(), ids=UNKNOWN)
def test_person_who_cannot_be_told_is_refused_with_what_to_do(runs, now, known, reason):
    runs.update(known)
    with pytest.raises(
        AirflowFailException, match=r"nobody may answer.*Trigger attrition_release under your own"
    ) as told:
        four_eyes.forbidden_requester(now, USE_CASE, "3")
    assert reason in str(told.value)
    assert four_eyes.find(now, USE_CASE, "3").unknown


def test_newer_challenger_is_its_own_trainers_whoevers_event_started_the_release(runs):
    """An event of the night starts the release, and by then alice has trained what it offers."""
    runs[TRAIN, "night"] = airflow_run("scheduled")
    runs[TRAIN, "alices"] = airflow_run(user="alice")
    runs["events"] = [
        {"extra": {"version": "4"}, "source_dag_id": TRAIN, "source_run_id": "alices"},
        {"extra": {"version": "3"}, "source_dag_id": TRAIN, "source_run_id": "night"},
    ]
    found = four_eyes.find(context(event("3", "night")), USE_CASE, "4")
    assert (found.people, found.unknown) == (("alice",), "")
    assert found.text == "alice and the schedule (attrition_train)"


def test_requester_who_may_approve_is_not_looked_up(runs, monkeypatch):
    lenient = make_settings({"requester_may_approve": True})
    monkeypatch.setattr(settings, "load", lambda: lenient)
    assert four_eyes.forbidden_requester(context(event("3")), USE_CASE, "3") is None


def test_answer_of_nobody_is_not_an_approval_where_it_may_be_the_requesters(runs):
    found = four_eyes.Requester("the schedule")
    assert "does not say who answered" in four_eyes.objection(USE_CASE, {}, approves=True, requester=found)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (["Rita@Example.com"], ["rita@example.COM"], True),
        (["rita"], ["Rita"], False),
        (["7", "rita"], ["rita", "9"], True),
        (["7"], ["70"], False),
        ([None, ""], [None, ""], False),
    ],
)
def test_people_are_the_same_by_any_of_their_names(one, other, equal):
    assert four_eyes.same(one, other) is equal
