"""Make the stack's secrets and give its volumes to their users: ``python -m compose.init [show]``.

Runs as root in the service ``init``, which mounts every volume below ``/made``. The secrets come from the
system's random source, once; they are kept in a volume of their own, and each service's volume gets what
that service needs and no more. Run again, it writes the same files. ``show`` prints where to sign in.
"""

import base64
import hashlib
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

MADE = Path("/made")
ROOT, APP, POSTGRES = 0, 10001, 999
"""User ids: 10001 is our image's, 999 that of the official PostgreSQL image."""
PLACES = ("staging", "production")
CLIENT = "administrator"
"""The name that the scoring servers log for the generated API keys."""
_KEPT = "secrets.json"


class Secrets(msgspec.Struct, frozen=True):
    """Everything secret in the stack."""

    postgres_password: str
    airflow_database_password: str
    mlflow_database_password: str
    airflow_password: str
    jwt_secret: str
    api_secret_key: str
    fernet_key: str
    minilake_token: str
    storage_key: str
    api_keys: dict[str, str]
    """Place to the API key of its scoring server."""
    airflow_user: str = "admin"


def make_secrets() -> Secrets:
    """New ones. All but the two keys whose form is prescribed are safe in URLs."""
    token = secrets.token_urlsafe
    return Secrets(
        postgres_password=token(24),
        airflow_database_password=token(24),
        mlflow_database_password=token(24),
        airflow_password=token(12),
        jwt_secret=token(64),
        api_secret_key=token(32),
        fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        minilake_token=token(24),
        storage_key=base64.b64encode(secrets.token_bytes(64)).decode(),
        api_keys={place: token(24) for place in PLACES},
    )


def load_or_make(folder: Path) -> Secrets:
    """The secrets kept in ``folder``; at first, new ones."""
    path = folder / _KEPT
    if not path.exists():
        write_private(path, msgspec.json.encode(make_secrets()).decode(), ROOT)
    return msgspec.json.decode(path.read_bytes(), type=Secrets)


def write_private(path: Path, text: str, owner: int) -> None:
    """Replace a file in one step by one that only ``owner`` may read."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    os.chown(part, owner, owner)
    part.replace(path)


def airflow_environment(made: Secrets) -> dict[str, str]:
    """What Airflow's components add to their environment: configuration and connections that hold a secret."""
    storage = (
        f"DefaultEndpointsProtocol=http;AccountName=attrition;AccountKey={made.storage_key};"
        "BlobEndpoint=http://azurite:10000/attrition;"
    )
    connections: dict[str, dict[str, Any]] = {
        "databricks_default": {
            "conn_type": "databricks", "schema": "http", "host": "minilake", "port": 18000,
            "password": made.minilake_token,
        },
        "logs": {"conn_type": "wasb", "extra": {"connection_string": storage}},
        "airflow_api": {
            "conn_type": "http", "schema": "http", "host": "api-server", "port": 8080,
            "login": made.airflow_user, "password": made.airflow_password,
        },
    }  # fmt: skip
    return {
        "AIRFLOW__API__SECRET_KEY": made.api_secret_key,
        "AIRFLOW__API_AUTH__JWT_SECRET": made.jwt_secret,
        "AIRFLOW__CORE__FERNET_KEY": made.fernet_key,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": _database("airflow", made.airflow_database_password),
        **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()},
    }


def _database(name: str, password: str) -> str:
    return f"postgresql+psycopg2://{name}:{password}@postgres:5432/{name}"


def files(made: Secrets) -> dict[str, tuple[int, str]]:
    """Path below ``/made`` to owner and content, for every file of every service."""
    environments = {
        "airflow": airflow_environment(made),
        "mlflow": {"MLFLOW_BACKEND_STORE_URI": _database("mlflow", made.mlflow_database_password)},
        "minilake": {"MINILAKE_TOKEN": made.minilake_token},
    }
    return {
        **{f"{name}/environment.json": (APP, json.dumps(value)) for name, value in environments.items()},
        "airflow/passwords.json": (APP, json.dumps({made.airflow_user: made.airflow_password})),
        "postgres/postgres": (POSTGRES, made.postgres_password),
        "postgres/airflow": (POSTGRES, made.airflow_database_password),
        "postgres/mlflow": (POSTGRES, made.mlflow_database_password),
        "storage/accounts": (ROOT, f"attrition:{made.storage_key}"),
        **{f"cluster/{place}/api-key": (ROOT, key) for place, key in made.api_keys.items()},
        **{
            f"cluster/{place}/api-keys.json": (ROOT, json.dumps({CLIENT: hashlib.sha256(key.encode()).hexdigest()}))
            for place, key in made.api_keys.items()
        },
    }


def prepare(root: Path = MADE) -> None:
    """Write all files and hand the folders of our own services to their user."""
    made = load_or_make(root / "secrets")
    for name, (owner, content) in files(made).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.chown(path.parent, owner, owner)
        path.parent.chmod(0o700)
        write_private(path, content, owner)
    for name in ("data", "kube", "logs", "minilake-data", "mlflow-data"):
        os.chown(root / name, APP, APP)
        (root / name).chmod(0o700)
    employees = root / "data" / "employees.csv"
    if not employees.exists():
        # In a process of its own, as it is a command: it needs pandas, and this module needs none.
        subprocess.run([sys.executable, "-m", "use_cases.attrition.sample", "--out", str(employees)], check=True)
        os.chown(employees, APP, APP)
    (root / "data" / "outcomes").mkdir(exist_ok=True)
    os.chown(root / "data" / "outcomes", APP, APP)


def show(root: Path = MADE) -> str:
    """Where to sign in, and the API keys."""
    made = load_or_make(root / "secrets")
    port = os.environ.get("LIFECYCLE_AIRFLOW_PORT", "8080")
    lines = [f"Airflow     http://127.0.0.1:{port}  {made.airflow_user} / {made.airflow_password}"]
    lines += [f"{place:<11} X-API-Key: {key}" for place, key in made.api_keys.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:] == ["show"]:
        print(show())  # noqa: T201 - that is what it is for
    else:
        prepare()
