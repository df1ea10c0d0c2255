"""Send alerts through connection ``alerts``, or to the task's log where there is none.

The connection's type decides: ``smtp`` sends a mail, ``http`` posts JSON to a webhook. Airflow's own hooks read the
connection, and two entries are ours: extra ``to`` names who gets the mails, extra ``path`` is part of the webhook's
address.

What was sent about a night is kept beside the night's verdict, so a night that is decided again repeats nothing.
Should the task die between sending and keeping, the repeated alert has the same key (``key``, Message-ID).
"""

import html
import logging
from collections.abc import Iterable
from datetime import date
from typing import Any

import msgspec

from lifecycle import settings
from lifecycle.hooks import connections
from training import use_case as definitions
from training.inference_log import layout

log = logging.getLogger(__name__)

CONNECTION_ID = "alerts"


class Alert(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that people should hear of."""

    use_case: str
    """Empty where it is about no one use case."""
    kind: str
    """``drift``, ``quality``, ``quarantine``, ``silence``, or the kind of a ``training.drift.losses.Loss``;
    or ``unreadable event``."""
    night: str
    """Empty where it is about no night."""
    text: str
    mark: str = ""
    """What else tells it from others of its kind, such as a message's id."""

    @property
    def key(self) -> str:
        """The same for the same kind of alert about the same night of a use case."""
        return ".".join(filter(None, (self.use_case, self.night, self.kind, self.mark)))

    @property
    def subject(self) -> str:
        where = ", ".join(filter(None, (self.use_case, settings.load().environment)))
        return f"[{where}] {self.kind}" + (f" in the night of {self.night}" if self.night else "")

    @property
    def link(self) -> str:
        """Where to look further."""
        base = settings.load().airflow_url
        return f"{base}/dags/{definitions.load(self.use_case).retrain_dag}" if self.use_case else f"{base}/dags"


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
    return connections.deliver(CONNECTION_ID, mail=lambda: _mail(alert), post=lambda: _post(alert))


def _mail(alert: Alert) -> None:
    text = "<br>".join(html.escape(line) for line in alert.text.splitlines())
    connections.mail(
        CONNECTION_ID,
        alert.subject,
        f'<p>{text}</p>\n<p><a href="{html.escape(alert.link)}">{html.escape(alert.link)}</a></p>\n',
        {"Message-ID": f"<{alert.key}@{settings.load().environment}.lifecycle>"},
    )


def _post(alert: Alert) -> None:
    body = {**msgspec.to_builtins(alert), "key": alert.key, "text": f"{alert.subject}: {alert.text}"}
    connections.post(CONNECTION_ID, body)
