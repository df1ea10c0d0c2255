"""Warnings and access lines as JSON on stderr; stdout belongs to the inference log."""

import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
from gunicorn.glogging import Logger

from serving.predict import CLIENT, REQUEST_ID

_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Probes that went well leave no access line."""
_STDERR = 2


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON; ``level`` is the key that Azure Monitor reads."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "type": "Log",
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if hasattr(record, "request_id"):
            line["request_id"] = record.request_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def log_to_stderr() -> None:
    """Send every log record of this process to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


class JsonLogger(Logger):  # type: ignore[misc]
    """Gunicorn's logger, with our format and access lines."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        log_to_stderr()
        self.error_log.handlers[:] = []
        self.error_log.propagate = True

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> None:
        """One line a request, in one write of less than a pipe's atomic 4 KiB."""
        status = int(resp.status_code)
        path = environ.get("PATH_INFO", "")
        if not self.cfg.accesslog or (path in _QUIET and status < 400):
            return
        line = {
            "type": "Access",
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": environ.get(REQUEST_ID),
            "client": environ.get(CLIENT),
            "remote": environ.get("REMOTE_ADDR"),
            "method": environ.get("REQUEST_METHOD", "")[:20],
            "path": path[:200],
            "status": status,
            "bytes": resp.sent,
            "duration_ms": round(request_time.total_seconds() * 1000, 3),
        }
        os.write(_STDERR, msgspec.json.encode(line) + b"\n")
