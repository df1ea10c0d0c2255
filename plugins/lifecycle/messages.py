"""Messages to the people around a release: one waits for an answer, was decided, is in production, was put back.

Connection ``messages`` says where they go, and without it they go nowhere but to the task's log. Its type decides:
``smtp`` sends a mail, ``http`` posts to a webhook in the form that extra ``service`` names: ``slack`` (an incoming
webhook) or ``teams`` (a Workflows webhook, which takes an adaptive card).

A message is a courtesy: one that cannot be delivered is logged as an error and stops nothing. A task that dies after it
has sent one may send it again with its next try.
"""

import html
import logging
from datetime import datetime
from typing import Any

import msgspec
from airflow.sdk import BaseHook

from lifecycle import settings
from lifecycle.evidence import markdown
from lifecycle.evidence.document import Decision
from lifecycle.hooks import connections
from training import use_case as definitions

log = logging.getLogger(__name__)

CONNECTION_ID = "messages"
_LIMIT = 1500
"""Characters of a text: more is for the page behind the link."""


class Message(msgspec.Struct, frozen=True):
    """What is said, and where to look further."""

    heading: str
    text: str
    link: str


def waits(use_case: str, subject: str, sentence: str, until: datetime, link: str) -> None:
    """A gate has put its question."""
    _send(use_case, subject, f"{sentence} {_until(until)}", link)


def still_waits(use_case: str, subject: str, until: datetime, link: str) -> None:
    """Nobody has answered, and the time is nearly over."""
    _send(use_case, f"No answer yet. {subject}", _until(until), link)


def decided(use_case: str, subject: str, decision: Decision, link: str) -> None:
    """A person has answered, or silence did."""
    what = "Approved" if decision.approved else "Rejected"
    comment = f": {decision.comment}" if decision.comment else ""
    _send(use_case, f"{what}. {subject}", f"{what} by {decision.decided_by}{comment}", link)


def in_production(use_case: str, note: str, reason: str, link: str) -> None:
    """Another version is in production; ``reason`` is that of a rollback."""
    title = definitions.load(use_case).title
    if reason:
        _send(use_case, f"{title} was rolled back", f"{note}. Reason: {reason}", link)
    else:
        _send(use_case, f"{title} was released", note, link)


def put_back(use_case: str, version: str, link: str) -> None:
    """A release has failed after its approval, and what ran before runs again."""
    heading = f"{definitions.load(use_case).title}: the release of version {version} failed"
    _send(use_case, heading, "Production runs again what it ran before.", link)


def _until(end: datetime) -> str:
    return f"Without an answer by {end:%Y-%m-%d %H:%M} UTC this release is rejected."


def _send(use_case: str, heading: str, text: str, link: str) -> None:
    where = ", ".join(filter(None, (use_case, settings.load().environment)))
    message = Message(f"[{where}] {markdown.plain(heading, _LIMIT)}", markdown.plain(text, _LIMIT), link)
    log.info("message: %s | %s", message.heading, message.text)
    connections.deliver(CONNECTION_ID, mail=lambda: _mail(message), post=lambda: _post(message))


def _mail(message: Message) -> None:
    link = html.escape(message.link)
    body = f'<p>{html.escape(message.text)}</p>\n<p><a href="{link}">{link}</a></p>\n'
    connections.mail(CONNECTION_ID, message.heading, body, {})


def _post(message: Message) -> None:
    service = BaseHook.get_connection(CONNECTION_ID).extra_dejson.get("service")
    if service not in _FORMS:
        raise ValueError(f'its extra has "service": {service!r}, and it may be {" or ".join(map(repr, _FORMS))}')
    connections.post(CONNECTION_ID, _FORMS[service](message))


def _slack(message: Message) -> dict[str, Any]:
    """The body for an incoming webhook: three characters are its markup, and all else is text."""
    heading, text = (html.escape(part, quote=False) for part in (message.heading, message.text))
    return {"text": f"*{heading}*\n{text}\n<{message.link}|Open in Airflow>"}


def _teams(message: Message) -> dict[str, Any]:
    """The body for a Workflows webhook: a message with one adaptive card, whose texts are Markdown."""
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {"type": "TextBlock", "text": markdown.text(message.heading), "weight": "Bolder", "wrap": True},
            {"type": "TextBlock", "text": markdown.text(message.text), "wrap": True},
        ],
        "actions": [{"type": "Action.OpenUrl", "title": "Open in Airflow", "url": message.link}],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


_FORMS = {"slack": _slack, "teams": _teams}
