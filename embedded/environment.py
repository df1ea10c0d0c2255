"""The one place where the embedded stack's folders, ports, secrets and process environments are put together."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from dotenv import dotenv_values

from embedded.credentials import Credentials
from lifecycle.approval_keys import KeyRing
from lifecycle.evidence import signature
from lifecycle.signing.rings import SigningRing
from training.use_case import Target

ROOT = Path(__file__).resolve().parents[1]
MARKER = "LIFECYCLE_STACK"
"""Set for every process of a stack, to the stack's home: this is how leftovers are found."""
PART_MARKER = "LIFECYCLE_PART"
"""Set for every process of a part, to its name."""
TARGETS: tuple[Target, ...] = get_args(Target)
SIGNERS = {"bundle": "training", "image": "builds"}
"""What is signed, and by whom."""
APPROVAL_KEY_VARIABLE = f"AIRFLOW_CONN_{signature.CONNECTION_ID.upper()}"
"""Holds the private key that signs approvals: only the component that runs tasks keeps it."""
HEARTBEAT_FILE = "heartbeat"
"""In the folder of slots; the scoring host touches it every second."""

# Not taken over from the shell: they would lead the stack's processes to somebody else's Airflow, MLflow,
# workspace, cluster or Python.
_FOREIGN = ("AIRFLOW__", "AIRFLOW_HOME", "MLFLOW_", "DATABRICKS_", "MINILAKE_", "SCORING_", "KUBECONFIG",
            "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "GUNICORN_CMD_ARGS")  # fmt: skip


class ConfigurationError(ValueError):
    """Raised when a setting of the embedded stack cannot be used; the message names it."""


@dataclass(frozen=True)
class Ports:
    """Loopback ports; each is the setting ``LIFECYCLE_<NAME>_PORT``."""

    airflow: int = 8080
    mlflow: int = 5050
    minilake: int = 18000
    staging: int = 8091
    """Of the use case that is released first; each further one gets a pair of its own (``embedded.addresses``)."""
    production: int = 8090

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "Ports":
        ports = {}
        for name in cls.__dataclass_fields__:
            setting = port_setting(name)
            text = variables.get(setting) or str(getattr(cls, name))
            if not text.isdigit() or not 0 < int(text) < 65536:
                raise ConfigurationError(f"{setting} is {text!r}: give a port number from 1 to 65535")
            ports[name] = int(text)
        if doubled := {port for port in ports.values() if list(ports.values()).count(port) > 1}:
            names = ", ".join(port_setting(name) for name, port in ports.items() if port in doubled)
            raise ConfigurationError(f"{names} name the same port: give each its own")
        return cls(**ports)


def port_setting(name: str) -> str:
    """The environment variable that sets a port."""
    return f"LIFECYCLE_{name.upper()}_PORT"


@dataclass(frozen=True)
class Stack:
    """Where one embedded stack lives. Everything it writes is below ``home``."""

    home: Path
    ports: Ports
    shell: Mapping[str, str]
    """The environment that it was called with, ``.env`` included."""

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> "Stack":
        """The stack that the environment and the clone's ``.env`` describe; the environment wins."""
        from_file = {key: value or "" for key, value in dotenv_values(ROOT / ".env").items()}
        shell = from_file | dict(environ)
        home = Path(shell.get("LIFECYCLE_HOME") or ROOT / ".lifecycle").expanduser().resolve()
        return cls(home=home, ports=Ports.read(shell), shell=shell)

    @property
    def airflow_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.airflow}"

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.mlflow}"

    @property
    def minilake_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.minilake}"

    @property
    def slots(self) -> Path:
        """Folder of all slots."""
        return self.home / "slots"

    def slot(self, use_case: str, target: Target) -> Path:
        """Folder of what is asked for, the status and the output of a use case's server at a target."""
        return self.slots / use_case / target

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def tables(self, use_case: str) -> Path:
        """Where ``config/embedded.toml`` has a use case's tables."""
        return self.home / "tables" / use_case

    def plan(self, use_case: str) -> Path:
        """What is known of weeks to come, for a use case that forecasts."""
        return self.home / "data" / f"{use_case}-plan.csv"

    def data(self, use_case: str) -> Path:
        """A use case's default training data, as ``config/embedded.toml`` names it."""
        return self.home / "data" / f"{use_case}.csv"

    def bronze(self, use_case: str) -> Path:
        """Where a use case's new data arrives, as ``config/embedded.toml`` names it."""
        return self.home / "bronze" / use_case

    @property
    def credentials(self) -> Credentials:
        return Credentials.load(self.home / "secrets", TARGETS)

    @property
    def approval_key_file(self) -> Path:
        """The key pair that signs approvals, and the public keys of earlier pairs."""
        return self.home / "secrets" / "approval-keys.json"

    @property
    def approval_keys(self) -> KeyRing:
        """Read from its file; at first, made."""
        return KeyRing.load(self.approval_key_file)

    @property
    def signing_key_files(self) -> dict[str, Path]:
        """The key pairs that sign bundles and images; ``config/embedded.toml`` names the private keys beside them."""
        return {name: self.home / "secrets" / f"{name}-signing.json" for name in SIGNERS}

    @property
    def signing_keys(self) -> dict[str, SigningRing]:
        """Read from their files; at first, made."""
        return {name: SigningRing.load(file, SIGNERS[name]) for name, file in self.signing_key_files.items()}

    def environment(self) -> dict[str, str]:
        """What every process of the stack gets: the caller's environment without what would mislead it."""
        kept = {key: value for key, value in self.shell.items() if not key.startswith(_FOREIGN)}
        ports = {port_setting(name): str(port) for name, port in vars(self.ports).items()}
        return {
            **kept,
            **ports,
            MARKER: str(self.home),
            "LIFECYCLE_HOME": str(self.home),
            "LIFECYCLE_SETTINGS": self.shell.get("LIFECYCLE_SETTINGS") or str(ROOT / "config/embedded.toml"),
            "LIFECYCLE_APPROVAL_KEYS": self.approval_keys.settings(),
            **{f"LIFECYCLE_{name.upper()}_KEYS": ring.settings() for name, ring in self.signing_keys.items()},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}",
            "PYTHONUNBUFFERED": "1",
            # Airflow would show in every task's log what its libraries deprecate of each other.
            "PYTHONWARNINGS": kept.get("PYTHONWARNINGS", "ignore::DeprecationWarning,ignore:ProvidersManager"),
            # setproctitle would otherwise overwrite the environment that leftovers are found by.
            "SPT_NOENV": "1",
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # An MLflow that is away is a failure after one minute; the default of 7 makes it four.
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
            "DO_NOT_TRACK": "true",
            **loopback_without_proxy(kept),
            # macOS ends a forked process that touches Apple's libraries, and Airflow forks for everything.
            "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",
        }

    def airflow_environment(self) -> dict[str, str]:
        """For Airflow's components: configuration and connections."""
        secrets, ports, home = self.credentials, self.ports, self.home / "airflow"
        # Waiting writers wait 30 s for SQLite's lock; the default of 5 s shows as "Database error" in the UI.
        database = self.shell.get("LIFECYCLE_AIRFLOW_DATABASE") or f"sqlite:///{home}/airflow.db?timeout=30"
        passwords = home / "passwords.json"
        return {
            **self.environment(),
            **self._connections(secrets),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__API__BASE_URL": self.airflow_url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(ports.airflow),
            "AIRFLOW__API__SECRET_KEY": secrets.api_secret_key,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__EXPOSE_CONFIG": "False",
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.jwt_secret,
            # A busy machine may take long over what takes seconds; the defaults (30, 50 and 5 s) then fail it.
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "120",
            "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "180",
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            # One minute instead of ten seconds: after a kill the scheduler resumes tasks before the API answers.
            "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "8",
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.airflow_url}/execution/",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "embedded.airflow_components.hostname",
            "AIRFLOW__CORE__FERNET_KEY": secrets.fernet_key,
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{secrets.airflow_user}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
            # In a thread, for a fork of a task's process can leave its supervisor waiting.
            "AIRFLOW__OPENLINEAGE__EXECUTE_IN_THREAD": "True",
            "AIRFLOW__OPENLINEAGE__NAMESPACE": "lifecycle",
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
                {"type": "file", "log_file_path": str(self.home / "openlineage.jsonl"), "append": True}
            ),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            # An idle scheduler sees after half of this, on average, that a task has ended. A demo has 16 of them.
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }

    def minilake_environment(self) -> dict[str, str]:
        return {
            **self.environment(),
            "MINILAKE_BIND_HOST": "127.0.0.1",
            "MINILAKE_PORT": str(self.ports.minilake),
            "MINILAKE_DATA_DIR": str(self.home / "minilake"),
            "MINILAKE_DUCKDB_MEMORY_LIMIT": "1GB",
            # An extension folder of its own keeps MiniLake from downloading one at every start.
            "MINILAKE_DUCKDB_EXTENSION_DIR": str(self.home / "minilake" / "extensions"),
            "MINILAKE_TOKEN": self.credentials.minilake_token,
        }

    def mlflow_environment(self) -> dict[str, str]:
        # The server's own job runner starts two more processes that this project has no use for.
        return {**self.environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}

    def scoring_environment(self) -> dict[str, str]:
        """For scoring servers: nothing of the clone, no secret; the host adds what a server needs."""
        names = ("PATH", "HOME", "LANG", "TZ", "SPT_NOENV", "PYTHONUNBUFFERED",
                 "OBJC_DISABLE_INITIALIZE_FORK_SAFETY", MARKER)  # fmt: skip
        return {name: value for name, value in self.environment().items() if name in names}

    def _connections(self, secrets: Credentials) -> dict[str, str]:
        http = {"conn_type": "http", "schema": "http", "host": "127.0.0.1"}
        connections: dict[str, dict[str, object]] = {
            "databricks_default": {**http, "conn_type": "databricks", "port": self.ports.minilake,
                                   "password": secrets.minilake_token},
            "mlflow": {**http, "port": self.ports.mlflow},
            "airflow_api": {**http, "port": self.ports.airflow, "login": secrets.airflow_user,
                            "password": secrets.airflow_password},
            "registry": {"conn_type": "fs", "extra": {"path": str(self.home / "images")}},
            "logs": {"conn_type": "fs", "extra": {"path": str(self.home / "exports")}},
            "events": {"conn_type": "fs"},
        }  # fmt: skip
        for target in TARGETS:
            # Without host and port: each use case has an address of its own, which its slot's status names.
            connections[f"scoring_{target}"] = {
                "conn_type": "gunicorn",
                "password": secrets.release_keys[target],
                "extra": {"home": str(self.slots)},
            }
        return {
            **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()},
            APPROVAL_KEY_VARIABLE: self.approval_keys.connection(),
        }


def loopback_without_proxy(shell: Mapping[str, str]) -> dict[str, str]:
    """The parts talk to each other without a proxy; what the caller excepts from theirs stays excepted.

    Where no variable speaks of proxies, Python asks macOS, in a library that a forked process must not use.
    """
    named = [host.strip() for name in ("no_proxy", "NO_PROXY") for host in shell.get(name, "").split(",")]
    # A lone * excepts every host; as one of several it would mean nothing to Python.
    hosts = "*" if "*" in named else ",".join(dict.fromkeys(filter(None, [*named, "127.0.0.1", "localhost"])))
    return {"no_proxy": hosts, "NO_PROXY": hosts}
