"""``make demo``: from data to production, with a person's approval in the middle.

It does by Airflow's public REST API what a person does in the browser. Run again after it was killed, it
goes on with the runs that are still under way.
"""

import fcntl
import json
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import requests
from rich.console import Console
from rich.markup import escape

from embedded import stack as stacks
from embedded.airflow_client import Airflow, AirflowError, Json
from embedded.demo import data as demo_data
from embedded.demo.follow import Failure, Follower
from embedded.demo.prompt import ask
from embedded.demo.scoring import Scoring, ScoringError
from embedded.demo.view import timing_table
from embedded.environment import SLOTS, Stack
from embedded.preflight import PreflightError
from embedded.stack import StackError

TRAIN, RELEASE = "attrition_train", "attrition_release"
GATE = "await_approval"
_DAGS_SECONDS = 240.0
_ASSET_SECONDS = 60.0


class DemoError(RuntimeError):
    """Raised when the demo cannot go on; the message says what to do."""


_TOLD = (AirflowError, DemoError, demo_data.DataFileError, PreflightError, ScoringError, StackError,
         requests.RequestException)  # fmt: skip
"""What is told in its own words; anything else is a fault of ours and shows where."""


class Demo:
    """One walk from data to production."""

    def __init__(self, stack: Stack, *, data: str | None, approve: str | None, keep: bool) -> None:
        self._stack = stack
        self._data = data
        self._approve = approve
        self._decision = None if approve is None else approve == "yes"
        self._keep = keep
        self._console = Console(highlight=False)
        self._tested = False
        self._began = datetime.now(UTC)
        self._stages: list[tuple[str, float]] = []
        secrets_ = stack.credentials
        self._airflow = Airflow(stack.airflow_url, secrets_.airflow_user, secrets_.airflow_password)
        self._follower = Follower(self._airflow, self._console)
        self._scoring = {slot: Scoring(stack.scoring_url(slot), secrets_.api_keys[slot]) for slot in SLOTS}

    def run(self) -> int:
        """Exit code: 0 when production answers with what was approved, or was left alone after a no."""
        began = time.monotonic()
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with self._alone():
                code = self._walk()
                self._print_times(time.monotonic() - began)
        except (KeyboardInterrupt, EOFError):
            self._console.print("\nno longer watching; run `make demo` again to go on, `make down` to stop all")
            code = 130
        except _TOLD as error:
            self._console.print(f"[bold red]The demo failed.[/] {escape(str(error))}", soft_wrap=True)
            code = 1
        if not self._keep:
            stacks.down(self._stack, self._console.print)
        return code

    @contextmanager
    def _alone(self) -> Iterator[None]:
        path = self._stack.home / "run" / "demo.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DemoError("another demo is running on this stack: let it finish, or stop it") from None
            yield

    def _walk(self) -> int:
        if self._approve is None and not sys.stdin.isatty():
            raise DemoError("nobody can type an answer here: give APPROVE=yes or APPROVE=no")
        data = self._prepare_data()
        self._start_stack()
        before = self._scoring["production"].version()
        self._say(f"production answers with version {before}" if before else "production runs nothing yet")
        release_run = self._active(RELEASE)
        if release_run:
            self._say(f"going on with release {release_run}, which an earlier demo left under way")
        else:
            release_run = self._train(data)
        return self._release(release_run, before)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._stages.append((name, time.monotonic() - began))

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def _prepare_data(self) -> Path:
        if self._data:
            return demo_data.given(self._data)
        if not self._stack.data.exists():
            with self._stage("generate data"):
                self._say("generating synthetic employees (DATA=path/to.csv takes yours)")
                demo_data.generate(self._stack)
        return self._stack.data

    def _start_stack(self) -> None:
        with self._stage("start the stack"):
            if stacks.is_held(self._stack):
                self._say("the stack is up already")
            stacks.up_detached(self._stack, self._say)
            user = self._stack.credentials
            self._say(f"Airflow: {self._stack.airflow_url}  sign in as {user.airflow_user} / {user.airflow_password}")
            self._say(f"MLflow:  {self._stack.mlflow_url}")
        with self._stage("Airflow reads the DAGs"):
            self._await_dags()

    def _await_dags(self) -> None:
        deadline = time.monotonic() + _DAGS_SECONDS
        for dag_id in (TRAIN, RELEASE):
            while True:
                try:
                    self._airflow.patch(f"/dags/{dag_id}", {"is_paused": False})
                    break
                except AirflowError as error:
                    if broken := self._airflow.get("/importErrors")["import_errors"]:
                        trace = broken[0]["stack_trace"][-2000:]
                        raise DemoError(f"{broken[0]['filename']} cannot be imported:\n{trace}") from error
                    if time.monotonic() > deadline:
                        log = stacks.log_file(self._stack, "airflow-dag-processor")
                        raise DemoError(f"Airflow does not find the DAG {dag_id}: see {log}") from error
                    time.sleep(0.5)

    def _active(self, dag_id: str) -> str | None:
        """A run that is under way, the oldest first."""
        active = [run for run in self._airflow.runs(dag_id, limit=20) if run["state"] in ("running", "queued")]
        return str(active[-1]["dag_run_id"]) if active else None

    def _train(self, data: Path) -> str:
        """Train and register; returns the run of the release that follows."""
        run_id = self._active(TRAIN) or self._unreleased()
        if run_id:
            self._say(f"going on with training run {run_id}, which an earlier demo started")
        else:
            run_id = f"demo__{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}-{secrets.token_hex(2)}"
            self._airflow.trigger(TRAIN, run_id, {"data": str(data)})
        self._say(f"training:   {self._airflow.link(TRAIN, run_id)}")
        self._say(f"experiment: {self._stack.mlflow_url}/#/experiments")
        if self._follower.wait(TRAIN, run_id) == "failed":
            raise DemoError(self._explain(TRAIN, run_id))
        announced = self._follower.tasks[TRAIN, "announce_model_version"]
        if announced.state == "skipped":
            note = self._airflow.run(TRAIN, run_id)["note"] or "see the log of announce_model_version"
            raise DemoError(
                f"the new model did not pass its evaluation, so nothing was registered or deployed.\n{note}"
            )
        return self._release_run(run_id)

    def _unreleased(self) -> str | None:
        """The newest training run, where it has registered a version whose release is still to begin."""
        for run in self._airflow.runs(TRAIN, state="success", limit=1):
            run_id = str(run["dag_run_id"])
            if self._events(run_id) and not self._releases(run_id):
                return run_id
        return None

    def _release_run(self, train_run: str) -> str:
        """The release that the asset's update started."""
        deadline = time.monotonic() + _ASSET_SECONDS
        while time.monotonic() < deadline:
            if started := self._releases(train_run):
                return started[0]
            time.sleep(0.5)
        raise DemoError(f"no release was started by the new model version within {_ASSET_SECONDS:g} s: "
                        f"see {self._airflow.url}/assets and start {RELEASE} by hand")  # fmt: skip

    def _events(self, train_run: str) -> list[Json]:
        """Updates of assets by a training run."""
        answer = self._airflow.get("/assets/events", source_dag_id=TRAIN, source_run_id=train_run, limit=10)
        return list(answer["asset_events"])

    def _releases(self, train_run: str) -> list[str]:
        started = [run for event in self._events(train_run) for run in event["created_dagruns"]]
        return [str(run["run_id"]) for run in started if run["dag_id"] == RELEASE]

    def _release(self, run_id: str, before: str | None) -> int:
        self._say(f"release:    {self._airflow.link(RELEASE, run_id)}")
        while (state := self._follower.wait(RELEASE, run_id, question=GATE)) == "awaiting_input":
            self._answer(run_id)
        if state == "failed":
            raise DemoError(self._explain(RELEASE, run_id))
        return self._conclude(run_id, before)

    def _answer(self, run_id: str) -> None:
        """Answer the gate, or see it answered in Airflow; a gate that asks again gets the same answer."""
        version = self._airflow.result(RELEASE, run_id, "resolve_candidate")["version"]
        if not self._tested:
            self._post_sample("staging")
            self._tested = True
        self._say(f"approval:   {self._airflow.link(RELEASE, run_id, GATE)}/required_actions")
        comment = "answered in the terminal" if self._approve is None else f"answered by APPROVE={self._approve}"
        if self._decision is None:
            with self._stage("your decision"):
                self._decision = ask(
                    f"Approve version {version} for production? [y/N] ",
                    lambda: self._follower.asks(RELEASE, run_id, GATE),
                )
        if self._decision is None:
            return self._say("answered in Airflow")
        self._airflow.answer(RELEASE, run_id, GATE, "Approve" if self._decision else "Reject", comment)
        return self._say(f"version {version}: {'yes' if self._decision else 'no'}, {comment}")

    def _conclude(self, run_id: str, before: str | None) -> int:
        """Compare production with the decision that was taken."""
        question = self._airflow.question(RELEASE, run_id, GATE)
        approved = question["chosen_options"] == ["Approve"]
        who = (question["responded_by_user"] or {}).get("name", "nobody")
        version = str(self._airflow.result(RELEASE, run_id, "resolve_candidate")["version"])
        now = self._scoring["production"].version()
        expected = version if approved else before
        self._say(f"version {version} was {'approved' if approved else 'rejected'} by {who}")
        if now:
            self._post_sample("production")
        if now != expected:
            raise DemoError(f"production answers with version {now}, expected was {expected}: "
                            f"see {self._airflow.link(RELEASE, run_id)}")  # fmt: skip
        if self._decision not in (None, approved):
            raise DemoError(f"the answer given here was another, but {who} decided in Airflow")
        outcome = f"answers with version {now}" if approved else f"was left untouched ({now or 'it runs nothing'})"
        self._console.print(f"[bold green]Done.[/] Production {outcome}.")
        return 0

    def _post_sample(self, slot: str) -> None:
        scoring = self._scoring[slot]
        records = scoring.sample()
        answer = scoring.predict(records)
        record_file = self._stack.home / "record.json"
        record_file.write_text(json.dumps(records, indent=1))
        self._console.rule(f"a sample record, answered by {slot}", align="left")
        shown = ("classifier__predictions", "outliers__is_outlier", "outliers__score", "model", "request_id")
        self._console.print_json(json.dumps({key: answer[key] for key in shown}))
        # The key is named, not shown: terminals are recorded.
        self._say(f'  curl -H "X-API-Key: $(make -s api-key SLOT={slot})" -H "Content-Type: application/json" '
                  f"-d @{record_file} {scoring.url}/predict")  # fmt: skip

    def _explain(self, dag_id: str, run_id: str) -> str:
        """Why a run failed, and what to do."""
        failures = self._follower.failures(dag_id, run_id)
        if not failures:
            return f"run {run_id} of {dag_id} failed, but none of its tasks: see {self._airflow.link(dag_id, run_id)}"
        return "\n".join(_told(failure) for failure in failures)

    def _print_times(self, total: float) -> None:
        """Where the time went; Airflow's own share is what passed between the tasks."""
        # A demo that goes on where an earlier one was has no time of that one.
        new = [task for task in self._follower.tasks.values() if task.started and task.started >= self._began]
        ran = [task for task in new if task.state != "skipped" and task.task_id != GATE]
        tasks = [(f"{task.dag_id}.{task.task_id}", task.seconds or 0.0) for task in ran]
        between = total - sum(seconds for _, seconds in [*self._stages, *tasks])
        stages = [*self._stages, *tasks, ("Airflow, between the tasks", max(0.0, between))]
        self._console.print(timing_table(stages, total))


def _told(failure: Failure) -> str:
    lines = "\n".join(f"  {line}" for line in failure.log_lines)
    return (
        f"Task {failure.dag_id}.{failure.task_id} failed. The last lines of its log:\n{lines}\n"
        f"The whole log: {failure.link}\n"
        "Mend the cause; then clear the task there, or run `make demo` again. `make status` shows the stack."
    )
