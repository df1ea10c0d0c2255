"""ContainerLogV2 as Log Analytics exports it: the record of one line of a container's output, and its blob.

The embedded stack and the compose file play the export with it; the real one is Azure's.
"""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

CONTAINER = "am-containerlogv2"
_NOBODY = "00000000-0000-0000-0000-000000000000"
_LEVEL = re.compile(r"\b(CRITICAL|ERROR|WARNING|INFO|DEBUG|TRACE)\b")


@dataclass(frozen=True)
class Origin:
    """Where a line comes from."""

    namespace: str
    pod: str
    node: str
    container_id: str
    source: str = "stdout"


def blob_name(workspace: str, timestamp: str) -> str:
    """The blob in container ``CONTAINER`` for records of this time (RFC 3339, UTC): one for five minutes."""
    at = datetime.fromisoformat(timestamp[:19])
    resource = (
        f"/subscriptions/{_NOBODY}/resourcegroups/lifecycle/providers/microsoft.operationalinsights/workspaces/"
        f"{workspace}"
    )
    return f"WorkspaceResourceId={resource}/{at:y=%Y/m=%m/d=%d/h=%H}/m={at.minute // 5 * 5:02d}/PT05M.json"


def record(origin: Origin, timestamp: str, text: str) -> dict[str, Any]:
    """One record; a line that is a JSON object becomes one in ``LogMessage``. ``timestamp``: RFC 3339, UTC."""
    try:
        message: Any = json.loads(text)
    except ValueError:
        message = text
    if not isinstance(message, dict):
        message = text
    seconds, _, fraction = timestamp.removesuffix("Z").partition(".")
    return {
        "TenantId": _NOBODY,
        "TimeGenerated": f"{seconds}.{fraction[:7]:0<7}Z",
        "Computer": origin.node,
        "ContainerId": origin.container_id,
        "ContainerName": "scoring",
        "PodName": origin.pod,
        "PodNamespace": origin.namespace,
        "LogMessage": message,
        "LogSource": origin.source,
        "LogLevel": _level(message),
        "SourceSystem": "Containers",
        "Type": "ContainerLogV2",
    }


def encoded(content: dict[str, Any]) -> bytes:
    """A record as a line of its blob."""
    return json.dumps(content, ensure_ascii=False).encode() + b"\n"


def _level(message: Any) -> str:
    """As the service tells it: key ``level`` of a JSON line, otherwise a word that looks like one."""
    if isinstance(message, dict):
        return str(message.get("level", "UNKNOWN")).upper()
    found = _LEVEL.search(message)
    return found.group(1) if found else "UNKNOWN"
