"""``make demo``: from data to production, with a person's approval in the middle.

It does by Airflow's public REST API what a person does in the browser. Run again after it was killed, it
goes on with its own runs that are still under way. It touches no run that it did not start.
"""

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import requests
from rich.console import Console

from embedded import stack as stacks
from embedded.addresses import Addresses
from embedded.airflow_client import Airflow, AirflowError
from embedded.demo import data as demo_data
from embedded.demo.follow import Failure, Follower
from embedded.demo.forecasts import ForecastTable
from embedded.demo.prompt import ask
from embedded.demo.runs import RunError, Runs
from embedded.demo.scoring import Scoring, ScoringError
from embedded.demo.trials import Trials
from embedded.demo.view import Span, gate_spans, timing_table
from embedded.environment import ROOT, Stack
from embedded.lines import filled, with_address
from embedded.preflight import PreflightError
from embedded.stack import StackError
from lifecycle.evidence import links
from lifecycle.settings import NO_PLAN
from lifecycle.task_ids import AWAIT_APPROVAL, GATHER_EVIDENCE
from training.search.duration import long_training
from training.use_case import Target, UseCase

_DAGS_SECONDS = 240.0
_OTHERS_FAULTS = "broken_use_cases.py"
"""The DAG file whose import errors are of definitions that do not hold. The demo's own does."""


class DemoError(RuntimeError):
    """Raised when the demo cannot go on; the message says what to do."""


_TOLD = (AirflowError, DemoError, demo_data.DataFileError, PreflightError, RunError, ScoringError, StackError,
         requests.RequestException)  # fmt: skip
"""What is told in its own words; anything else is a fault of ours and shows where."""


class Demo:
    """One walk from data to production."""

    def __init__(
        self,
        stack: Stack,
        use_case: UseCase,
        *,
        data: str | None,
        synthetic: bool,
        approve: str | None,
        keep: bool,
        plan: str | None = None,
        drop: bool = False,
    ) -> None:
        self._stack = stack
        self._use_case = use_case
        self._train_dag, self._release_dag = use_case.train_dag, use_case.release_dag
        self._data = data
        self._plan = plan
        self._table = ForecastTable(use_case, stack.tables(use_case.name)) if use_case.series else None
        self._synthetic = synthetic
        self._approve = approve
        self._decision = None if approve is None else approve == "yes"
        self._keep = keep
        self._drop = drop
        self._console = Console(highlight=False)
        self._tested = False
        self._closing: list[str] = []
        self._began = datetime.now(UTC)
        self._spans: list[Span] = []
        secrets_ = stack.credentials
        self._airflow = Airflow(stack.airflow_url, secrets_.airflow_user, secrets_.airflow_password)
        self._follower = Follower(self._airflow, self._console)
        self._runs = Runs(self._airflow, use_case, stack.home / "run")

    def run(self) -> int:
        """Exit code: 0 when production answers with what was approved, or was left alone after a no."""
        began = time.monotonic()
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with self._alone():
                code = self._walk()
                self._print_times(time.monotonic() - began)
                if self._keep:
                    self._say("\n".join(self._closing))
        except (KeyboardInterrupt, EOFError):
            self._console.print("\nno longer watching; run `make demo` again to go on, `make down` to stop all")
            code = 130
        except _TOLD as error:
            self._console.print("[bold red]The demo failed:[/]")
            self._say(str(error))
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
        if not self._use_case.online and not self._table:
            raise DemoError(
                f"use case {self._use_case.name} has online=False and no series: the demo releases a scoring server, "
                "or forecasts"
            )
        data = self._prepare_data()
        self._start_stack()
        before = self._version()
        name = self._use_case.name
        self._say(
            f"{name} in production {self._does} with version {before}"
            if before
            else f"{name}: nothing is in production yet"
        )
        train_run = self._train(data)
        return self._release(train_run, before)

    def _server(self, target: Target) -> Scoring | None:
        """The use case's scoring server at a target, or ``None`` before its first release."""
        url = Addresses(self._stack).url(self._use_case.name, target)
        return Scoring(url, self._stack.credentials.api_keys[target]) if url else None

    @property
    def _does(self) -> str:
        """What a version does in production."""
        return "forecasts" if self._table else "answers"

    def _version(self) -> str | None:
        """The model version that answers, or forecasts, in production; ``None`` where none does."""
        if self._table:
            return self._table.version()
        server = self._server("production")
        return server.version() if server else None

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        began = datetime.now(UTC)
        yield
        self._spans.append(Span(name, began, datetime.now(UTC)))

    def _say(self, text: str) -> None:
        """Lines that break between words, and never within an address."""
        self._console.print(filled(text, self._console.width), markup=False, soft_wrap=True)

    def _say_link(self, name: str, url: str) -> None:
        """An address, unbroken where a terminal has room for it: on a line of its own, if need be."""
        self._say(with_address(f"{name + ':':<11}", url, self._console.width))

    def _prepare_data(self) -> Path:
        if self._data and self._synthetic:
            raise DemoError("DATA names a file and SYNTHETIC=yes asks for made-up rows: give one of them")
        with self._stage("read the data"):
            path = self._choose_data()
            self._say(f"training data: {path}")
            if told := long_training(demo_data.rows_of(path), self._use_case):
                self._say(told)
        return path

    def _choose_data(self) -> Path:
        if self._data:
            path = demo_data.given(self._data, self._use_case)
            demo_data.check(path, self._use_case)
            return path
        if not self._synthetic and (own := demo_data.own(self._stack, self._use_case)):
            return own
        self._say(f"generating synthetic {self._use_case.entities} (DATA=path/to.csv takes yours)")
        return demo_data.synthetic(self._stack, self._use_case)

    def _start_stack(self) -> None:
        with self._stage("start the stack"):
            if stacks.is_held(self._stack):
                self._check_definitions()
                self._say("the stack is up already")
            stacks.up_detached(self._stack, self._say)
            user = self._stack.credentials
            self._say(f"Airflow: {self._stack.airflow_url}  sign in as {user.airflow_user} / {user.airflow_password}")
            self._say(f"MLflow:  {links.mlflow_home(self._stack.mlflow_url)}")
        with self._stage("Airflow reads the DAGs"):
            self._await_dags()

    def _check_definitions(self) -> None:
        """Whether the processes of a stack that is up find the use case where this one does."""
        folders = str(stacks.read_state(self._stack).get("use_cases", ""))
        known = [(ROOT / folder).resolve() for folder in ("use_cases", *folders.split(os.pathsep)) if folder]
        if self._use_case.folder.parent.resolve() not in known:
            raise DemoError(
                f"the stack is up, but it was started without {self._use_case.folder.parent} in USE_CASES: "
                "run `make down`, then this again"
            )

    def _await_dags(self) -> None:
        deadline = time.monotonic() + _DAGS_SECONDS
        forecasts = (self._use_case.score_dag,) if self._table else ()
        dropped = (self._use_case.arrivals_dag,) if self._drop else ()
        for dag_id in (self._train_dag, self._release_dag, *forecasts, *dropped):
            while True:
                try:
                    self._airflow.patch(f"/dags/{dag_id}", {"is_paused": False})
                    break
                except AirflowError as error:
                    broken = self._airflow.get("/importErrors")["import_errors"]
                    if ours := [fault for fault in broken if Path(fault["filename"]).name != _OTHERS_FAULTS]:
                        trace = ours[0]["stack_trace"][-2000:]
                        raise DemoError(f"{ours[0]['filename']} cannot be imported:\n{trace}") from error
                    if time.monotonic() > deadline:
                        log = stacks.log_file(self._stack, "airflow-dag-processor")
                        raise DemoError(f"Airflow does not find the DAG {dag_id}: see {log}") from error
                    time.sleep(0.5)

    def _train(self, data: Path) -> str:
        """Train and register; returns the training run."""
        run_id = self._runs.under_way(data)
        self._leave_others_alone(run_id)
        if run_id:
            self._say(f"going on with training run {run_id}, which an earlier demo started on this data")
        elif self._drop:
            bronze = self._stack.bronze(self._use_case.name)
            for plan in self._planned().values():
                place = demo_data.lay_plan(self._stack, self._use_case, plan)
                self._say(f"the plan is where the settings name it: {place}")
            with self._stage("from a new file to its run"):
                self._say(f"a copy of {data.name} goes to {bronze}, and starts a training run")
                run_id = self._runs.drop(data, bronze)
        else:
            run_id = self._runs.train(data, **self._planned())
        self._say_link("training", self._airflow.link(self._train_dag, run_id))
        trials = Trials(self._stack.mlflow_url, self._train_dag, run_id)
        if self._follower.wait(self._train_dag, run_id, progress=trials) == "failed":
            raise DemoError(self._explain(self._train_dag, run_id))
        announced = self._follower.tasks[self._train_dag, "announce_model_version"]
        if announced.state == "skipped":
            note = self._airflow.run(self._train_dag, run_id)["note"] or "see the log of announce_model_version"
            raise DemoError(
                f"the new model did not pass its evaluation, so nothing was registered or deployed.\n{note}"
            )
        return run_id

    def _planned(self) -> dict[str, str]:
        """The plan that goes with the data, as the DAGs' param; made-up rows come with their own."""
        if self._table is None:
            return {}
        if self._plan:
            return {"plan": str(demo_data.given(self._plan, self._use_case))}
        return {"plan": NO_PLAN if self._data else str(self._stack.plan(self._use_case.name))}

    def _leave_others_alone(self, train_run: str | None) -> None:
        """Name what others have under way; raises ``DemoError`` where it stands before the demo's own release."""
        for link in self._runs.other_trainings(train_run):
            self._say(f"a training run that this demo did not start is under way, and left alone: {link}")
        strangers = self._runs.strangers(train_run)
        for stranger in strangers:
            self._say(f"{stranger} (left alone)")
        own = self._runs.releases(train_run) if train_run else []
        if strangers and not any(self._runs.is_running(run_id) for run_id in own):
            raise DemoError(
                f"one release of {self._use_case.name} runs at a time, and {strangers[0]}\n"
                "Let it end, with your answer in Airflow where it waits for one; then run `make demo` again."
            )

    def _release(self, train_run: str, before: str | None) -> int:
        run_id = self._runs.await_release(train_run)
        self._leave_others_alone(train_run)
        self._say_link("release", self._airflow.link(self._release_dag, run_id))
        while (state := self._follower.wait(self._release_dag, run_id, question=AWAIT_APPROVAL)) == "awaiting_input":
            self._answer(train_run, run_id)
        if state == "failed":
            raise DemoError(self._explain(self._release_dag, run_id))
        return self._conclude(train_run, run_id, before)

    def _own_version(self, train_run: str, run_id: str) -> str:
        """The version that a release is about; raises ``DemoError`` for one that the demo did not train."""
        version = str(self._airflow.result(self._release_dag, run_id, "resolve_candidate")["version"])
        if version != (own := self._runs.version(train_run)):
            raise DemoError(
                f"release {run_id} offers version {version}, but this demo trained version {own}: it is left alone. "
                f"Answer it in Airflow: {self._airflow.link(self._release_dag, run_id)}"
            )
        return version

    def _answer(self, train_run: str, run_id: str) -> None:
        """Answer the gate, or see it answered in Airflow; a gate that asks again gets the same answer."""
        version = self._own_version(train_run, run_id)
        if not self._tested and not self._table:
            self._post_sample("staging")
            self._tested = True
        self._say_link("approval", links.answer_page(self._stack.airflow_url, self._release_dag, run_id))
        self._console.print(self._airflow.result(self._release_dag, run_id, GATHER_EVIDENCE)["sentence"], markup=False)
        comment = "answered in the terminal" if self._approve is None else f"answered by APPROVE={self._approve}"
        if self._decision is None:
            self._decision = ask(
                f"Approve version {version} of {self._use_case.name} for production? [y/N] ",
                lambda: self._follower.asks(self._release_dag, run_id, AWAIT_APPROVAL),
            )
        if self._decision is None:
            return self._say("answered in Airflow")
        option = "Approve" if self._decision else "Reject"
        self._airflow.answer(self._release_dag, run_id, AWAIT_APPROVAL, option, comment)
        return self._say(f"version {version}: {'yes' if self._decision else 'no'}, {comment}")

    def _conclude(self, train_run: str, run_id: str, before: str | None) -> int:
        """Compare production with the decision that was taken."""
        question = self._airflow.question(self._release_dag, run_id, AWAIT_APPROVAL)
        if gate := self._follower.tasks.get((self._release_dag, AWAIT_APPROVAL)):
            self._spans += gate_spans(gate, question)
        approved = question["chosen_options"] == ["Approve"]
        who = (question["responded_by_user"] or {}).get("name", "nobody")
        version = self._own_version(train_run, run_id)
        if self._table and approved:
            self._forecast()
        expected = version if approved else before
        self._say(f"version {version} was {'approved' if approved else 'rejected'} by {who}")
        with self._stage("ask production"):
            now = self._version()
            if now:
                self._show()
        if now != expected:
            raise DemoError(f"production has version {now}, expected was {expected}: "
                            f"see {self._airflow.link(self._release_dag, run_id)}")  # fmt: skip
        if self._decision not in (None, approved):
            raise DemoError(f"the answer given here was another, but {who} decided in Airflow")
        running = f"it {self._does} with version {now}" if now else "it runs nothing"
        outcome = f"{self._does} with version {now}" if approved else f"was left as it was: {running}"
        self._console.print(f"[bold green]Done.[/] {self._use_case.name} in production {outcome}.")
        self._closing = [
            f"Look at it:  {links.releases_page(self._stack.airflow_url, self._use_case.name)}",
            "Go on:       docs/getting-started.md (score, outcomes, a night, roll back)",
            "Stop it:     make down (make up starts it again; make status says what runs)",
        ]
        return 0

    def _forecast(self) -> None:
        """Let the approved version write its first forecasts, or run beside the one before it."""
        run_id = self._runs.forecast(input=self._runs.data(), **self._planned())
        dag_id = self._use_case.score_dag
        self._say_link("forecasts", self._airflow.link(dag_id, run_id))
        if self._follower.wait(dag_id, run_id) == "failed":
            raise DemoError(self._explain(dag_id, run_id))
        self._say(str(self._airflow.run(dag_id, run_id)["note"] or ""))

    def _show(self) -> None:
        """What production does."""
        if self._table:
            self._console.print(self._table.shown())
        else:
            self._post_sample("production")

    def _post_sample(self, target: Target) -> None:
        if (scoring := self._server(target)) is None:
            raise DemoError(f"{self._use_case.name} has no server in {target}: see `make status`")
        records = scoring.sample()
        answer = scoring.predict(records)
        record_file = self._stack.home / "record.json"
        record_file.write_text(json.dumps(records, indent=1))
        self._console.rule(f"a sample record, answered by {self._use_case.name} in {target}", align="left")
        # Drift of a single record means little.
        self._console.print_json(json.dumps({key: said for key, said in answer.items() if "drift__" not in key}))
        # The key is named, not shown: terminals are recorded.
        self._console.print(
            f'curl -H "X-API-Key: $(make -s api-key TARGET={target})" \\\n'
            f'  -H "Content-Type: application/json" -d @{record_file} \\\n  {scoring.url}/predict',
            markup=False, soft_wrap=True,
        )  # fmt: skip

    def _explain(self, dag_id: str, run_id: str) -> str:
        """Why a run failed, and what to do."""
        failures = self._follower.failures(dag_id, run_id)
        if not failures:
            return f"run {run_id} of {dag_id} failed, but none of its tasks: see {self._airflow.link(dag_id, run_id)}"
        return "\n".join(_told(failure) for failure in failures)

    def _print_times(self, total: float) -> None:
        """Where the time went; Airflow's own share is what passed between the tasks."""
        tasks = [task.span for task in self._follower.tasks.values() if task.task_id != AWAIT_APPROVAL]
        spans = [*self._spans, *(span for span in tasks if span)]
        # A demo that goes on where an earlier one was has no time of that one.
        own = [replace(span, began=max(span.began, self._began)) for span in spans if span.ended > self._began]
        self._console.print(timing_table(sorted(own, key=lambda span: span.began), total))


def _told(failure: Failure) -> str:
    lines = "\n".join(f"  {line}" for line in failure.log_lines)
    return (
        f"Task {failure.dag_id}.{failure.task_id} failed. The last lines of its log:\n{lines}\n"
        f"The whole log: {failure.link}\n"
        "Mend the cause; then clear the task there, or run `make demo` again. `make status` shows the stack."
    )
