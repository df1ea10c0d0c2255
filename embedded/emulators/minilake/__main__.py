"""``python -m embedded.emulators.minilake``: serve the workspace.

Settings: MINILAKE_PORT, MINILAKE_DATA_DIR, MINILAKE_TOKEN, MINILAKE_HOSTS (names beside those of loopback by which
clients call it, joined by commas; a request for another name comes from a page that turned its own to this machine),
MINILAKE_PAGES (name and port by which browsers know it, where that is not how clients call it).
"""

import asyncio
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

from embedded.emulators.minilake import VERSION

LOOPBACK = ("127.0.0.1", "localhost")
MAX_TASKS = 64
"""Job tasks that run at once; more wait. Python's default would be the number of cores plus four."""


def check_version(found: str) -> None:
    """Refuse any version but the one that the corrections were written for."""
    if found != VERSION:
        raise SystemExit(
            f"minilake {found} is installed, but the corrections in embedded/emulators/minilake are for {VERSION}: "
            f"run `make setup`, or check them against the new version with tests/embedded/test_minilake_*.py"
        )


async def serve() -> None:
    """Serve until SIGINT or SIGTERM."""
    # Read by MiniLake when it is imported, which is why that happens below.
    os.environ.update(MINILAKE_JOB_EXECUTOR="subprocess", MINILAKE_NOTEBOOK="0", MINILAKE_PERSIST="1")
    import uvicorn
    from minilake.app import create_app
    from minilake.config import settings
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from embedded.emulators.minilake import execution, requests, runs, workspace

    workspace.install()
    execution.install()
    runs.install()
    execution.end_leftovers()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(MAX_TASKS))
    app = TrustedHostMiddleware(
        requests.Corrections(create_app(), token=os.environ.get("MINILAKE_TOKEN", "")),
        allowed_hosts=[*LOOPBACK, *filter(None, os.environ.get("MINILAKE_HOSTS", "").split(","))],
        www_redirect=False,
    )
    # h11, as MiniLake's own command line has it: httptools drops bodies of requests that offer HTTP/2.
    config = uvicorn.Config(
        app, host=settings.bind_host, port=settings.port, log_level="warning", http="h11", lifespan="on",
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    try:
        await uvicorn.Server(config).serve()
    finally:
        execution.end_all()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    check_version(version("minilake"))
    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        sys.exit(130)
