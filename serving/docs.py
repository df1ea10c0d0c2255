"""Swagger UI at ``/``, its files from a package, so that the page needs nothing from elsewhere."""

from flask import Blueprint, Flask, Response, request
from flask_swagger_ui import get_swaggerui_blueprint

_ASSETS = "/docs"
_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'"
)


def init_app(app: Flask, title: str) -> None:
    """Add the page at ``/`` and its assets below ``/docs``."""
    page: Blueprint = get_swaggerui_blueprint(
        _ASSETS,
        "/openapi.json",
        config={"app_name": title, "tryItOutEnabled": True, "oauth2RedirectUrl": None},
        blueprint_name="docs",
    )

    @page.after_request
    def restrict(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = _POLICY
        if request.path != "/":
            response.headers["Cache-Control"] = "public, max-age=3600"
        return response

    app.register_blueprint(page)
    app.add_url_rule("/", endpoint="docs.page", view_func=app.view_functions["docs.show"])
