"""Messages about a release: what Slack, Teams and a mail get, and that none of them stops anything."""

import html
from datetime import UTC, datetime

import pytest
from airflow.models.connection import Connection
from hypothesis import given
from hypothesis import strategies as st

from lifecycle import messages, settings
from lifecycle.evidence.document import Decision
from lifecycle.hooks import airflow_api
from lifecycle.hooks import connections as transport
from lifecycle.sensors.approval import silence
from tests.support.airflow import USE_CASE, make_settings
from tests.support.http_double import serving

SUBJECT, LINK = "Employee Attrition API: release version 2 to production?", "http://airflow/gate"
UNTIL = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)
REJECTED = Decision(False, "rita", "2026-11-27T08:00:00+00:00", "<b>no</b> & *why*")


@pytest.fixture
def posted(connections, monkeypatch):
    """Bodies that are posted; ``posted.use(service)`` names the service."""

    class Posted(list):
        def use(self, service):
            extra = {"service": service} if service else {}
            connections["messages"] = Connection(conn_id="messages", conn_type="http", host="hooks", extra=extra)

    found = Posted()
    monkeypatch.setattr(settings, "load", make_settings)
    monkeypatch.setattr(transport, "post", lambda conn_id, body: found.append(body))
    return found


def test_slack_gets_heading_sentence_deadline_and_link(posted):
    posted.use("slack")
    messages.waits(USE_CASE, SUBJECT, "Version 2 asks to replace version 1.", UNTIL, LINK)
    (body,) = posted
    assert list(body) == ["text"]
    heading, text, link = body["text"].splitlines()
    assert heading.endswith(f"] {SUBJECT}*")
    assert text == (
        "Version 2 asks to replace version 1. Without an answer by 2026-11-28 09:30 UTC this release is rejected."
    )
    assert link == f"<{LINK}|Open in Airflow>"


def test_teams_gets_a_card_whose_button_opens_the_gate(posted):
    posted.use("teams")
    messages.still_waits(USE_CASE, SUBJECT, UNTIL, LINK)
    (attachment,) = posted[0]["attachments"]
    assert (posted[0]["type"], attachment["contentType"]) == ("message", "application/vnd.microsoft.card.adaptive")
    card = attachment["content"]
    assert "No answer yet" in card["body"][0]["text"]
    assert card["actions"] == [{"type": "Action.OpenUrl", "title": "Open in Airflow", "url": LINK}]


@pytest.mark.parametrize("service", ["slack", "teams"])
def test_comment_of_a_person_is_text_and_no_markup(posted, service):
    posted.use(service)
    messages.decided(USE_CASE, SUBJECT, REJECTED, LINK)
    said = str(posted)
    assert "<b>" not in said
    assert "Rejected by rita: " in said


@given(st.text(max_size=200))
def test_no_text_makes_a_link_a_mention_or_a_line_of_its_own(text):
    message = messages.Message("heading", text, LINK)
    sent = messages._slack(message)["text"]
    inner = sent.removeprefix("*heading*\n").removesuffix(f"\n<{LINK}|Open in Airflow>")
    assert "<" not in inner
    assert ">" not in inner
    assert html.unescape(inner) == text or "&" in text


def test_silence_is_told_as_nobodys_rejection(posted):
    posted.use("slack")
    messages.decided(USE_CASE, SUBJECT, silence(), LINK)
    heading, text, link = posted[0]["text"].splitlines()
    assert f"Rejected. {SUBJECT}" in heading
    assert text == "Rejected by nobody: no answer within the time limit"
    assert link == f"<{LINK}|Open in Airflow>"


def test_release_rollback_and_restoration_are_told(posted):
    posted.use("slack")
    messages.in_production(USE_CASE, "Version 2 is in production", "", LINK)
    messages.in_production(USE_CASE, "Version 1 is in production", "it was worse", LINK)
    messages.put_back(USE_CASE, "3", LINK)
    released, back, failed = (body["text"] for body in posted)
    assert "was released" in released
    assert "was rolled back" in back
    assert "Version 1 is in production. Reason: it was worse" in back
    assert "release of version 3 failed" in failed


def test_mail_has_the_same(connections, monkeypatch):
    sent = []
    monkeypatch.setattr(settings, "load", make_settings)
    monkeypatch.setattr(transport, "mail", lambda *mail: sent.append(mail))
    connections["messages"] = Connection(conn_id="messages", conn_type="smtp", host="mail")
    messages.decided(USE_CASE, SUBJECT, REJECTED, LINK)
    ((conn_id, heading, body, headers),) = sent
    assert (conn_id, headers) == ("messages", {})
    assert "Rejected. " in heading
    assert "&lt;b&gt;no&lt;/b&gt; &amp; *why*" in body
    assert f'href="{LINK}"' in body


@pytest.mark.parametrize("service", ["", "mattermost"])
def test_webhook_of_an_unknown_service_is_told_with_those_that_are_known(posted, service, caplog):
    posted.use(service)
    messages.put_back(USE_CASE, "3", LINK)
    assert posted == []
    assert "it may be 'slack' or 'teams'" in caplog.text


def test_connection_that_airflow_refuses_to_hand_out_stops_nothing(monkeypatch, caplog):
    """It is a ``PermissionError``, which ended the gate's try before anybody could answer."""

    def refuse(conn_id):
        raise PermissionError(f"access to {conn_id} is denied")

    monkeypatch.setattr(settings, "load", make_settings)
    monkeypatch.setattr(transport.BaseHook, "get_connection", refuse)
    messages.waits(USE_CASE, SUBJECT, "Version 2 asks to replace version 1.", UNTIL, LINK)
    assert "it could not be sent through connection 'messages': access to messages is denied" in caplog.text
    airflow_api.set_run_note("dag", "run", "a note")
    assert "the note of run run could not be set" in caplog.text


@pytest.mark.parametrize("answer", [{}, ["a list"], "the page of a proxy", None], ids=str)
def test_note_that_cannot_be_set_stops_nothing_whatever_answers(connections, caplog, answer):
    with serving(lambda request: (200, answer)) as other:
        connections[airflow_api.CONNECTION_ID] = Connection(
            conn_id=airflow_api.CONNECTION_ID, conn_type="http", host=other.url, login="a", password="b"
        )
        airflow_api.set_run_note("dag", "run", "a note")
    assert "the note of run run could not be set" in caplog.text
