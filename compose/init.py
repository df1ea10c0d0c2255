"""Make the stack's secrets and each use case's data, and give the volumes to their users: ``python -m compose.init``.

Runs as root in the service ``init``, which mounts every volume below ``/made``. The secrets come from the
system's random source, once; they are kept in a volume of their own, and each service's volume gets what
that service needs and no more. Run again, it writes the same files, and adds those of a new use case.
``python -m compose.init show`` prints where to sign in, and the scoring servers with their API keys;
``python -m compose.init rotate-approval-key`` makes a new key pair for approvals, ``rotate-signing-keys`` new ones for
bundles and images.
"""

import base64
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from lifecycle import images, settings
from lifecycle.approval_keys import KeyRing, write_private
from lifecycle.evidence import signature
from lifecycle.signing.rings import SigningRing
from serving.scoring.contract import RELEASE_CLIENT
from training.use_case import UseCase, load_all

MADE = Path("/made")
ROOT, APP, POSTGRES = 0, 10001, 999
"""User ids: 10001 is our image's, 999 that of the official PostgreSQL image."""
TARGETS = ("production", "staging")
"""In the order of their ports: each use case has two that follow one another."""
FIRST_NODE_PORT, NODE_PORTS = 30090, 20
"""What ``docker-compose.yaml`` publishes of the cluster."""
STORAGE_ACCOUNT = "lifecycle"
ROWS, SEED = 1470, 7
"""Of synthetic data, for a use case that brings none."""
ROTATED = {"rotate-approval-key": ("approval_keys",), "rotate-signing-keys": ("bundle_signing", "image_signing")}
"""Commands that make new key pairs, and which."""
CLIENT = "administrator"
"""The name that the scoring servers log for people's key; that of the releases is ``RELEASE_CLIENT``."""
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
    api_keys: dict[str, dict[str, str]] = {}
    """Use case, by its slug, to target to people's API key of its scoring server. The order is that of the NodePorts: a
    use case keeps its place, whatever comes later."""
    release_keys: dict[str, dict[str, str]] = {}
    """The same of the keys that releases verify the scoring servers with."""
    approval_keys: KeyRing = msgspec.field(default_factory=KeyRing.new)
    """Signs approvals, and checks those of earlier keys."""
    bundle_signing: SigningRing = msgspec.field(default_factory=lambda: SigningRing.new("training"))
    image_signing: SigningRing = msgspec.field(default_factory=lambda: SigningRing.new("builds"))
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
    )


def with_use_cases(made: Secrets, slugs: Iterable[str]) -> Secrets:
    """The same secrets, and API keys for use cases that have none yet; ``SystemExit`` where the ports run out."""
    keys = {**made.api_keys, **{slug: _new_keys() for slug in slugs if slug not in made.api_keys}}
    release_keys = {slug: made.release_keys.get(slug) or _new_keys() for slug in keys}
    if len(keys) * len(TARGETS) > NODE_PORTS:
        raise SystemExit(
            f"{len(keys)} use cases ({', '.join(keys)}) need {len(keys) * len(TARGETS)} ports, and docker-compose.yaml "
            f"publishes {NODE_PORTS} of the cluster: leave the new ones out, or begin with new volumes, for one that "
            "is gone keeps its ports"
        )
    return msgspec.structs.replace(made, api_keys=keys, release_keys=release_keys)


def _new_keys() -> dict[str, str]:
    return {target: secrets.token_urlsafe(24) for target in TARGETS}


def node_port(made: Secrets, slug: str, target: str) -> int:
    """The cluster's port of a scoring server."""
    return FIRST_NODE_PORT + len(TARGETS) * list(made.api_keys).index(slug) + TARGETS.index(target)


def load_or_make(folder: Path, slugs: Iterable[str]) -> Secrets:
    """The secrets kept in ``folder``; new ones at first, and for use cases that are new."""
    path = folder / _KEPT
    kept = msgspec.json.decode(path.read_bytes(), type=Secrets) if path.exists() else None
    made = with_use_cases(kept or make_secrets(), slugs)
    write_private(path, msgspec.json.encode(made).decode(), ROOT)
    return made


def rotate(names: Iterable[str], root: Path = MADE) -> None:
    """Sign with new keys from the next start on; what earlier ones signed stays valid. ``names`` are of ``Secrets``."""
    path = root / "secrets" / _KEPT
    made = msgspec.json.decode(path.read_bytes(), type=Secrets)
    rotated = msgspec.structs.replace(made, **{name: getattr(made, name).rotated() for name in names})
    write_private(path, msgspec.json.encode(rotated).decode(), ROOT)


def airflow_environment(made: Secrets) -> dict[str, str]:
    """What Airflow's components add to their environment: configuration and connections that hold a secret."""
    storage = (
        f"DefaultEndpointsProtocol=http;AccountName={STORAGE_ACCOUNT};AccountKey={made.storage_key};"
        f"BlobEndpoint=http://azurite:10000/{STORAGE_ACCOUNT};"
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
        **public_keys(made),
        "AIRFLOW__API__SECRET_KEY": made.api_secret_key,
        "AIRFLOW__API_AUTH__JWT_SECRET": made.jwt_secret,
        "AIRFLOW__CORE__FERNET_KEY": made.fernet_key,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": _database("airflow", made.airflow_database_password),
        **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()},
    }


def public_keys(made: Secrets) -> dict[str, str]:
    """What the settings file has from the environment, everywhere in this stack."""
    return {
        "LIFECYCLE_APPROVAL_KEYS": made.approval_keys.settings(),
        "LIFECYCLE_BUNDLE_KEYS": made.bundle_signing.settings(),
        "LIFECYCLE_IMAGE_KEYS": made.image_signing.settings(),
    }


def _database(name: str, password: str) -> str:
    return f"postgresql+psycopg2://{name}:{password}@postgres:5432/{name}"


def of_the_cluster(use_cases: Iterable[UseCase], made: Secrets) -> dict[str, str]:
    """Path below ``/made/cluster`` to content: what the settings say about each target, for ``cluster.sh``."""
    os.environ.update(public_keys(made))
    configured = settings.load()
    found = {}
    for use_case in use_cases:
        counts = configured.of(use_case)
        for target, namespace in (("staging", counts.staging.namespace), ("production", counts.production.namespace)):
            folder = f"{use_case.slug}-{target}"
            found[f"{folder}/namespace"] = namespace
            found[f"{folder}/repository"] = counts.repository
            found[f"{folder}/other-repositories"] = ",".join(counts.other_repositories)
            found[f"{folder}/kubectl-image"] = images.pinned(configured.scoring.kubectl_image)
    return found


def files(made: Secrets) -> dict[str, tuple[int, str]]:
    """Path below ``/made`` to owner and content, for every file that holds a secret or follows from one."""
    environments = {
        "airflow": airflow_environment(made),
        # A volume of its own: of Airflow's services only the one that runs tasks may sign.
        "approval": {f"AIRFLOW_CONN_{signature.CONNECTION_ID.upper()}": made.approval_keys.connection()},
        "mlflow": {"MLFLOW_BACKEND_STORE_URI": _database("mlflow", made.mlflow_database_password)},
        "minilake": {"MINILAKE_TOKEN": made.minilake_token},
    }
    return {
        **{f"{name}/environment.json": (APP, json.dumps(value)) for name, value in environments.items()},
        # Each beside what else its one holder may read: the jobs that train, and the tasks that build.
        "minilake/bundle-signing.pem": (APP, made.bundle_signing.private),
        "approval/image-signing.pem": (APP, made.image_signing.private),
        "airflow/passwords.json": (APP, json.dumps({made.airflow_user: made.airflow_password})),
        "postgres/postgres": (POSTGRES, made.postgres_password),
        "postgres/airflow": (POSTGRES, made.airflow_database_password),
        "postgres/mlflow": (POSTGRES, made.mlflow_database_password),
        "storage/accounts": (ROOT, f"{STORAGE_ACCOUNT}:{made.storage_key}"),
        **{
            f"cluster/{slug}-{target}/{name}": (ROOT, content)
            for slug, keys in made.api_keys.items()
            for target, key in keys.items()
            for name, content in (
                ("api-key", made.release_keys[slug][target]),
                ("api-keys.json", _hashed({CLIENT: key, RELEASE_CLIENT: made.release_keys[slug][target]})),
                ("node-port", str(node_port(made, slug, target))),
            )
        },
    }


def _hashed(keys: dict[str, str]) -> str:
    """What a scoring server reads of its clients' keys."""
    return json.dumps({client: hashlib.sha256(key.encode()).hexdigest() for client, key in keys.items()})


def prepare(use_cases: Iterable[UseCase], root: Path = MADE) -> None:
    """Write all files and hand the folders of our own services to their user."""
    use_cases = tuple(use_cases)
    served = [use_case for use_case in use_cases if use_case.online]
    made = load_or_make(root / "secrets", (use_case.slug for use_case in served))
    cluster = of_the_cluster(served, made)
    public = {f"cluster/{name}": (ROOT, content) for name, content in cluster.items()}
    for name, (owner, content) in {**files(made), **public}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.chown(path.parent, owner, owner)
        path.parent.chmod(0o700)
        write_private(path, content, owner)
    for name in ("data", "kube", "logs", "minilake-data", "mlflow-data"):
        os.chown(root / name, APP, APP)
        (root / name).chmod(0o700)
    for use_case in use_cases:
        put_data(use_case, root / "data")


def put_data(use_case: UseCase, folder: Path) -> None:
    """Give a use case ``NAME.csv``, which is left alone once it is there, and folders for outcomes and new data.

    Where series are forecast, ``NAME-plan.csv`` is what is known of weeks to come.
    """
    file = folder / f"{use_case.name}.csv"
    if not file.exists():
        part = file.with_name(f".{use_case.name}.part.csv")
        if use_case.data:
            shutil.copyfile(use_case.folder / use_case.data, part)
        else:
            # In a process of its own, as it is a command: it needs pandas, and this module needs none.
            command = [sys.executable, "-m", "training.data.synthetic", use_case.name]
            if use_case.series:
                plan = folder / f"{use_case.name}-plan.csv"
                command += ["--plan", str(plan)]
            subprocess.run([*command, "--rows", str(ROWS), "--seed", str(SEED), "--out", str(part)], check=True)
            if use_case.series:
                os.chown(plan, APP, APP)
        os.chown(part, APP, APP)
        part.replace(file)
    for name in ("outcomes", "bronze"):
        for made in (folder / name, folder / name / use_case.name):
            made.mkdir(exist_ok=True)
            os.chown(made, APP, APP)


def show(use_cases: Iterable[UseCase], root: Path = MADE) -> str:
    """Where to sign in, and address and API key of each scoring server."""
    made = load_or_make(root / "secrets", (use_case.slug for use_case in use_cases if use_case.online))
    port = os.environ.get("LIFECYCLE_AIRFLOW_PORT", "8080")
    first = int(os.environ.get("LIFECYCLE_SCORING_PORTS", "8090").partition("-")[0])
    lines = [("Airflow", f"http://127.0.0.1:{port}", f"{made.airflow_user} / {made.airflow_password}")]
    for slug, keys in made.api_keys.items():
        for target, key in keys.items():
            address = f"http://127.0.0.1:{first + node_port(made, slug, target) - FIRST_NODE_PORT}"
            lines.append((f"{slug} {target}", address, f"X-API-Key: {key}"))
    widths = [max(map(len, column)) for column in list(zip(*lines, strict=True))[:2]]
    return "\n".join(f"{what:<{widths[0]}}  {where:<{widths[1]}}  {secret}" for what, where, secret in lines)


def main(arguments: list[str]) -> None:
    """Prepare the volumes, or print what is in them; a definition that does not hold is named and left out."""
    use_cases, faults = load_all()
    for fault in faults:
        sys.stderr.write(f"left out: {fault}\n")
    if arguments == ["show"]:
        sys.stdout.write(f"{show(use_cases)}\n")
    elif arguments and (rings := ROTATED.get(arguments[0])):
        rotate(rings)
        prepare(use_cases)
    else:
        prepare(use_cases)


if __name__ == "__main__":
    main(sys.argv[1:])
