"""What needs packages that an image holds on demand (``SCORING_EXTRAS`` of its build): imported when switched on."""

import importlib
import os
from typing import TYPE_CHECKING, Any

from serving.settings import PREFIX, Release, Settings, SettingsError

if TYPE_CHECKING:
    from serving.entra import EntraTokens
    from serving.spans import Spans

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def entra_tokens(settings: Settings) -> "EntraTokens | None":
    """What checks access tokens; ``None`` where none are taken. Raises ``SettingsError``."""
    if settings.auth != "entra":
        return None
    tokens: EntraTokens = _module("serving.entra", "entra", f"{PREFIX}AUTH=entra").EntraTokens(settings)
    return tokens


def span_exporter(release: Release) -> "Spans | None":
    """What exports spans; ``None`` where no endpoint is named. Raises ``SettingsError``."""
    named = [name for name in _ENDPOINTS if os.environ.get(name)]
    if not named:
        return None
    spans: Spans = _module("serving.spans", "otlp", named[0]).Spans(release)
    return spans


def _module(name: str, extra: str, asked: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{asked} needs the optional requirements {extra!r}, and this image lacks them (no {error.name}): "
            f"build it with {PREFIX}EXTRAS={extra}, or take the variable away"
        ) from error
