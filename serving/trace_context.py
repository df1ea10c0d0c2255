"""The caller's trace: W3C Trace Context, header ``traceparent``."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

TRACE_ID = "scoring.trace_id"
"""Key of the WSGI environment: the trace's id, 32 hexadecimal digits; absent where there is none."""
_PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


def note_trace(environ: "WSGIEnvironment") -> None:
    """Keep the trace's id; a header that is malformed is ignored, as the specification has it."""
    found = _PARENT.fullmatch(environ["HTTP_TRACEPARENT"].strip(" \t"))
    # A later version may add something at the end; version 00 has nothing more.
    if found and (found[1] != "00" or found[3] is None):
        environ[TRACE_ID] = found[2]
