"""The server's configuration, with workers that take long from the fork to their handlers of signals."""

import time
from typing import Any

from serving import gunicorn_config
from serving.gunicorn_config import *  # noqa: F403 - gunicorn reads the names of this module

SECONDS = 1.0


def post_fork(server: Any, worker: Any) -> None:
    """Wait before what the server does there; of the first worker alone nothing is slow."""
    if worker.age > 1:
        time.sleep(SECONDS)
    gunicorn_config.post_fork(server, worker)
