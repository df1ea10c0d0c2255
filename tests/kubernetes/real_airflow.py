"""A real Airflow and a real MLflow for the cluster tests, from the embedded stack's own parts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import requests

from embedded import preflight, processes
from embedded.environment import ROOT, Stack
from embedded.parts import Part, parts
from tests.kubernetes import cluster
from training.registry import tags
from training.signing import bundle as bundle_signature
from training.signing.keys import SigningKey, open_key

ADMIN, STRANGER = "admin", "mallory"
MODEL = cluster.USE_CASE.model_name
RELEASE = cluster.USE_CASE.release_dag
_METRIC = {"value": 0.85, "low": 0.8, "high": 0.9}
_EVALUATION = {
    "titles": {"roc_auc": "ROC AUC"},
    "plain": {"metrics": {"roc_auc": _METRIC}, "comparison": {}},
    "challenger": {"roc_auc": _METRIC},
    "champion": None,
    "comparison": {},
    "thresholds": [],
    "data": {"digest": "d", "rows": 600},
    "verdict": "passed",
    "reasons": [],
}
_DONE = ("success", "failed")


class Airflow:
    """Scheduler, triggerer, dag processor and API server, and what the tests do with them."""

    def __init__(self, home: Path, ports: dict[str, int], kubeconfigs: dict[str, Path]) -> None:
        variables = {f"LIFECYCLE_{name.upper()}_PORT": str(port) for name, port in ports.items()}
        variables |= {"LIFECYCLE_HOME": str(home), "LIFECYCLE_SETTINGS": str(Path(__file__).with_name("settings.toml"))}
        self.stack = Stack.read({**os.environ, **variables})
        preflight.prepare_folders(self.stack)
        secrets = self.stack.credentials
        self._passwords = {secrets.airflow_user: secrets.airflow_password, STRANGER: "a password"}
        (home / "airflow" / "passwords.json").write_text(json.dumps(self._passwords))
        self._overrides = {
            f"AIRFLOW_CONN_SCORING_{target.upper()}": json.dumps(
                {"conn_type": "kubernetes", "extra": {"kube_config_path": str(path)}}
            )
            for target, path in kubeconfigs.items()
        }
        self._overrides["AIRFLOW_CONN_REGISTRY"] = json.dumps({"conn_type": "docker"})
        self._overrides["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] = f"{secrets.airflow_user}:admin,{STRANGER}:op"
        self._parts = {part.name: part for part in parts(self.stack) if part.name in ("airflow", "mlflow")}
        self._tokens: dict[str, str] = {}
        self._started: list[subprocess.Popen[bytes]] = []

    # --- processes ---

    def start(self, *names: str) -> None:
        """Start parts (``airflow``, ``mlflow``; all if none is named) and wait until they answer."""
        chosen = [self._parts[name] for name in names or self._parts]
        began = time.time()
        for part in chosen:
            environment = {**part.env, **(self._overrides if part.name == "airflow" else {})}
            environment["LIFECYCLE_PART"] = part.name
            log = self.stack.logs / f"{part.name}.log"
            self._started.append(processes.start(part.argv, env=environment, log=log, cwd=ROOT))
        for part in chosen:
            self._await(part, began)

    def _await(self, part: Part, began: float) -> None:
        deadline = time.monotonic() + 240
        for check in part.checks:
            while not check.ready(began):
                assert time.monotonic() < deadline, (self.stack.logs / f"{part.name}.log").read_text()[-3000:]
                time.sleep(0.5)

    def kill(self, part: str = "airflow") -> None:
        """End all processes of a part at once, as a lost machine would."""
        for process in processes.leftovers(self.stack.home, part):
            process.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        processes.stop_leftovers(self.stack.home)
        for process in self._started:
            process.wait()

    # --- signatures ---

    def signing_key(self, name: str) -> SigningKey:
        """The key that signs ``bundle`` or ``image``, made with the stack."""
        assert self.stack.signing_keys
        return open_key(str(self.stack.signing_key_files[name].with_suffix(".pem")))

    def sign(self, version: str) -> str:
        """Sign a version by hand, as ``make sign`` does; what it says."""
        command = [sys.executable, "-m", "lifecycle.signing", "sign", cluster.USE_CASE.name, version]
        environment = {**self.stack.airflow_environment(), **self._overrides}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # --- the model registry ---

    def register(self, bundle: Path) -> str:
        """Register a bundle as a model version, as the training job does; returns the version."""
        client = mlflow.MlflowClient(self.stack.mlflow_url)
        experiment = client.get_experiment_by_name("tests")
        experiment_id = experiment.experiment_id if experiment else client.create_experiment("tests")
        run = client.create_run(experiment_id)
        run_id = run.info.run_id
        client.log_artifacts(run_id, str(bundle), "model/artifacts/bundle")
        client.log_text(run_id, json.dumps(_EVALUATION), tags.EVALUATION_FILE)
        signature = bundle_signature.sign(bundle, bundle_signature.subject(MODEL, run_id), self.signing_key("bundle"))
        client.log_text(run_id, signature, tags.BUNDLE_SIGNATURE_FILE)
        client.set_terminated(run_id)
        if not client.search_registered_models(f"name = '{MODEL}'"):
            client.create_registered_model(MODEL)
        version = client.create_model_version(MODEL, f"{run.info.artifact_uri}/model", run_id).version
        client.set_model_version_tag(MODEL, version, tags.DATA_DIGEST, "d")
        client.set_registered_model_alias(MODEL, tags.CHALLENGER, version)
        return str(version)

    def evidence(self, version: str) -> Any:
        """The evidence document that a version's tags name."""
        found = self.model_version(version)
        mlflow.set_tracking_uri(self.stack.mlflow_url)
        return mlflow.artifacts.load_dict(f"runs:/{found.run_id}/{found.tags[tags.EVIDENCE]}")

    def aliases(self) -> dict[str, str]:
        """Alias to version."""
        client = mlflow.MlflowClient(self.stack.mlflow_url)
        return {alias: str(version) for alias, version in client.get_registered_model(MODEL).aliases.items()}

    def model_version(self, version: str) -> Any:
        """MLflow's own record of a version."""
        return mlflow.MlflowClient(self.stack.mlflow_url).get_model_version(MODEL, version)

    def version_tags(self, version: str) -> dict[str, str]:
        return dict(self.model_version(version).tags)

    # --- Airflow's REST API ---

    def call(self, method: str, path: str, user: str = ADMIN, **arguments: Any) -> requests.Response:
        """One request as a user; the caller looks at the status."""
        headers = {"Authorization": f"Bearer {self._token(user)}"}
        url = f"{self.stack.airflow_url}/api/v2{path}"
        return requests.request(method, url, headers=headers, timeout=60, **arguments)

    def _token(self, user: str) -> str:
        if user not in self._tokens:
            login = {"username": user, "password": self._passwords[user]}
            answer = requests.post(f"{self.stack.airflow_url}/auth/token", json=login, timeout=60)
            answer.raise_for_status()
            self._tokens[user] = answer.json()["access_token"]
        return self._tokens[user]

    def trigger(self, dag_id: str, **params: Any) -> str:
        """Start a run; returns its id."""
        self.call("PATCH", f"/dags/{dag_id}", json={"is_paused": False}).raise_for_status()
        answer = self.call("POST", f"/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": params})
        assert answer.ok, answer.text
        return str(answer.json()["dag_run_id"])

    def states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Task to state."""
        answer = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")
        answer.raise_for_status()
        return {task["task_id"]: task["state"] for task in answer.json()["task_instances"]}

    def await_task(self, run_id: str, task: str, *states: str, dag_id: str = RELEASE, timeout: float = 300) -> str:
        """Wait until a task is in one of the states; fails at once when it ends in another."""
        deadline = time.monotonic() + timeout
        while True:
            state = self.states(dag_id, run_id).get(task)
            if state in states:
                return str(state)
            run = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}").json()["state"]
            assert run not in _DONE, f"the run is over ({run}), {task} is {state}: {self.states(dag_id, run_id)}"
            assert time.monotonic() < deadline, f"{task} is {state} after {timeout:g} s: {self.states(dag_id, run_id)}"
            time.sleep(1)

    def await_run(self, run_id: str, dag_id: str = RELEASE, timeout: float = 400) -> str:
        """Wait for the end of a run; its state."""
        deadline = time.monotonic() + timeout
        while True:
            state = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}").json()["state"]
            if state in _DONE:
                return str(state)
            assert time.monotonic() < deadline, f"after {timeout:g} s: {self.states(dag_id, run_id)}"
            time.sleep(1)

    def answer(self, run_id: str, option: str, comment: str, user: str = ADMIN) -> requests.Response:
        """Answer the gate of a release."""
        path = f"/dags/{RELEASE}/dagRuns/{run_id}/taskInstances/await_approval/-1/hitlDetails"
        body = {"chosen_options": [option], "params_input": {"comment": comment}}
        return self.call("PATCH", path, user, json=body)

    def await_question(self, run_id: str, timeout: float = 120) -> None:
        """Wait until the gate asks, also where it has taken an answer for none."""
        path = f"/dags/{RELEASE}/dagRuns/{run_id}/taskInstances/await_approval/-1/hitlDetails"
        deadline = time.monotonic() + timeout
        while self.call("GET", path).json()["response_received"]:
            assert time.monotonic() < deadline, "the gate does not ask again"
            time.sleep(1)

    def decide(self, run_id: str, option: str, comment: str) -> None:
        """Wait for the question and answer it."""
        self.await_task(run_id, "await_approval", "awaiting_input")
        answer = self.answer(run_id, option, comment)
        assert answer.ok, answer.text

    def result(self, run_id: str, task: str, dag_id: str = RELEASE) -> Any:
        """What a task returned."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}/xcomEntries/return_value"
        answer = self.call("GET", path, params={"deserialize": "true"})
        return answer.json()["value"] if answer.ok else None

    def note(self, run_id: str, dag_id: str = RELEASE) -> str:
        """What the run's page says of it."""
        return str(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}").json()["note"])

    def tries(self, run_id: str, task: str, dag_id: str = RELEASE) -> int:
        """How many times a task was tried."""
        return int(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}").json()["try_number"])

    def log(self, run_id: str, task: str, dag_id: str = RELEASE) -> str:
        """The text of a task's tries, newest last."""
        task_path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}"
        tries = self.call("GET", f"{task_path}/tries").json()["task_instances"]
        texts = []
        for number in sorted({found["try_number"] for found in tries}):
            content = self.call("GET", f"{task_path}/logs/{number}").json().get("content", [])
            texts += [json.dumps(line) for line in content]
        return "\n".join(texts)


def new(home: Path, port: Any) -> Airflow:
    """Airflow and MLflow on free ports, with connections to the cluster's two targets."""
    ports = {name: port() for name in ("airflow", "mlflow", "minilake", "staging", "production")}
    kubeconfigs = {target: cluster.airflow_kubeconfig(target, home) for target in cluster.TARGETS}
    return Airflow(home, ports, kubeconfigs)
