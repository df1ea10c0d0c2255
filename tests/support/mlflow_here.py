"""MLflow's server without a process: its own WSGI application, asked over its REST API by whatever `requests` carries.

What a client sends and what it gets is what it would be over a socket: routes, messages, errors, artifacts. A server in
a process of its own takes seconds to start and half as long again for each call, and is for tests whose own processes
ask it (``tests/support/tracking.py``).
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
import pytest
import requests
from mlflow import MlflowClient
from mlflow.tracking.request_header.databricks_request_header_provider import DatabricksRequestHeaderProvider
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from sqlalchemy import event
from werkzeug.test import Client

from tests.support.mlflow_store import empty_store

ADDRESS = "http://127.0.0.1:5"
"""No server that a test starts has such a port."""


class _Here(BaseAdapter):
    """Hands a request to an application."""

    def __init__(self, application: Any) -> None:
        super().__init__()
        self._client = Client(application, use_cookies=False)

    def send(self, request: requests.PreparedRequest, **_options: Any) -> requests.Response:
        place = urlsplit(str(request.url))
        body: Any = request.body
        answer = self._client.open(
            place.path,
            base_url=f"{place.scheme}://{place.netloc}",
            method=str(request.method),
            query_string=place.query,
            headers=list(request.headers.items()),
            data=body.read() if hasattr(body, "read") else body,
            buffered=True,  # and closed: it may be a file
        )
        found = requests.Response()
        found.status_code, found.reason = answer.status_code, answer.status.partition(" ")[2]
        found.headers = CaseInsensitiveDict(answer.headers)
        found.raw, found.url, found.request = io.BytesIO(answer.get_data()), str(request.url), request
        return found

    def close(self) -> None:
        """Nothing is open."""


def _wait_for_no_disk(connection: Any, _record: Any) -> None:
    """No test asks for what was stored after a loss of power."""
    connection.execute("PRAGMA synchronous = OFF")


@contextmanager
def served_here(folder: Path) -> Iterator[str]:
    """MLflow over an empty store in a folder; yields its address, once in a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_MLFLOW_SERVER_SERVE_ARTIFACTS", "true")
        patch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", str(folder / "artifacts"))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "starlette.middleware.wsgi is deprecated")
            import starlette.middleware.wsgi  # noqa: F401  (by a handler, in the middle of a test)
            from mlflow.server import app, handlers

        store = empty_store(folder)
        handlers.initialize_backend_stores(store, store, "mlflow-artifacts:/")
        for engine in (handlers._get_tracking_store().engine, handlers._get_model_registry_store().engine):
            event.listen(engine, "connect", _wait_for_no_disk)
            engine.dispose()  # what is open was opened before
        # The server has made its own store the process's, in which its clients live too.
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
        # With every request the client looks for Databricks' own packages in all folders: a sixth of its time.
        patch.setattr(DatabricksRequestHeaderProvider, "in_context", lambda _: False)
        # With every tag of a version the client asks whether its model is a prompt, and the server does: a third.
        patch.setattr(MlflowClient, "_raise_if_prompt", lambda _client, _name: None)
        patch.setattr(handlers, "_is_prompt", lambda _name: False)
        here, elsewhere = _Here(app), requests.Session.get_adapter
        proxies = requests.sessions.get_environ_proxies

        def get_adapter(session: requests.Session, url: str) -> BaseAdapter:
            return here if url.startswith(f"{ADDRESS}/") else elsewhere(session, url)

        def get_proxies(url: str, no_proxy: str | None = None) -> dict[str, str]:
            """Requests looks through the whole environment with every request, twice."""
            return {} if url.startswith(f"{ADDRESS}/") else proxies(url, no_proxy=no_proxy)

        patch.setattr(requests.Session, "get_adapter", get_adapter)
        patch.setattr(requests.sessions, "get_environ_proxies", get_proxies)
        yield ADDRESS
