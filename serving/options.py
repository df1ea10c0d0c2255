"""What a caller may add to the address of ``POST /predict``."""

import functools
from typing import NamedTuple
from urllib.parse import parse_qsl

from serving.errors import ParameterRefused

_VALUES = {"true": True, "false": False}
_SHOWN = 30  # characters of what was sent


class Options(NamedTuple):
    """The query parameters."""

    explain: bool = False
    """Reasons for each record."""
    drift: bool = True
    """The members about drift."""


@functools.lru_cache(maxsize=64)
def read_options(query: str) -> Options:
    """The options of a query string; raises ``ParameterRefused``."""
    given: dict[str, bool] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in Options._fields:
            allowed = " and ".join(f"{field}=true or false" for field in Options._fields)
            raise ParameterRefused(f"there is no query parameter {name[:_SHOWN]!r}; allowed: {allowed}, each once")
        if value not in _VALUES or name in given:
            raise ParameterRefused(f"{name} was {value[:_SHOWN]!r}; allowed: {name}=true or {name}=false, once")
        given[name] = _VALUES[value]
    return Options(**given)
