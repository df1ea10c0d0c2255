"""Entry point of the stack's containers: take the service's secrets into the environment, become its command.

``python -m compose.start airflow scheduler``. Secrets lie in volumes, in the JSON files that
``LIFECYCLE_SECRETS`` names (with colons between them), and so in no image, no compose file and no ``docker inspect``.
A proxy never stands between the stack's services.
A variable that the container was given, such as an ``AIRFLOW_CONN_...`` of your own cloud, is left as it is.
"""

import json
import os
import sys
from pathlib import Path

VARIABLE = "LIFECYCLE_SECRETS"
OWN = ("api-server", "azurite", "builder", "k3s", "mlflow", "minilake", "postgres", "registry")
"""The stack's services that others call by name."""


def main() -> None:
    """Replace this process by the command; a missing command or file ends it with one line that says so."""
    command = sys.argv[1:]
    if not command:
        raise SystemExit("nothing to start: give a command, for example `airflow scheduler`")
    environment = dict(os.environ)
    for path in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        try:
            environment = json.loads(Path(path).read_text()) | environment
        except FileNotFoundError:
            raise SystemExit(f"{path} ({VARIABLE}) is not there: the service `init` makes it") from None
    reach_directly(environment)
    os.execvpe(command[0], command, environment)  # noqa: S606 - the command is the container's own


def reach_directly(environment: dict[str, str]) -> None:
    """Keep a proxy, which Docker's configuration may put into every container, from between the stack's services."""
    for name in ("NO_PROXY", "no_proxy"):
        given = [host for host in environment.get(name, "").split(",") if host]
        environment[name] = ",".join(dict.fromkeys([*given, "localhost", "127.0.0.1", *OWN]))


if __name__ == "__main__":
    main()
