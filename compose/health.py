"""Health checks of the stack's containers: ``python -m compose.health URL`` or ``... COMPONENT``.

A URL is healthy when it answers with 200. A component of Airflow has no port; it is healthy when the API
server says that its last heartbeat is recent.
"""

import json
import sys
import urllib.request

_COMPONENTS = "http://api-server:8080/api/v2/monitor/health"
_TIMEOUT = 5.0


def is_healthy(what: str) -> bool:
    """Ask once; a server that does not answer raises ``OSError``."""
    url = what if what.startswith("http://") else _COMPONENTS
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:  # noqa: S310 - fixed to http:// above
        return url == what or json.load(answer)[what]["status"] == "healthy"


if __name__ == "__main__":
    sys.exit(not is_healthy(sys.argv[1]))
