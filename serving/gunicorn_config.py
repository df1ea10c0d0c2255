"""Gunicorn's configuration: ``python -m gunicorn -c python:serving.gunicorn_config serving.wsgi:app``.

The master loads the application once and forks the workers, which share its memory. That is safe because
nothing here starts a thread before the fork: ONNX Runtime has one thread a session, OpenBLAS one.
"""

import gc
import os
import signal
from types import FrameType
from typing import Any

from serving.cpu import cpu_limit
from serving.settings import settings_or_exit
from serving.system import limit_malloc_arenas, memory_folder, most_connections

# NumPy is imported after this. Its thread pool would not survive the fork, and our matrices are small.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("VECLIB_MAXIMUM_THREADS", "1")  # what NumPy calculates with on macOS

# Loading makes hardly any garbage; looking for it takes a tenth of the start. ``serving.wsgi`` ends this.
gc.disable()

limit_malloc_arenas(2)

_settings = settings_or_exit()

bind = _settings.binds
workers = _settings.workers or cpu_limit()
threads = _settings.threads
worker_class = "serving.drain.ScoringWorker"
worker_connections = most_connections(4096)
worker_tmp_dir = memory_folder()  # the heartbeat must not wait for a disk
preload_app = True
keepalive = _settings.keepalive
graceful_timeout = _settings.graceful_timeout
timeout = 60  # a worker whose heartbeat stops for this long is replaced
max_requests = _settings.max_requests
max_requests_jitter = _settings.max_requests // 10
logger_class = "serving.json_logging.JsonLogger"
accesslog = "-" if _settings.access_log else None
control_socket_disable = True  # it would be written to the home folder; the root file system is read-only


def when_ready(server: Any) -> None:
    """Tell the workers when the whole server stops, before gunicorn sends each of them SIGTERM."""
    ended_by_gunicorn: Any = signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        if server.reexec_pid == 0:  # otherwise a new master goes on with the same sockets
            _service(server).lifecycle.stop()
        ended_by_gunicorn(number, frame)

    signal.signal(signal.SIGTERM, stop)


def pre_fork(server: Any, worker: Any) -> None:
    """Give the worker a row of counters that nobody else counts in."""
    worker.metrics_row = _service(server).metrics.reserve_row(worker.age)


def post_fork(server: Any, worker: Any) -> None:
    """Count in that row; start what has a thread."""
    service = _service(server)
    service.metrics.take_row(worker.metrics_row)
    if service.spans is not None:
        service.spans.start()


def post_worker_init(worker: Any) -> None:
    """Predict once in the new worker, before it reports ready and takes connections."""
    service = worker.wsgi.extensions["scoring"]
    service.warm_up()
    if service.lifecycle.stopping:  # the master's SIGTERM may have come before this process had a handler of its own
        worker.alive = False


def child_exit(server: Any, worker: Any) -> None:
    """Free the counters' row of a worker that has ended."""
    _service(server).metrics.release_row(worker.age)


def _service(server: Any) -> Any:
    return server.app.wsgi().extensions["scoring"]
