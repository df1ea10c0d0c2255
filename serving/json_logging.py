"""Warnings and access lines as JSON on stderr; stdout belongs to the inference log.

What a client has sent is not in them: texts of errors that may quote it are left out, and the rest is cut. Whoever
logs does not wait for the reader of stderr: lines that it does not take are counted and dropped.
"""

import contextlib
import functools
import logging
import traceback
from collections import deque
from datetime import UTC, datetime
from typing import Any

import msgspec
from gunicorn.glogging import Logger

from serving.accounting import CLIENT, PROBLEM, REQUEST_ID
from serving.log_writer import LineWriter, LogUnavailable
from serving.trace_context import TRACE_ID

_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Probes that went well leave no access line."""
_PATHS = _QUIET | {"/", "/predict", "/version", "/openapi.json"}
_ASSETS = "/docs/"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_STDERR = 2
_MESSAGE_LIMIT, _TRACEBACK_LIMIT = 1000, 4000  # characters


@functools.cache
def stderr_writer() -> LineWriter:
    """The one way to stderr; made in the master, so that its workers share it."""
    return LineWriter(_STDERR, timeout=0)


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON; ``level`` is the key that Azure Monitor reads."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "type": "Log",
            "timestamp": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage()[:_MESSAGE_LIMIT],
            "pid": record.process,
        }
        if hasattr(record, "request_id"):
            line["request_id"] = record.request_id
        if record.exc_info and record.exc_info[1]:
            line["exception"] = _told(record.exc_info[1])
        return msgspec.json.encode(line).decode()


def _told(error: BaseException) -> str:
    """Where an error and its causes came from. Their texts may quote what was sent, except for those of our own."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        kind = type(cause)
        quotes_nothing = kind.__module__.startswith("serving.") or (
            isinstance(cause, OSError | ImportError) and kind.__module__ == "builtins"
        )
        text = f": {cause}" if quotes_nothing else ""
        parts.append("".join(traceback.format_tb(cause.__traceback__)) + kind.__qualname__ + text)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\nwhile handling\n".join(parts)[:_TRACEBACK_LIMIT]


class _LineHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(LogUnavailable):  # it is counted
            stderr_writer().write(self.format(record).encode() + b"\n")


def log_to_stderr() -> None:
    """Send every log record of this process to stderr as JSON."""
    stderr_writer()  # before there is a handler, for it may have something to log itself
    handler = _LineHandler()
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


class JsonLogger(Logger):  # type: ignore[misc]
    """Gunicorn's logger, with our format and access lines."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self._accessed: deque[bytes] = deque()
        log_to_stderr()
        self.error_log.handlers[:] = []
        self.error_log.propagate = True

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> None:
        """One line for each request, kept for ``write_access``.

        ``resp``: an object with ``status``, as gunicorn's responses, and ``sent``.
        """
        status = int(str(resp.status)[:3])
        path = environ.get("PATH_INFO", "")
        if not self.cfg.accesslog or (path in _QUIET and status < 400):
            return
        method = environ.get("REQUEST_METHOD")
        line = {
            "type": "Access",
            "timestamp": datetime.now(UTC),
            "request_id": environ.get(REQUEST_ID),
            "trace_id": environ.get(TRACE_ID),
            "client": environ.get(CLIENT),
            "remote": environ.get("REMOTE_ADDR"),
            "method": method if method in _METHODS else "other",
            "path": path if path in _PATHS or (path.startswith(_ASSETS) and status < 400) else "other",
            "status": status,
            "problem": environ.get(PROBLEM),
            "bytes": resp.sent,
            "duration_ms": round(request_time.total_seconds() * 1000, 3),
        }
        self._accessed.append(msgspec.json.encode(line) + b"\n")

    def write_access(self) -> None:
        """Write the access lines of all threads since the last time at once, as every write wakes who reads them."""
        lines = b"".join(self._accessed.popleft() for _ in range(len(self._accessed)))
        if lines:
            with contextlib.suppress(LogUnavailable):  # they are counted
                stderr_writer().write(lines)
