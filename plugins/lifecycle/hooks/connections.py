"""What an Airflow connection says, read as Airflow's own hooks read it: the address, the webhook, the mail server."""

import functools
import json
import logging
import smtplib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException

if TYPE_CHECKING:
    from airflow.providers.http.hooks.http import HttpHook
    from airflow.providers.smtp.hooks.smtp import SmtpHook

log = logging.getLogger(__name__)

HTTP_TYPES = ("http", "https")
"""Types of connections to an HTTP server. ``https`` is what Airflow makes of ``AIRFLOW_CONN_X=https://host``."""
_TIMEOUT = 20
"""Seconds, where a connection to a webhook names none in its extra."""


class AddressError(ValueError):
    """Raised when a connection does not say where something answers; the message says what to write."""


def address(connection: Any, scheme: str = "http") -> str:
    """The address of a connection, without a slash at the end: ``https://tools.example.com:8443/mlflow``.

    People write an address in several places of a connection, and all are read: the whole of it in host
    (``https://tools.example.com/mlflow``, as Airflow's ``HttpHook`` takes it), the scheme in schema, or a path in
    schema, which is where Airflow puts the path of ``AIRFLOW_CONN_X=http://tools.example.com/mlflow``. ``scheme``
    holds where none is written. Raises ``AddressError``.
    """
    host, schema = (connection.host or "").strip(), (connection.schema or "").strip()
    is_scheme = schema.lower() in HTTP_TYPES
    if "://" not in host:
        if is_scheme or connection.conn_type == "https":
            scheme = schema.lower() if is_scheme else "https"
        bare = host.count(":") > 1 and not host.startswith("[")
        host = f"{scheme}://[{host}]" if bare else f"{scheme}://{host}"
    parts = urlsplit(host)
    if parts.scheme not in HTTP_TYPES or not parts.hostname:
        raise AddressError(
            f"connection {connection.conn_id!r} has the host {connection.host!r}: write a name such as "
            "tools.example.com, or a whole address such as https://tools.example.com/path"
        )
    port = f":{connection.port}" if connection.port and parts.port is None else ""
    path = [parts.path.strip("/"), "" if is_scheme else schema.strip("/")]
    return "/".join([f"{parts.scheme}://{parts.netloc}{port}", *filter(None, path)])


@functools.cache
def _webhook_hook() -> "type[HttpHook]":
    # Imported here: the hook loads aiohttp, and DAG files import this module.
    from airflow.providers.http.hooks.http import HttpHook
    from airflow.sdk import Connection

    class WebhookHook(HttpHook):
        """The provider's hook, with the address that ``address`` makes, and extra ``path`` as part of it."""

        @classmethod
        def get_connection(cls, conn_id: str) -> Any:
            found = super().get_connection(conn_id)
            extra = dict(found.extra_dejson)
            path = str(extra.pop("path", "")).lstrip("/")
            extra.pop("service", None)  # ours (lifecycle.messages), and no header
            if found.password and not found.login:
                extra.setdefault("Authorization", f"Bearer {found.password}")
            extra.setdefault("timeout", _TIMEOUT)
            host = f"{address(found, 'https')}/{path}"
            return Connection(
                conn_id=conn_id,
                conn_type="http",
                host=host,
                login=found.login,
                password=found.password,
                extra=json.dumps(extra),
            )

    return WebhookHook


def post(conn_id: str, body: dict[str, Any]) -> None:
    """Post JSON to the webhook of an ``http`` connection. Its extra holds headers and options as ``HttpHook`` has them.

    A password without a login is the bearer token. Raises ``AddressError``, and what the hook raises where the
    webhook does not take it.
    """
    _webhook_hook()(method="POST", http_conn_id=conn_id).run(json=body)


@functools.cache
def _mail_hook() -> "type[SmtpHook]":
    # Imported here: DAG files import this module.
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    class MailHook(SmtpHook):
        """The provider's hook, which asks no server for STARTTLS inside TLS; the provider's own async client does so.

        A server that wants TLS at once (port 465) does not offer it, and the plain hook would fail there.
        """

        @property
        def smtp_starttls(self) -> bool:
            return not self.use_ssl and bool(super().smtp_starttls)

    return MailHook


def mail(conn_id: str, subject: str, html: str, headers: dict[str, str]) -> None:
    """Send a mail through an ``smtp`` connection, to the addresses in its extra ``to``.

    Everything else is Airflow's: ``from_email``, ``disable_ssl``, ``disable_tls``, ``timeout``, login and password.
    Raises ``ValueError`` where sender or recipient is missing, and what the hook raises.
    """
    hook = _mail_hook()(smtp_conn_id=conn_id)
    extra = hook.get_connection(conn_id).extra_dejson
    for name, whose in (("to", "who is to get the mails"), ("from_email", "the sender")):
        if not extra.get(name):
            raise ValueError(f'its extra has no "{name}": name {whose}')
    with hook as server:
        server.send_email_smtp(to=extra["to"], subject=subject, html_content=html, custom_headers=headers)


def deliver(conn_id: str, *, mail: Callable[[], None], post: Callable[[], None]) -> bool:
    """Send by ``mail`` or ``post``, as the connection's type asks; whether it arrived there.

    Without the connection there is nowhere to send to, and that counts as arrived. What cannot be delivered is logged
    as an error, also where Airflow refuses to hand out the connection.
    """
    try:
        if (connection := _find(conn_id)) is None:
            return True
        if connection.conn_type == "smtp":
            mail()
        elif connection.conn_type in HTTP_TYPES:
            post()
        else:
            log.error("connection %r has type %r: use smtp or http", conn_id, connection.conn_type)
            return False
    except (AirflowException, OSError, RuntimeError, smtplib.SMTPException, ValueError) as error:
        log.error("it could not be sent through connection %r: %s", conn_id, error)
        return False
    return True


def _find(conn_id: str) -> Any:
    """A connection, or ``None`` where there is none of this name."""
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        return None
