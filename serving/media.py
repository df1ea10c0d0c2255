"""In which forms records come, and answers go: JSON, CSV, or JSON by line."""

import functools
import re

from werkzeug.datastructures import Accept, MIMEAccept
from werkzeug.http import parse_accept_header

from serving.errors import NotAcceptable, UnsupportedMediaType

JSON = "application/json"
CSV = "text/csv"
NDJSON = "application/x-ndjson"
MEDIA_TYPES = (JSON, CSV, NDJSON)
"""The first is what a client gets that names none."""
_OTHER_CHARSET = re.compile(r";\s*charset\s*=\s*(?!\"?utf-?8\"?\s*(;|$))", re.IGNORECASE)
_NO_HEADER = re.compile(r";\s*header\s*=\s*\"?absent", re.IGNORECASE)
_ALLOWED = ", ".join(MEDIA_TYPES[:-1]) + f" or {MEDIA_TYPES[-1]}"


@functools.lru_cache(maxsize=64)
def sent_as(content_type: str) -> str:
    """The media type of a request's body; raises ``UnsupportedMediaType``."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in MEDIA_TYPES or _OTHER_CHARSET.search(content_type):
        raise UnsupportedMediaType(f"send records in UTF-8, with the header Content-Type: {_ALLOWED}")
    if kind == CSV and _NO_HEADER.search(content_type):
        raise UnsupportedMediaType("send CSV with a header line: cells are found by the names of their columns")
    return kind


@functools.lru_cache(maxsize=64)
def wanted_as(accept: str) -> str:
    """The media type of the answer that a client accepts best; raises ``NotAcceptable``."""
    if not accept:
        return JSON
    # Parameters, such as a charset, do not choose between the three.
    ranges = [(kind.partition(";")[0].strip(), quality) for kind, quality in parse_accept_header(accept, Accept)]
    best = MIMEAccept(ranges).best_match(MEDIA_TYPES)
    if best is None:
        raise NotAcceptable(f"answers are {_ALLOWED}: name one in the header Accept, or leave it out")
    return best


def is_json(content_type: str, accept: str) -> bool:
    """Whether a request is plain JSON both ways, as far as a glance can tell: other forms take longer."""
    return content_type[: len(JSON)].lower() == JSON and (not accept or accept[: len(JSON)] == JSON or accept == "*/*")
