"""The note, the alerts, and the training run that a verdict leads to."""

import email
import http.server
import json
import socketserver
import ssl
import threading
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from airflow.models.connection import Connection
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException, AirflowSkipException

from lifecycle import alerts, settings
from lifecycle.hooks import airflow_api, registry
from lifecycle.task_ids import JOB_SECONDS
from lifecycle.tasks import retraining
from tests.support.airflow import USE_CASE, make_settings, run_task
from tests.support.certificate import write_certificate
from training.drift.verdict import Quality, Verdict
from training.evaluation.binary import Estimate
from training.inference_log import layout
from training.inference_log.labels import Labels
from training.registry import tags

QUIET = Verdict(night="2026-11-02", status="quiet", champion="3", records=300, used=200, note="quiet night")
DRIFTED = msgspec.structs.replace(
    QUIET,
    night="2026-11-03",
    status="drifted",
    confirmed=("Age",),
    retrain=True,
    reasons=("drift of Age",),
    note="drift",
    data="/t/training/n",
)

USED = {("curate_and_judge", JOB_SECONDS): {"curate": 9.0, "judge": 3.0}, ("land_logs", "return_value"): {"bytes": 2e6}}
"""What the tasks before it have told."""


@pytest.fixture
def night(tmp_path, monkeypatch):
    """Writes verdicts, and keeps notes and alerts: ``night(verdict, ...)`` decides."""
    changed = make_settings({"tables": str(tmp_path)})
    monkeypatch.setattr(settings, "load", lambda: changed)
    notes, sent, marked = [], [], {}
    monkeypatch.setattr(airflow_api, "set_run_note", lambda dag_id, run_id, note: notes.append(note))
    monkeypatch.setattr(alerts, "send", lambda alert: sent.append(alert) or True)
    monkeypatch.setattr(retraining, "service_is_up", lambda use_case: True)
    kept = SimpleNamespace(info=SimpleNamespace(experiment_id="7", run_id="run-of-the-night"))
    pushed = {}

    def mark(use_case, night, tag, text):
        marked[night, tag] = text
        return kept

    monkeypatch.setattr(registry, "mark_night", mark)

    def run(*verdicts, **params):
        for verdict in verdicts:
            folder = layout.night_folder(tmp_path, "nights", date.fromisoformat(verdict.night))
            layout.write_json(folder / layout.VERDICT, msgspec.to_builtins(verdict))
        context = {
            "params": params,
            "dag_run": SimpleNamespace(dag_id="attrition_retrain_nightly", run_id="r1"),
            "ti": SimpleNamespace(
                xcom_pull=lambda task_ids, key="return_value": USED.get((task_ids, key)),
                xcom_push=lambda key, value: pushed.update({key: value}),
            ),
        }
        return run_task(retraining.decide, context, USE_CASE, [verdict.night for verdict in verdicts])

    return SimpleNamespace(decide=run, notes=notes, sent=sent, marked=marked, pushed=pushed)


def test_quiet_night_skips_and_the_note_says_why(night):
    with pytest.raises(AirflowSkipException, match="quiet night"):
        night.decide(QUIET)
    assert night.notes == ["quiet night"]
    assert night.sent == []
    assert night.marked == {
        (
            "2026-11-02",
            tags.COST,
        ): "12 s of Databricks jobs, 0.002 GB of logs, 300 records scored: no price in the settings"
    }, "for the release page"
    report = "http://mlflow/#/experiments/7/runs/run-of-the-night?workflowType=machine_learning"
    assert night.pushed == {"link_mlflow_run": report}, "a link beside the task, also where it is skipped"


def test_confirmed_drift_starts_one_training_run_named_after_the_night(night):
    assert night.decide(DRIFTED) == {"run_id": "retrain__2026-11-03", "data": "/t/training/n", "why": "drift of Age"}
    assert [alert.kind for alert in night.sent] == ["drift"]
    assert night.marked["2026-11-03", tags.ALERTS] == "drift: Drift is confirmed over 2 nights: Age", "for the page"


def test_night_that_is_decided_again_repeats_no_alert(night):
    night.decide(DRIFTED)
    night.decide(DRIFTED)
    assert [alert.key for alert in night.sent] == ["attrition.2026-11-03.drift"]


def test_night_that_is_decided_again_sends_what_is_new_about_it(night):
    night.decide(DRIFTED)
    counts = {"read": 10, "quarantined": 9, "reasons": {"broken JSON": 9}}
    night.decide(msgspec.structs.replace(DRIFTED, counts=counts))
    assert [alert.key for alert in night.sent] == ["attrition.2026-11-03.drift", "attrition.2026-11-03.quarantine"]


def test_alert_that_was_not_delivered_is_sent_by_the_next_decision(night, monkeypatch):
    monkeypatch.setattr(alerts, "send", lambda alert: False)
    night.decide(DRIFTED)
    monkeypatch.setattr(alerts, "send", lambda alert: night.sent.append(alert) or True)
    night.decide(DRIFTED)
    assert [alert.kind for alert in night.sent] == ["drift"]


def test_retraining_by_hand_is_named_after_the_run_too(night):
    assert night.decide(DRIFTED, retrain=True)["run_id"] == "retrain__2026-11-03__r1"


def test_nights_that_were_caught_up_start_one_training_run_on_the_newest_table(night):
    later = msgspec.structs.replace(QUIET, night="2026-11-04", data="/t/training/newest")
    decided = night.decide(DRIFTED, later)
    assert decided == {"run_id": "retrain__2026-11-03", "data": "/t/training/newest", "why": "drift of Age"}


def test_missing_verdict_fails_and_says_what_to_check(night, tmp_path):
    with pytest.raises(AirflowFailException, match=r"2026-11-02 has no verdict.json.*job_tables"):
        retraining.read_verdict(tmp_path, "2026-11-02")


def kinds(verdict, service_up=True):
    return [one.kind for one in retraining.alerts_of(USE_CASE, verdict, service_up=service_up)]


def test_alert_for_quarantine_only_above_its_share():
    counts = {"read": 1000, "quarantined": 51, "reasons": {"broken JSON": 51}}
    assert kinds(msgspec.structs.replace(QUIET, counts=counts)) == ["quarantine"]
    assert kinds(msgspec.structs.replace(QUIET, counts={**counts, "quarantined": 50})) == []


def test_alert_for_silence_only_while_the_service_is_up():
    silent = msgspec.structs.replace(QUIET, status="no records", records=0, used=0)
    assert kinds(silent, service_up=True) == ["silence"]
    assert kinds(silent, service_up=False) == []


FEED = Labels(night="2026-11-02", outcomes=95, later=0, rejected=5, labelled=90, original=300, rows=390, files=4)


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ({"feed": FEED}, []),
        ({"feed": msgspec.structs.replace(FEED, outcomes=94, rejected=6)}, ["outcomes"]),
        ({"feed": msgspec.structs.replace(FEED, rejected=1, unread=1)}, ["outcomes"]),
        ({"feed": msgspec.structs.replace(FEED, gone=("a.csv",))}, ["feed"]),
        ({"feed": msgspec.structs.replace(FEED, newest="2026-09-19")}, []),
        ({"feed": msgspec.structs.replace(FEED, newest="2026-09-18", gone=("a.csv",))}, ["feed"]),
        ({"asked": 300, "most": 150}, []),
        ({"asked": 300, "most": 151}, ["records"]),
        ({"asked": 49, "most": 49}, []),
        ({"status": "too few records", "records": 300, "asked": 0, "used": 0}, ["records"]),
        ({"unpaired": {"input without output": 5}, "records": 95}, []),
        ({"unpaired": {"input without output": 6}, "records": 94}, ["export"]),
        ({"counts": {"read": 1, "blobs": 19, "strange": ["x"]}}, []),
        ({"counts": {"read": 1, "blobs": 18, "strange": ["x"]}}, ["export"]),
        ({"counts": {"read": 1, "bytes": 95, "unread": [{"day": "2026-10-01", "blobs": 1, "bytes": 5}]}}, []),
        ({"counts": {"read": 1, "bytes": 94, "unread": [{"day": "2026-10-01", "blobs": 1, "bytes": 6}]}}, ["export"]),
    ],
)
def test_alert_for_what_is_lost_only_beyond_its_limit(verdict, expected):
    assert kinds(msgspec.structs.replace(QUIET, **verdict)) == expected


def test_alert_for_lost_quality():
    lost = Quality(labels=500, positives=80, roc_auc=Estimate(0.5, 0.45, 0.55), lost=True)
    assert kinds(msgspec.structs.replace(QUIET, quality=lost)) == ["quality"]


class Killed(BaseException):
    """Stands for the end of the process: nothing may handle it."""


def test_decision_killed_between_two_alerts_sends_the_other_one_and_decides_the_same(night, monkeypatch):
    troubled = msgspec.structs.replace(DRIFTED, counts={"read": 10, "quarantined": 9, "reasons": {"broken JSON": 9}})

    def die(alert):
        if night.sent:
            raise Killed
        return night.sent.append(alert) or True

    monkeypatch.setattr(alerts, "send", die)
    with pytest.raises(Killed):
        night.decide(troubled)
    monkeypatch.setattr(alerts, "send", lambda alert: night.sent.append(alert) or True)
    assert night.decide(troubled)["run_id"] == "retrain__2026-11-03"
    assert [alert.kind for alert in night.sent] == ["drift", "quarantine"]


KINDS = ["drift", "quality", "quarantine", "silence"]
ALERT, *OTHERS = [alerts.Alert(USE_CASE, kind, "2026-11-02", "Age drifts") for kind in KINDS]


class Webhook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, self.headers["Authorization"], body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *arguments):
        """Quiet."""


class Mail(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 test\r\n")
        lines, data = [], False
        for raw in self.rfile:
            line = raw.decode().rstrip("\r\n")
            if data:
                lines.append(line)
                data = line != "."
                if not data:
                    self.server.seen.append("\n".join(lines))  # before the answer, which ends the client's wait
                    self.wfile.write(b"250 ok\r\n")
            elif line.upper() == "DATA":
                data = True
                self.wfile.write(b"354 go\r\n")
            elif line.upper() == "QUIT":
                self.wfile.write(b"221 bye\r\n")
                break
            else:
                self.wfile.write(b"250 ok\r\n")


@pytest.fixture
def server(request):
    """A server on a free port that keeps what it is sent: (server class, handler, status)."""
    kind, handler, status = (*request.param, 200)[:3]
    with kind(("127.0.0.1", 0), handler) as opened:
        opened.seen, opened.status = [], status
        thread = threading.Thread(target=opened.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield opened
        opened.shutdown()
        thread.join()


@pytest.mark.parametrize("server", [(http.server.HTTPServer, Webhook)], indirect=True)
def test_alert_is_posted_to_a_webhook(server, connections):
    connections["alerts"] = Connection(
        conn_id="alerts", conn_type="http", schema="http", host="127.0.0.1", port=server.server_port,
        password="token-1", extra={"path": "/hook"},
    )  # fmt: skip
    assert all(alerts.send(alert) for alert in (ALERT, *OTHERS))
    assert [body["kind"] for _, _, body in server.seen] == KINDS
    path, token, body = server.seen[0]
    assert (path, token) == ("/hook", "Bearer token-1")
    assert (body["kind"], body["key"]) == ("drift", "attrition.2026-11-02.drift")
    assert body["text"] == "[attrition, embedded] drift in the night of 2026-11-02: Age drifts"


@pytest.mark.parametrize("server", [(socketserver.TCPServer, Mail)], indirect=True)
def test_alert_is_sent_by_mail(server, connections):
    connections["alerts"] = Connection(
        conn_id="alerts", conn_type="smtp", host="127.0.0.1", port=server.server_address[1],
        extra={"from_email": "a@example.com", "to": ["b@example.com", "c@example.com"], "disable_ssl": True,
               "disable_tls": True},
    )  # fmt: skip
    assert all(alerts.send(alert) for alert in (ALERT, *OTHERS))
    assert [f"attrition.2026-11-02.{kind}@" in mail for kind, mail in zip(KINDS, server.seen, strict=True)] == [
        True
    ] * 4
    mail = email.message_from_string(server.seen[0])
    assert mail["Message-ID"] == "<attrition.2026-11-02.drift@embedded.lifecycle>"
    assert mail["Subject"] == "[attrition, embedded] drift in the night of 2026-11-02"
    assert (mail["From"], mail["To"]) == ("a@example.com", "b@example.com, c@example.com")
    (text,) = mail.get_payload()
    assert "Age drifts" in text.get_payload(decode=True).decode()


class TlsServer(socketserver.TCPServer):
    """Wants TLS at once, as port 465 of a mail server does."""

    certificate: Path

    def get_request(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        accepted, address = super().get_request()
        return context.wrap_socket(accepted, server_side=True), address


@pytest.mark.parametrize("server", [(TlsServer, Mail)], indirect=True)
def test_alert_is_sent_by_mail_through_a_server_that_wants_tls_at_once(server, connections, tmp_path, monkeypatch):
    TlsServer.certificate = write_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(TlsServer.certificate))
    connections["alerts"] = Connection(
        conn_id="alerts", conn_type="smtp", host="127.0.0.1", port=server.server_address[1],
        extra={"from_email": "a@example.com", "to": "b@example.com"},
    )  # fmt: skip
    assert alerts.send(ALERT)
    assert "From: a@example.com" in server.seen[0]


@pytest.mark.parametrize("server", [(http.server.HTTPServer, Webhook)], indirect=True)
def test_alert_is_posted_to_an_address_that_stands_in_host_with_headers_in_extra(server, connections):
    host = f"http://127.0.0.1:{server.server_port}/team"
    connections["alerts"] = Connection(conn_id="alerts", conn_type="http", host=host, extra={"Authorization": "Key k"})
    assert alerts.send(ALERT)
    assert server.seen[0][:2] == ("/team/", "Key k")


@pytest.mark.parametrize("server", [(http.server.HTTPServer, Webhook, 500)], indirect=True)
def test_alert_that_cannot_be_delivered_is_logged_and_stops_nothing(server, connections, caplog):
    connections["alerts"] = Connection(
        conn_id="alerts", conn_type="http", schema="http", host="127.0.0.1", port=server.server_port
    )
    assert not alerts.send(ALERT)
    assert "could not be sent" in caplog.text


def test_mail_connection_without_a_recipient_is_told_and_stops_nothing(connections, caplog):
    connections["alerts"] = Connection(conn_id="alerts", conn_type="smtp", host="127.0.0.1", port=1)
    assert not alerts.send(ALERT)
    assert 'its extra has no "to"' in caplog.text


def test_mail_connection_without_a_sender_is_told_and_stops_nothing(connections, caplog):
    extra = {"to": "b@example.com"}
    connections["alerts"] = Connection(conn_id="alerts", conn_type="smtp", host="127.0.0.1", port=1, extra=extra)
    assert not alerts.send(ALERT)
    assert 'its extra has no "from_email"' in caplog.text


def test_alert_without_a_connection_goes_to_the_log(monkeypatch, caplog):
    def missing(conn_id):
        raise AirflowNotFoundException(conn_id)

    monkeypatch.setattr(BaseHook, "get_connection", missing)
    for alert in (ALERT, *OTHERS):
        assert alerts.send(alert)
        assert f"ALERT [attrition, embedded] {alert.kind} in the night of 2026-11-02: Age drifts" in caplog.text
