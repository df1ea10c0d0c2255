"""The page's web application: who may look, what is read, how long it is kept.

Runs inside Airflow's API server, mounted at ``/lifecycle``. Airflow does not guard what plugins mount: the
route itself does, use case by use case.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable
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
from lifecycle.evidence import gate_body, links
from lifecycle.hooks import registry
from lifecycle.hooks.connections import AddressError
from lifecycle.hooks.registry import RegistryError
from lifecycle.release_page import airflow_view, chart, evidence_view, history, registry_view
from lifecycle.release_page.airflow_view import AirflowView
from lifecycle.release_page.chart import Chart
from lifecycle.release_page.evidence_view import EvidencePage
from lifecycle.release_page.glossary import WORDS
from lifecycle.release_page.history import Entry
from lifecycle.release_page.registry_view import Night, RegistryView
from lifecycle.settings import Settings, SettingsError
from lifecycle.use_cases import load_all
from training.use_case import UseCase, UseCaseError

log = logging.getLogger(__name__)

AIRFLOW = "lifecycle.airflow"
"""Where a request's scope holds the API server's application, which this page is part of."""
KEEP_SECONDS = 5.0
"""How long what MLflow said is shown without asking again."""
DEADLINE_SECONDS = 12.0
"""How long a person waits for MLflow; the first answer takes some seconds for the client's import."""
ALERTS = 7
"""Nights with alerts that are named."""
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
    version_url: Callable[[str], str]
    """From a registered version to its page in the registry."""
    paused: tuple[str, ...] = ()
    """DAGs that would start by themselves, but are paused."""

    @property
    def waiting(self) -> list[Entry]:
        """The releases whose gate waits for an answer."""
        return [entry for entry in self.entries if entry.answer_url]

    @property
    def alerts(self) -> list[Night]:
        """The nights about which people were alerted, newest first."""
        nights = self.registry.nights if self.registry else []
        return [night for night in reversed(nights) if night.alerts][:ALERTS]

    @property
    def begun(self) -> bool:
        """Whether there is anything to show: a version, a judged night or a run."""
        found = self.registry
        seen = found and (
            found.candidate or found.rejected or found.nights or any(target.version for target in found.targets)
        )
        return bool(self.entries or seen)


class RegistryReader:
    """Reads MLflow for one use case at most once every few seconds, one read at a time, however many people look."""

    def __init__(self, use_case: str) -> None:
        self._use_case = use_case
        self._reading: asyncio.Task[RegistryView] | None = None
        self._started = 0.0

    async def read(self) -> tuple[RegistryView | None, str]:
        """What MLflow says, or ``None`` and the reason why it could not be read."""
        stale = time.monotonic() - self._started > KEEP_SECONDS
        if self._reading is None or (self._reading.done() and stale):
            self._started = time.monotonic()
            self._reading = asyncio.create_task(asyncio.to_thread(registry_view.read, self._use_case))
        try:
            return await asyncio.wait_for(asyncio.shield(self._reading), DEADLINE_SECONDS), ""
        except TimeoutError:
            return None, f"it has not answered within {DEADLINE_SECONDS:g} s; it is still being asked"
        except _unreadable() as error:
            # The next read asks the connection again: it may have been mended meanwhile.
            registry.client.cache_clear()
            log.warning("MLflow could not be read for the page Releases: %s", error)
            return None, str(error)


def _unreadable() -> tuple[type[Exception], ...]:
    """What is raised where MLflow does not answer, or what is said of it or by it cannot be understood."""
    # Imported here: mlflow takes seconds, and this module is imported by the first request.
    from mlflow.exceptions import MlflowException

    return (
        TimeoutError,
        MlflowException,
        AddressError,
        RegistryError,
        AirflowNotFoundException,
        SettingsError,
        UseCaseError,
        msgspec.MsgspecError,
    )


async def _read_airflow(request: Request, use_case: UseCase) -> tuple[AirflowView | None, str]:
    try:
        return await airflow_view.read(request.scope[AIRFLOW], _token(request), use_case), ""
    except (httpx.HTTPError, TimeoutError, msgspec.MsgspecError) as error:
        log.warning("Airflow's API could not be read for the page Releases: %r", error)
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
    app = FastAPI(title="Releases", docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", StaticFiles(directory=_HERE / "static"))
    readers: dict[str, RegistryReader] = {}
    templates = _templates()

    @app.get("/releases")
    async def releases(request: Request, user: GetUserDep, use_case: str = "") -> HTMLResponse:
        choices = readable(user)
        shown = [found for found in choices if use_case in ("", found.name)]
        if choices and not shown:
            raise HTTPException(404, f"there is no use case {use_case!r} that you may read")
        for one in shown:
            readers.setdefault(one.name, RegistryReader(one.name))
        in_mlflow = await asyncio.gather(*(readers[one.name].read() for one in shown))
        in_airflow = await asyncio.gather(*(_read_airflow(request, one) for one in shown))
        configured = settings.load()
        sections = [
            _section(one, found, runs, configured)
            for one, (found, _), (runs, _) in zip(shown, in_mlflow, in_airflow, strict=True)
        ]
        text = templates.get_template("releases.html").render(
            sections=sections,
            choices=choices,
            chosen=use_case,
            environment=configured.environment,
            airflow_url=configured.airflow_url,
            mlflow_url=links.mlflow_home(configured.mlflow_url),
            mlflow_faults=sorted({fault for _, fault in in_mlflow if fault}),
            airflow_faults=sorted({fault for _, fault in in_airflow if fault}),
            nights=registry_view.NIGHTS,
            intervals=gate_body.INTERVALS,
        )
        unread = any(fault for _, fault in in_mlflow)
        return HTMLResponse(text, status_code=503 if unread else 200, headers=_HEADERS)

    @app.get("/glossary")
    async def glossary(user: GetUserDep) -> HTMLResponse:
        return HTMLResponse(templates.get_template("glossary.html").render(words=WORDS), headers=_HEADERS)

    @app.get("/evidence/{use_case}/{run_id}/{key}")
    async def evidence(user: GetUserDep, use_case: str, run_id: str, key: str) -> HTMLResponse:
        known = use_case in [found.name for found in readable(user)]
        try:
            page = await _read_evidence(use_case, run_id, key) if known else None
        except _unreadable() as error:
            registry.client.cache_clear()
            log.warning("evidence %s of run %s could not be read: %r", key, run_id, error)
            raise HTTPException(503, f"the evidence cannot be read from MLflow: {error}. Try again") from error
        if page is None:
            raise HTTPException(404, f"run {run_id} keeps no evidence {key} of a use case {use_case} that you may read")
        text = templates.get_template("evidence.html").render(
            page=page, environment=settings.load().environment, intervals=gate_body.INTERVALS
        )
        return HTMLResponse(text, headers=_HEADERS)

    return app


async def _read_evidence(use_case: str, run_id: str, key: str) -> EvidencePage | None:
    reading = asyncio.to_thread(evidence_view.read, use_case, run_id, key)
    return await asyncio.wait_for(reading, DEADLINE_SECONDS)


def _section(
    use_case: UseCase, found: RegistryView | None, airflow: AirflowView | None, configured: Settings
) -> Section:
    name = configured.of(use_case).model_name
    return Section(
        use_case=use_case,
        registry=found,
        entries=history.compose(use_case, found.releases if found else None, airflow, configured.airflow_url),
        drift=chart.draw(found.nights) if found and found.nights else None,
        version_url=functools.partial(links.model_version, configured.mlflow_url, name),
        paused=airflow.paused if airflow else (),
    )
