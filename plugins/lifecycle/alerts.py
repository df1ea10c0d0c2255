"""Send alerts through connection ``alerts``, or to the task's log where there is none.

The connection's type decides: ``smtp`` sends a mail (host, port, login, password; extra ``from``, ``to`` and
``starttls``), ``http`` posts JSON to a webhook (host, port, schema, extra ``path``; the password as bearer token).

What was sent is kept beside the night's verdict, so a night that is decided again repeats nothing. Should the
task die between sending and keeping, the repeated alert has the same key (``key``, Message-ID).
"""

import logging
import smtplib
from collections.abc import Iterable
from datetime import date
from email.message import EmailMessage
from typing import Any

import msgspec
import requests
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from lifecycle import settings
from training import use_case as definitions
from training.inference_log import layout

log = logging.getLogger(__name__)

CONNECTION_ID = "alerts"
_TIMEOUT = 20


class Alert(msgspec.Struct, frozen=True):
    """One thing that people should hear of."""

    use_case: str
    kind: str
    """``drift``, ``quality``, ``quarantine``, ``silence``, or the kind of a ``training.drift.losses.Loss``."""
    night: str
    text: str

    @property
    def key(self) -> str:
        """The same for the same kind of alert about the same night of a use case."""
        return f"{self.use_case}.{self.night}.{self.kind}"

    @property
    def subject(self) -> str:
        return f"[{self.use_case}, {settings.load().environment}] {self.kind} in the night of {self.night}"


def send_once(tables: Any, alerts: Iterable[Alert]) -> None:
    """Send the alerts that no earlier decision about their night has sent."""
    for alert in alerts:
        file = layout.night_folder(tables, "nights", date.fromisoformat(alert.night)) / layout.ALERTS
        sent = layout.read_json(file) or []
        if alert.key in sent:
            log.info("alert %s was sent before", alert.key)
        elif send(alert):
            layout.write_json(file, sorted([*sent, alert.key]))


def send(alert: Alert) -> bool:
    """Log the alert, and send it where connection ``alerts`` says; whether it arrived there.

    An alert that cannot be delivered is logged as an error and stops nothing; the next decision about its night
    tries again.
    """
    log.warning("ALERT %s: %s", alert.subject, alert.text)
    try:
        connection = BaseHook.get_connection(CONNECTION_ID)
    except AirflowNotFoundException:
        return True
    try:
        if connection.conn_type == "smtp":
            _mail(alert, connection)
        elif connection.conn_type == "http":
            _post(alert, connection)
        else:
            log.error("connection %r has type %r: use smtp or http", CONNECTION_ID, connection.conn_type)
            return False
    except (OSError, smtplib.SMTPException, requests.RequestException, ValueError) as error:
        log.error("the alert could not be sent through connection %r: %s", CONNECTION_ID, error)
        return False
    return True


def _mail(alert: Alert, connection: Any) -> None:
    extra = connection.extra_dejson
    if not extra.get("to"):
        raise ValueError('its extra has no "to": name who is to get the mails')
    message = EmailMessage()
    message["Subject"] = alert.subject
    message["From"] = extra.get("from", connection.login or "lifecycle@localhost")
    message["Message-ID"] = f"<{alert.key}@{settings.load().environment}.lifecycle>"
    message["To"] = extra["to"] if isinstance(extra["to"], str) else ", ".join(extra["to"])
    dag = f"{settings.load().airflow_url}/dags/{definitions.load(alert.use_case).retrain_dag}"
    message.set_content(f"{alert.text}\n\n{dag}\n")
    with smtplib.SMTP(connection.host, connection.port or 25, timeout=_TIMEOUT) as server:
        if extra.get("starttls"):
            server.starttls()
        if connection.login:
            server.login(connection.login, connection.password or "")
        server.send_message(message)


def _post(alert: Alert, connection: Any) -> None:
    port = f":{connection.port}" if connection.port else ""
    url = f"{connection.schema or 'https'}://{connection.host}{port}{connection.extra_dejson.get('path', '/')}"
    headers = {"Authorization": f"Bearer {connection.password}"} if connection.password else {}
    body = {**msgspec.to_builtins(alert), "key": alert.key, "text": f"{alert.subject}: {alert.text}"}
    requests.post(url, json=body, headers=headers, timeout=_TIMEOUT).raise_for_status()
