"""The page *Releases* in Airflow's own menu (`lifecycle.release_page`), and the links beside tasks."""

from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

from lifecycle import task_links

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


async def model_releases(scope: "Scope", receive: "Receive", send: "Send") -> None:
    """The page's application, imported by its first request.

    Every Airflow process loads this file, tasks included, and only the API server needs FastAPI and Jinja.
    """
    from lifecycle.release_page.app import AIRFLOW, application

    # The page's own application puts itself in the place of Airflow's, which it asks what runs.
    await application()({**scope, AIRFLOW: scope["app"]}, receive, send)


class ModelReleasesPlugin(AirflowPlugin):
    name = "model_releases"
    global_operator_extra_links: list[Any] = [link() for link in task_links.ALL]
    fastapi_apps: list[Any] = [{"app": model_releases, "url_prefix": "/lifecycle", "name": "Releases"}]
    external_views: list[Any] = [
        {
            "name": "Releases",
            # No slash in front: it is relative to the address that Airflow is served under.
            "href": "lifecycle/releases",
            "destination": "nav",
            "nav_top_level": True,
            "icon": "lifecycle/static/icon.svg",
            "icon_dark_mode": "lifecycle/static/icon-dark.svg",
            "url_route": "model_releases",
        }
    ]
