"""``mlflow server`` in one process instead of two.

MLflow's command imports everything to prepare its database and then starts uvicorn as a child, which
imports everything again. Here the command's own arguments and preparation are used, and uvicorn runs
where the imports are already done: 250 MiB and several seconds less.
"""

import os
import sys
from typing import Any, NoReturn


def _run_here(command: list[str], *, extra_env: dict[str, str], **_: Any) -> NoReturn:
    """Stands in for ``mlflow.server._exec_cmd``: ``command`` is ``python -m uvicorn OPTIONS APP``."""
    import uvicorn.main

    os.environ.update(extra_env)
    uvicorn.main.main(command[3:])
    raise SystemExit(0)


def main() -> None:
    """Take the arguments of ``mlflow server``."""
    import mlflow.server
    from mlflow.cli import cli

    if not hasattr(mlflow.server, "_exec_cmd"):
        raise SystemExit(
            "this version of MLflow starts its server in another way: use `mlflow server` in embedded/parts.py"
        )
    mlflow.server._exec_cmd = _run_here
    cli(["server", *sys.argv[1:]])


if __name__ == "__main__":
    main()
