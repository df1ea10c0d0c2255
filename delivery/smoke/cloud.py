"""The steps that make the small environment, bring Airflow into it, and take it down: docs/azure.md, by programs."""

import base64
import hashlib
import json
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from delivery.smoke.programs import Programs, stop
from delivery.smoke.state import Home, SmokeError
from delivery.smoke.walk import Place
from embedded.airflow_client import Airflow, AirflowError
from lifecycle import settings
from training.use_case import UseCase

TRAINER, APPROVER = "smoke-trainer", "smoke-approver"
"""Users of the cluster's Airflow, for `requester_may_approve` is false there."""
TARGETS = ("staging", "production")
DATABRICKS = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"
"""Azure Databricks as a resource of Entra."""
EXPORT_SECONDS = 3600.0
"""Log Analytics begins to export about half an hour after the rule was made."""
_REMOVALS = 3
_REMOVAL_SECONDS = 2 * 3600.0
"""What taking down may take, however late it is."""
_NEEDED = ("az", "docker", "git", "helm", "kubectl", "kubelogin", "make", "openssl")
_API = "airflow-api-server"
_INSIGHTS = "application-insights"
_READY_SECONDS = 600.0


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What a person hands in."""

    variables: Path
    """`mine.tfvars`."""
    backend: Path
    """Settings of the state's backend, as `tofu init -backend-config=` takes a file."""
    approval_key: Path
    """What `make approval-key` wrote; its public line is in the variables."""
    repository: str
    """Where Airflow clones the DAG files from; it has the commit that is checked out."""
    dags_connection: Path | None = None
    """Connection `dags_repository` as JSON, for a repository that not everybody may read."""
    data: Path
    """The training table, a CSV file."""

    def check(self) -> None:
        """Raise ``SmokeError`` before anything is made, where something is missing."""
        for what, path in (("VARS", self.variables), ("BACKEND", self.backend), ("APPROVAL_KEY", self.approval_key)):
            if not path.is_file():
                raise SmokeError(f"there is no file {path}: {what} names it (docs/azure.md, A smoke run)")
        if not self.data.is_file() or self.data.suffix != ".csv":
            raise SmokeError(f"there is no CSV file {self.data}: DATA names the training table")
        if not self.repository:
            raise SmokeError("name the address that Airflow clones the DAG files from: REPOSITORY=https://...")


class _Pipeline(msgspec.Struct, frozen=True):
    """Of output `pipeline`, what is used here."""

    airflow_registry: str
    cluster: str
    group: str


class _Output(msgspec.Struct, frozen=True):
    value: Any


class Cloud:
    """One environment on one subscription."""

    def __init__(self, given: Given, use_case: UseCase, home: Home, programs: Programs) -> None:
        self._given = given
        self._use_case = use_case
        self._home = home
        self._programs = programs
        self._tofu_name = programs.environment.get("TOFU", "tofu")

    def check(self) -> None:
        """Raise ``SmokeError`` before anything is made, where a file or a program is missing."""
        self._given.check()
        path = self._programs.environment["PATH"]
        if missing := [name for name in (self._tofu_name, *_NEEDED) if not shutil.which(name, path=path)]:
            raise SmokeError(f"these programs are not on PATH: {', '.join(missing)}")

    # --- the steps, in their order ---

    def apply(self) -> None:
        """Make the environment; the same call goes on where an earlier one ended."""
        self._programs.run("make", "monitoring")  # alert rules and workbook, which it deploys
        self._tofu("init", f"-backend-config={self._given.backend.resolve()}", "-reconfigure")
        password = {"TF_VAR_database_password": self._home.secret("database-password")}
        self._tofu("apply", "-auto-approve", *self._variables(), into=password)

    def outputs(self) -> None:
        """Keep what the environment says of itself: it has no secret."""
        found = self._tofu("output", "-json")
        self._home.write("outputs.json", found.encode())
        self._home.write("settings.toml", str(self._output("settings")).encode())

    def secrets(self) -> None:
        """What a key keeper and an administrator put into the two vaults."""
        self._keep("approval-key", self._vault("workers_vault"), self._given.approval_key)
        api = {
            "conn_type": "http", "schema": "http", "host": f"{_API}.{self._namespace}.svc", "port": 8080,
            "login": TRAINER, "password": self._home.secret(TRAINER),
        }  # fmt: skip
        path = self._home.write("airflow-api.secret", json.dumps(api).encode(), secret=True)
        self._keep("airflow-api", self._vault("secrets_backend"), path)
        if self._given.dags_connection:
            self._keep("dags-repository", self._vault("secrets_backend"), self._given.dags_connection)

    def clusters(self) -> None:
        """The collector of traces in both clusters; namespace, rights and Secrets of the use case at both targets."""
        configured = settings.read(self._home.folder / "settings.toml").of(self._use_case)
        for target in TARGETS:
            namespace = getattr(configured, target).namespace
            self._sign_in(target)
            self._kubectl(target, "apply", "--kustomize", "monitoring/collector")
            self._apply_manifest(target, json.dumps(self._of_collector()), secret=True)
            rights = self._programs.run("k8s/rbac.sh", self._use_case.slug, target, namespace)
            self._apply_manifest(target, rights)
            self._apply_manifest(target, _listed(self._of_namespace(namespace)), secret=True)

    def data(self) -> None:
        """Upload the training table to where the settings of the environment look for it."""
        table = self._given.data.resolve()
        self._az(
            "rest", "--method", "put", "--resource", DATABRICKS, "--headers", "Content-Type=application/octet-stream",
            "--url", f"{self._workspace}/api/2.0/fs/files{self._data}?overwrite=true", "--body", f"@{table}",
        )  # fmt: skip

    def airflow(self) -> None:
        """Build Airflow's image of this commit, roll it out, and make the two users."""
        commit = self._programs.run("git", "rev-parse", "HEAD").strip()
        self._programs.run("delivery/image.sh", "build", commit)
        self._apply_manifest("production", _listed(self._of_airflow()), secret=True)
        pipeline = self._pipeline
        into = {
            "REGISTRY": pipeline.airflow_registry, "CLUSTER": pipeline.cluster, "GROUP": pipeline.group,
            "REPOSITORY": self._given.repository, "AIRFLOW_VALUES": str(self._output("airflow_values")),
        }  # fmt: skip
        self._programs.run("delivery/deliver.sh", commit, into=into)
        for user in (TRAINER, APPROVER):
            # The password by standard input: arguments are in the process list, and in the cluster's audit log.
            create = (
                f"read -r password; airflow users create --role Admin --username {user} --firstname smoke "
                f'--lastname smoke --email {user}@example.com --password "$password"'
            )
            self._kubectl(
                "production", "--namespace", self._namespace, "exec", "--stdin", f"deployment/{_API}", "--", "sh", "-c",
                create, given=f"{self._home.secret(user)}\n",
            )  # fmt: skip

    @contextmanager
    def place(self) -> Iterator[Place]:
        """The cluster's Airflow, through a port of this machine that is open as long as it is used."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._sign_in("production")
        # Again and again: kubectl ends when one connection is lost.
        forward = self._programs.start(
            "sh", "-c", 'while :; do "$@"; sleep 1; done', "forward",
            "kubectl", "--kubeconfig", str(self._kubeconfig("production")), "--namespace", self._namespace,
            "port-forward", f"service/{_API}", f"{port}:8080",
        )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            trainer, approver = self._users(url)
            self._await(trainer)
            yield Place(
                where="in the cloud", airflow=trainer, approver=approver, data=self._data,
                export_seconds=self._export_seconds, poll_seconds=self._poll_seconds,
            )  # fmt: skip
        finally:
            stop(forward, patience=5)

    def take_down(self) -> None:
        """Destroy the environment with everything in it; a few times, for a resource may still be busy."""
        self._programs.allow(_REMOVAL_SECONDS)
        for number in range(_REMOVALS, 0, -1):
            try:
                self._tofu("init", f"-backend-config={self._given.backend.resolve()}", "-reconfigure")
                self._tofu("destroy", "-auto-approve", *self._variables())
                return
            except SmokeError:
                if number == 1:
                    raise

    # --- what differs in a dry run ---

    _export_seconds = EXPORT_SECONDS
    _poll_seconds = 5.0

    def _users(self, url: str) -> tuple[Airflow, Airflow]:
        """Who trains, and who approves."""
        trainer, approver = (Airflow(url, user, self._home.secret(user)) for user in (TRAINER, APPROVER))
        return trainer, approver

    # --- how ---

    def _variables(self) -> list[str]:
        """Of `apply` and `destroy`: the person's file, always the small environment, and our own approver."""
        approvers = json.dumps([APPROVER])
        return [f"-var-file={self._given.variables.resolve()}", "-var=environment=small", f"-var=approvers={approvers}"]

    def _tofu(self, command: str, *arguments: str, into: dict[str, str] | None = None) -> str:
        asks = [] if command == "output" else ["-input=false"]
        return self._programs.run(self._tofu_name, "-chdir=infrastructure", command, *asks, *arguments, into=into)

    def _az(self, *arguments: str, secret: bool = False) -> str:
        return self._programs.run("az", *arguments, "--only-show-errors", secret=secret)

    def _kubectl(self, target: str, *arguments: str, given: str = "", secret: bool = False) -> str:
        kubeconfig = str(self._kubeconfig(target))
        return self._programs.run("kubectl", "--kubeconfig", kubeconfig, *arguments, given=given, secret=secret)

    def _apply_manifest(self, target: str, manifest: str, *, secret: bool = False) -> None:
        self._kubectl(target, "apply", "--filename", "-", given=manifest, secret=secret)

    def _keep(self, name: str, vault: str, file: Path) -> None:
        """Put a connection into a vault; both are prefixed as Airflow's backend looks for them."""
        self._az(
            "keyvault", "secret", "set", "--vault-name", vault, "--name", f"airflow-connections-{name}",
            "--file", str(file.resolve()), "--output", "none",
        )  # fmt: skip

    def _sign_in(self, target: str) -> None:
        """A kubeconfig of one cluster, in our folder."""
        kubeconfig = self._kubeconfig(target)
        self._az(
            "aks", "get-credentials", "--resource-group", self._pipeline.group, "--name", self._cluster(target),
            "--file", str(kubeconfig), "--overwrite-existing",
        )  # fmt: skip
        self._programs.run(
            "kubelogin", "convert-kubeconfig", "--login", "azurecli", into={"KUBECONFIG": str(kubeconfig)}
        )

    def _kubeconfig(self, target: str) -> Path:
        return (self._home.folder / f"{target}.kubeconfig").resolve()

    def _cluster(self, target: str) -> str:
        return self._pipeline.cluster.removesuffix("production") + target

    def _of_namespace(self, namespace: str) -> list[dict[str, Any]]:
        """Airflow's rights there, and the Secrets of servers and verification."""
        users: dict[str, str] = self._output("cluster_users")
        bindings = [
            {
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": who, "namespace": namespace},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "airflow"},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
            }
            for who, user in users.items()
        ]  # fmt: skip
        key = self._home.secret(f"api-key-{namespace}")
        keys = json.dumps({"release": hashlib.sha256(key.encode()).hexdigest()})
        certificate, private = self._certificate()
        return [
            *bindings,
            _secret(namespace, "scoring-client-key", {"api-key": key}),
            _secret(namespace, "scoring-api-keys", {"api-keys.json": keys}),
            _secret(namespace, "scoring-tls", {"tls.crt": certificate, "tls.key": private}, "kubernetes.io/tls"),
        ]

    def _kept(self, name: str) -> str:
        """A secret of the vault, as `apply` has put it there."""
        vault = self._vault("secrets_backend")
        show = ("keyvault", "secret", "show", "--vault-name", vault, "--name", name, "--query", "value")
        return self._az(*show, "--output", "tsv", secret=True).strip()

    def _of_collector(self) -> dict[str, Any]:
        """The Secret by which the collector of traces reaches Application Insights."""
        return _secret("lifecycle-traces", _INSIGHTS, {"connection-string": self._kept(_INSIGHTS)})

    def _of_airflow(self) -> list[dict[str, Any]]:
        """The namespace, and the Secrets that the chart's values name."""
        database = self._kept("airflow-database")
        fernet = base64.urlsafe_b64encode(hashlib.sha256(self._home.secret("fernet").encode()).digest()).decode()
        texts = {
            "airflow-database": {"connection": database},
            "airflow-fernet-key": {"fernet-key": fernet},
            "airflow-api-secret-key": {"api-secret-key": self._home.secret("api-secret-key")},
            "airflow-jwt-secret": {"jwt-secret": self._home.secret("jwt-secret")},
        }
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._namespace}}
        return [namespace, *(_secret(self._namespace, name, values) for name, values in texts.items())]

    def _certificate(self) -> tuple[str, str]:
        """Certificate and key of the Ingress, for two days and this run alone."""
        certificate, private = self._home.folder / "tls.crt.secret", self._home.folder / "tls.key.secret"
        if not certificate.exists():
            self._programs.run(
                "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=smoke",
                "-keyout", str(private.resolve()), "-out", str(certificate.resolve()),
            )  # fmt: skip
        return certificate.read_text(), private.read_text()

    def _await(self, airflow: Airflow) -> None:
        """Wait until Airflow's scheduler is healthy."""
        deadline, last = time.monotonic() + _READY_SECONDS, "no answer"
        while time.monotonic() < deadline:
            with suppress(AirflowError):
                last = str(airflow.get("/monitor/health")["scheduler"]["status"])
                if last == "healthy":
                    return
            time.sleep(1)
        raise SmokeError(f"Airflow's scheduler is not healthy after {_READY_SECONDS:g} s: {last}")

    def _output(self, name: str) -> Any:
        content = (self._home.folder / "outputs.json").read_bytes()
        return msgspec.json.decode(content, type=dict[str, _Output])[name].value

    @property
    def _pipeline(self) -> _Pipeline:
        return msgspec.convert(self._output("pipeline"), _Pipeline)

    @property
    def _namespace(self) -> str:
        return str(self._output("airflow")["namespace"])

    def _vault(self, output: str) -> str:
        """The name of a vault, of an output that holds its address."""
        found = re.search(r"https://([\w-]+)\.", str(self._output(output)))
        if not found:
            raise SmokeError(f"output {output} of infrastructure/ names no vault: {self._output(output)}")
        return found[1]

    @property
    def _workspace(self) -> str:
        return settings.read(self._home.folder / "settings.toml").mlflow_url.removesuffix("/ml")

    @property
    def _data(self) -> str:
        """Where the environment's settings have the training table, as a job reaches it."""
        return settings.read(self._home.folder / "settings.toml").of(self._use_case).data


def _secret(namespace: str, name: str, values: dict[str, str], kind: str = "Opaque") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "stringData": values}


def _listed(items: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
