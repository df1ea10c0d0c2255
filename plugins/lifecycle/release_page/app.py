"""The page's web application: who may look, what is read, how long it is kept.

Runs inside Airflow's API server, mounted at ``/lifecycle``. Airflow does not guard what plugins mount: the
route itself does, use case by use case.
"""

import asyncio
import functools
import logging
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.sdk.exceptions import AirflowNotFoundException
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lifecycle import settings
from lifecycle.evidence import gate_body
from lifecycle.hooks import registry
from lifecycle.hooks.connections import AddressError
from lifecycle.hooks.registry import RegistryError
from lifecycle.release_page import airflow_view, chart, history, registry_view
from lifecycle.release_page.airflow_view import AirflowView
from lifecycle.release_page.chart import Chart
from lifecycle.release_page.history import Entry
from lifecycle.release_page.registry_view import RegistryView
from lifecycle.settings import SettingsError
from training.use_case import UseCase, UseCaseError, load_all

log = logging.getLogger(__name__)

AIRFLOW = "lifecycle.airflow"
"""Where a request's scope holds the API server's application, which this page is part of."""
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


class Section(msgspec.Struct, frozen=True):
    """What the page shows of one use case."""

    use_case: UseCase
    registry: RegistryView | None
    entries: list[Entry]
    drift: Chart | None

    @property
    def begun(self) -> bool:
        """Whether there is anything to show: a version, a judged night or a run."""
        found = self.registry
        seen = found and (found.candidate or found.nights or any(target.version for target in found.targets))
        return bool(self.entries or seen)


class RegistryReader:
    """Reads MLflow for one use case at most once every few seconds, one read at a time, however many people look."""

    def __init__(self, use_case: str) -> None:
        self._use_case = use_case
        self._reading: asyncio.Task[RegistryView] | None = None
        self._started = 0.0

    async def read(self) -> tuple[RegistryView | None, str]:
        """What MLflow says, or ``None`` and the reason why it could not be read."""
        from mlflow.exceptions import MlflowException

        stale = time.monotonic() - self._started > KEEP_SECONDS
        if self._reading is None or (self._reading.done() and stale):
            self._started = time.monotonic()
            self._reading = asyncio.create_task(asyncio.to_thread(registry_view.read, self._use_case))
        try:
            return await asyncio.wait_for(asyncio.shield(self._reading), DEADLINE_SECONDS), ""
        except TimeoutError:
            return None, f"it has not answered within {DEADLINE_SECONDS:g} s; it is still being asked"
        except (
            MlflowException,
            AddressError,
            RegistryError,
            AirflowNotFoundException,
            SettingsError,
            UseCaseError,
            msgspec.MsgspecError,
        ) as error:
            # The next read asks the connection again: it may have been mended meanwhile.
            registry.client.cache_clear()
            log.warning("MLflow could not be read for the page Model releases: %s", error)
            return None, str(error)


async def _read_airflow(request: Request, use_case: UseCase) -> tuple[AirflowView | None, str]:
    try:
        return await airflow_view.read(request.scope[AIRFLOW], _token(request), use_case), ""
    except (httpx.HTTPError, TimeoutError, msgspec.MsgspecError) as error:
        log.warning("Airflow's API could not be read for the page Model releases: %r", error)
        return None, str(error) or "it has not answered in time"


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


def readable(user: Any) -> list[UseCase]:
    """The use cases whose release DAG the user may read; nobody sees more here than in Airflow's own pages."""
    found = list(load_all()[0])
    allowed = get_auth_manager().filter_authorized_dag_ids(
        dag_ids={use_case.release_dag for use_case in found}, user=user, method="GET"
    )
    if found and not allowed:
        raise HTTPException(403, "you may not read the release DAG of any use case: ask for a role that may")
    return [use_case for use_case in found if use_case.release_dag in allowed]


@functools.cache
def application() -> FastAPI:
    """The one application of this process."""
    app = FastAPI(title="Model releases", docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", StaticFiles(directory=_HERE / "static"))
    readers: dict[str, RegistryReader] = {}
    page = _templates().get_template("releases.html")

    @app.get("/releases")
    async def releases(request: Request, user: GetUserDep) -> HTMLResponse:
        shown = readable(user)
        for use_case in shown:
            readers.setdefault(use_case.name, RegistryReader(use_case.name))
        in_mlflow = await asyncio.gather(*(readers[use_case.name].read() for use_case in shown))
        in_airflow = await asyncio.gather(*(_read_airflow(request, use_case) for use_case in shown))
        configured = settings.load()
        sections = [
            _section(use_case, found, runs, configured.airflow_url)
            for use_case, (found, _), (runs, _) in zip(shown, in_mlflow, in_airflow, strict=True)
        ]
        text = page.render(
            sections=sections,
            environment=configured.environment,
            airflow_url=configured.airflow_url,
            mlflow_url=configured.mlflow_url,
            mlflow_faults=sorted({fault for _, fault in in_mlflow if fault}),
            airflow_faults=sorted({fault for _, fault in in_airflow if fault}),
            nights=registry_view.NIGHTS,
            intervals=gate_body.INTERVALS,
        )
        unread = any(fault for _, fault in in_mlflow)
        return HTMLResponse(text, status_code=503 if unread else 200, headers=_HEADERS)

    return app


def _section(use_case: UseCase, found: RegistryView | None, airflow: AirflowView | None, airflow_url: str) -> Section:
    return Section(
        use_case=use_case,
        registry=found,
        entries=history.compose(use_case, found.releases if found else None, airflow, airflow_url),
        drift=chart.draw(found.nights) if found and found.nights else None,
    )
