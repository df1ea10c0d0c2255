"""The page's web application: who may look, what is read, how long it is kept.

Runs inside Airflow's API server, mounted at ``/attrition``. Airflow does not guard what plugins mount: the
dependency on each route does.
"""

import asyncio
import functools
import logging
import time
from pathlib import Path
from typing import Any

import msgspec
import requests
from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.sdk.exceptions import AirflowNotFoundException
from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lifecycle import settings
from lifecycle.hooks.registry import RegistryError
from lifecycle.release_page import airflow_view, chart, history, registry_view
from lifecycle.release_page.airflow_view import RELEASE_DAG, AirflowView
from lifecycle.release_page.registry_view import RegistryView
from lifecycle.settings import SettingsError

log = logging.getLogger(__name__)

KEEP_SECONDS = 5.0
"""How long what MLflow said is shown without asking again."""
DEADLINE_SECONDS = 12.0
"""How long a person waits for MLflow; the first answer takes some seconds for the client's import."""
_HERE = Path(__file__).parent
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class RegistryReader:
    """Reads MLflow at most once every few seconds, one read at a time, however many people look."""

    def __init__(self) -> None:
        self._reading: asyncio.Task[RegistryView] | None = None
        self._started = 0.0

    async def read(self) -> tuple[RegistryView | None, str]:
        """What MLflow says, or ``None`` and the reason why it could not be read."""
        from mlflow.exceptions import MlflowException

        stale = time.monotonic() - self._started > KEEP_SECONDS
        if self._reading is None or (self._reading.done() and stale):
            self._started = time.monotonic()
            self._reading = asyncio.create_task(asyncio.to_thread(registry_view.read))
        try:
            return await asyncio.wait_for(asyncio.shield(self._reading), DEADLINE_SECONDS), ""
        except TimeoutError:
            return None, f"it has not answered within {DEADLINE_SECONDS:g} s; it is still being asked"
        except (MlflowException, RegistryError, AirflowNotFoundException, SettingsError, msgspec.MsgspecError) as error:
            log.warning("MLflow could not be read for the page Model releases: %s", error)
            return None, str(error)


async def _read_airflow(token: str) -> tuple[AirflowView | None, str]:
    try:
        return await asyncio.to_thread(airflow_view.read, token), ""
    except (requests.RequestException, AirflowNotFoundException, msgspec.MsgspecError) as error:
        log.warning("Airflow's API could not be read for the page Model releases: %s", error)
        return None, str(error)


def _token(request: Request) -> str:
    """The caller's own token, so that Airflow's API shows them what they may see."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return given if scheme.lower() == "bearer" else request.cookies.get(COOKIE_NAME_JWT_TOKEN, "")


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["moment"] = lambda text: text[:16].replace("T", " ")
    environment.filters["short"] = lambda digest: digest[:19]
    return environment


@functools.cache
def application() -> FastAPI:
    """The one application of this process."""
    app = FastAPI(title="Model releases", docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", StaticFiles(directory=_HERE / "static"))
    reader, page = RegistryReader(), _templates().get_template("releases.html")

    @app.get("/releases", dependencies=[Depends(requires_access_dag("GET", param_dag_id=RELEASE_DAG))])
    async def releases(request: Request) -> HTMLResponse:
        (registry, mlflow_fault), (airflow, airflow_fault) = await asyncio.gather(
            reader.read(), _read_airflow(_token(request))
        )
        shown = page.render(
            _content(registry, airflow),
            mlflow_fault=mlflow_fault,
            airflow_fault=airflow_fault,
            nights=registry_view.NIGHTS,
        )
        return HTMLResponse(shown, status_code=200 if registry else 503, headers=_HEADERS)

    return app


def _content(registry: RegistryView | None, airflow: AirflowView | None) -> dict[str, Any]:
    configured = settings.load()
    return {
        "environment": configured.environment,
        "airflow_url": configured.airflow_url,
        "mlflow_url": configured.mlflow_url,
        "registry": registry,
        "entries": history.compose(registry.releases if registry else None, airflow, configured.airflow_url),
        "drift": chart.draw(registry.nights) if registry and registry.nights else None,
    }
