"""Where images are pushed, through the Airflow connection ``registry``."""

from typing import Any

from airflow.sdk import BaseHook

from lifecycle import settings
from lifecycle.hooks.connections import address

CONNECTION_ID = "registry"
_WITHOUT_SERVER = ("fs",)
"""Connection types whose host, if any, is not that of a registry."""


def server(connection: Any) -> str:
    """Host, and port where one is given; empty where the connection stands for no registry."""
    if connection.conn_type in _WITHOUT_SERVER or not connection.host:
        return ""
    return address(connection, "https").partition("://")[2]


def repositories(use_case: str) -> tuple[str, ...]:
    """The repositories, registry included, that images of a use case may come from.

    That of the use case in the registry of connection ``registry``, if it stands for one, then those that the
    settings list.
    """
    configured = settings.load().of(use_case)
    host = server(BaseHook.get_connection(CONNECTION_ID))
    return (*((f"{host}/{configured.repository}",) if host else ()), *configured.other_repositories)
