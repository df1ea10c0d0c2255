"""A stack that is up, and one of its use cases as its owner works with it."""

import contextlib
import io
import os
import re
import secrets
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests
from rich.console import Console

from embedded.addresses import Addresses
from embedded.airflow_client import AirflowError
from embedded.demo.follow import Follower
from embedded.demo.runs import Runs
from embedded.demo.scoring import Scoring
from embedded.environment import TARGETS, Stack
from embedded.processes import leftovers
from lifecycle.task_ids import AWAIT_APPROVAL
from tests.support.every_use_case import OWN
from tests.support.machine import eventually, own_ports

ROOT = Path(__file__).resolve().parents[2]
TICK = (datetime.now(UTC) - timedelta(hours=2)).date()
"""The day on which the nightly DAGs were last due, at 02:00."""


@contextlib.contextmanager
def running_stack(folder):
    """A stack that is up, with a home and ports of its own, the tests' use cases, and three trials for a training."""
    settings = (ROOT / "config" / "embedded.toml").read_text()
    (folder / "settings.toml").write_text(settings.replace("[every_use_case]\n", "[every_use_case]\ntrials = 3\n"))
    own = {
        "LIFECYCLE_HOME": str(folder / "home"),
        "LIFECYCLE_SETTINGS": str(folder / "settings.toml"),
        "USE_CASES": str(OWN),
    }
    stack = Stack.read(dict(os.environ) | own_ports() | own)
    try:
        command(stack, "up", "--detach")
        yield stack
    finally:
        command(stack, "down")
        assert leftovers(stack.home) == []


def command(stack, *arguments):
    """Run ``python -m embedded`` on this stack."""
    done = subprocess.run(
        [sys.executable, "-m", "embedded", *arguments],
        cwd=ROOT, env=dict(stack.shell), capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


class Desk:
    """One use case of a stack, as its owner works with it: by Airflow's API and the servers' addresses."""

    def __init__(self, stack, airflow, use_case):
        self.stack, self.airflow, self.use_case = stack, airflow, use_case
        self.runs = Runs(airflow, use_case, stack.home / "run")
        for dag_id in (use_case.train_dag, use_case.release_dag):
            unpause(airflow, dag_id)

    def train(self, rows, **params):
        """Start a training run on these rows; returns it."""
        data = self.stack.data(self.use_case.name)
        data.parent.mkdir(parents=True, exist_ok=True)
        rows.to_csv(data, index=False)
        return self.runs.train(data, **params)

    def release(self, train_run):
        """Take what a training run registers to production, with a yes at the gate; returns the version."""
        run_id = self.offer(train_run)
        self.airflow.answer(self.use_case.release_dag, run_id, AWAIT_APPROVAL, "Approve", "looked at")
        assert self.follow(self.use_case.release_dag, run_id) == "success"
        return self.runs.version(train_run)

    def offer(self, train_run):
        """Wait until what a training run registers is offered at the gate; returns the release."""
        assert self.follow(self.use_case.train_dag, train_run) == "success"
        announced = self.airflow.task(self.use_case.train_dag, train_run, "announce_model_version")
        assert announced["state"] == "success", self.airflow.run(self.use_case.train_dag, train_run)["note"]
        run_id = self.runs.await_release(train_run)
        assert self.follow(self.use_case.release_dag, run_id, question=AWAIT_APPROVAL) == "awaiting_input"
        return run_id

    def roll_back(self, reason):
        self.airflow.trigger(self.use_case.rollback_dag, "back", {"reason": reason})
        assert self.follow(self.use_case.rollback_dag, "back") == "success"

    def score(self, table, day):
        """Score a table in batch with the champion; returns what the run announced, and its asset event's extra."""
        dag_id = self.use_case.score_dag
        unpause(self.airflow, dag_id)
        self.airflow.trigger(dag_id, "batch", {"input": str(table), "date": day.isoformat()})
        assert self.follow(dag_id, "batch") == "success"
        (event,) = self.airflow.listed("/assets/events", "asset_events", source_dag_id=dag_id)
        return self.airflow.result(dag_id, "batch", "announce_scores"), event["extra"]

    def forecast(self, day):
        """Write the forecasts of a date; returns the run's note."""
        dag_id, run_id = self.use_case.score_dag, f"forecast_{secrets.token_hex(4)}"
        self.airflow.trigger(dag_id, run_id, {"date": day.isoformat()})
        assert self.follow(dag_id, run_id) == "success"
        return self.airflow.run(dag_id, run_id)["note"]

    def backfill(self, day):
        """Let Airflow make the batch run of a past date that its schedule names; returns the run."""
        dag_id = self.use_case.score_dag
        span = {"from_date": f"{day}T00:00:00Z", "to_date": f"{day}T23:59:59Z"}
        self.airflow.post("/backfills", {"dag_id": dag_id, "max_active_runs": 1, **span})
        assert eventually(lambda: self.airflow.runs(dag_id, run_type="backfill"), 60)
        (run,) = self.airflow.runs(dag_id, run_type="backfill")
        assert self.follow(dag_id, run["dag_run_id"]) == "success"
        return run

    def follow(self, dag_id, run_id, **more):
        follower = Follower(self.airflow, Console(file=io.StringIO()))
        state = follower.wait(dag_id, run_id, **more)
        assert state != "failed", [failure.log_lines for failure in follower.failures(dag_id, run_id)]
        return state

    def server(self, target):
        url = Addresses(self.stack).url(self.use_case.name, target)
        return Scoring(url, self.stack.credentials.api_keys[target])

    def answers(self):
        """By target, name and version of the model that answers the use case's own sample."""
        servers = {target: self.server(target) for target in TARGETS}
        said = {target: server.predict(server.sample())["model"] for target, server in servers.items()}
        return {target: (model["name"], model["version"]) for target, model in said.items()}


def unpause(airflow, dag_id):
    def found():
        try:
            return airflow.patch(f"/dags/{dag_id}", {"is_paused": False})
        except AirflowError:
            return None

    assert eventually(found, 240), f"Airflow does not find {dag_id}"


def read_release_page(stack):
    """The text of the page Releases, by use case."""
    user = {"username": stack.credentials.airflow_user, "password": stack.credentials.airflow_password}
    token = requests.post(f"{stack.airflow_url}/auth/token", json=user, timeout=60).json()["access_token"]
    page = requests.get(
        f"{stack.airflow_url}/lifecycle/releases", headers={"Authorization": f"Bearer {token}"}, timeout=60
    )
    assert page.status_code == 200, page.text
    _, *parts = re.split(r'<article class="use-case" id="(\w+)"', page.text)
    texts = [" ".join(re.sub("<[^>]+>", " ", part).split()) for part in parts[1::2]]
    return dict(zip(parts[::2], texts, strict=True))


def aliases(client, use_case):
    return {alias: str(version) for alias, version in client.get_registered_model(use_case.model_name).aliases.items()}
