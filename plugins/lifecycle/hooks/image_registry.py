"""Where images are pushed, through the Airflow connection ``registry``."""

from typing import Any

from airflow.sdk import BaseHook

from lifecycle import settings
from lifecycle.hooks.connections import address

CONNECTION_ID = "registry"
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_WITHOUT_SERVER = ("fs",)
"""Connection types whose host, if any, is not that of a registry."""


def server(connection: Any) -> str:
    """Host, and port where one is given; empty where the connection stands for no registry."""
    if connection.conn_type in _WITHOUT_SERVER or not connection.host:
        return ""
    return address(connection, "https").partition("://")[2]


def api(connection: Any) -> str:
    """Where workers ask the registry itself, where that is not Azure's.

    As a Docker engine does, without TLS on loopback and with it elsewhere; extra ``api`` of the connection says
    otherwise, and has to where the engine and the workers know the registry by two names.
    """
    if said := str(connection.extra_dejson.get("api") or ""):
        return said.rstrip("/")
    host = server(connection).rpartition(":")[0] or server(connection)
    return address(connection, "http" if host in _LOOPBACK else "https")


def repositories(use_case: str) -> tuple[str, ...]:
    """The repositories, registry included, that images of a use case may come from.

    That of the use case in the registry of connection ``registry``, if it stands for one, then those that the
    settings list.
    """
    configured = settings.load().of(use_case)
    host = server(BaseHook.get_connection(CONNECTION_ID))
    return (*((f"{host}/{configured.repository}",) if host else ()), *configured.other_repositories)
