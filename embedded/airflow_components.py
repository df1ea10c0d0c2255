"""All components of Airflow from one process that imports once and forks.

``python -m embedded.airflow_components``. Each component would import the same packages for 3 to 5 seconds
of processor time and 130 MiB; forked, they share both. The scheduler's local executor and the dag
processor fork again for every task and every parsed file, so what is imported here is free in there too:
without this, each task of a release spends 3 to 8 seconds on imports. Only installed packages are loaded
early, never this project's code, which must be read again after an edit.

Airflow's database is made or upgraded first. A component that dies is started again.
"""

import faulthandler
import gc
import hashlib
import importlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from embedded import processes
from embedded.environment import APPROVAL_KEY_VARIABLE
from embedded.stop_signal import StopSignal

COMPONENTS = ("scheduler", "dag-processor", "triggerer", "api-server")
_ARGUMENTS = {
    # The log servers listen on every interface, and the API server reads the same files from disk.
    "scheduler": ["--skip-serve-logs"],
    "triggerer": ["--skip-serve-logs"],
}
_FIRST = ("airflow.__main__", "airflow.cli.commands.db_command", "airflow.utils.db")
_EARLY = (
    "airflow.providers.cncf.kubernetes.operators.pod",
    "airflow.providers.databricks.operators.databricks",
    "airflow.providers.openlineage.plugins.listener",
    "airflow.sdk.definitions.decorators",
    "airflow.sdk.execution_time.task_runner",
    "airflow.jobs.scheduler_job_runner",
    "airflow.jobs.triggerer_job_runner",
    "airflow.dag_processing.manager",
    "mlflow.artifacts",
    "mlflow.tracing.processor.base_mlflow",
    "mlflow.tracking.request_header.registry",
    "msgspec",
)
_GRACE = 6.0
_POLL = 0.2

log = logging.getLogger("airflow_components")


def hostname() -> str:
    """Airflow's ``hostname_callable``: where the API server may look for logs; nothing leaves this machine."""
    return "127.0.0.1"


class Components:
    """The forked components, and the watch over them."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, int] = {}
        self._stop = StopSignal()

    def run(self) -> None:
        """Start all and restart those that die, until SIGTERM or SIGINT."""
        self._stop.listen(signal.SIGTERM, signal.SIGINT)
        for name in COMPONENTS:
            self._start(name)
        while not self._stop.wait(_POLL):
            self._restart_ended()
        processes.stop(self._running.values(), grace=_GRACE)

    def _start(self, name: str) -> None:
        if name == "scheduler":
            fork(lambda: _end_earlier_schedulers(), self._logs / "airflow-scheduler.log", wait=True)
        arguments = ["airflow", name, *_ARGUMENTS.get(name, [])]
        self._running[name] = fork(lambda: _airflow(arguments), self._logs / f"airflow-{name}.log")

    def _restart_ended(self) -> None:
        for name, pid in list(self._running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                log.warning("%s ended with code %s: starting it again", name, os.waitstatus_to_exitcode(status))
                processes.stop([pid], grace=1.0)  # what it has forked may outlive it
                time.sleep(1.0)
                self._start(name)


def fork(work: Callable[[], None], log_file: Path, *, wait: bool = False) -> int:
    """Run ``work`` in a forked process that leads its own session; returns its pid, or its exit code.

    Its output goes to ``log_file``.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setsid()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            output = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(output, 1)
            os.dup2(output, 2)
            faulthandler.enable()  # where native code dies, the log says which line of Python called it
            work()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if wait else pid


def _airflow(arguments: list[str]) -> None:
    from airflow.__main__ import main

    if arguments[1] != "scheduler":  # which runs the tasks
        os.environ.pop(APPROVAL_KEY_VARIABLE, None)

    sys.argv = arguments
    main()  # type: ignore[no-untyped-call]


def _end_earlier_schedulers() -> None:
    """Tell Airflow that no earlier scheduler lives: the stack runs one at a time, after ending all others.

    Without this, tasks of a killed scheduler wait until its heartbeat has been missed for 30 seconds.
    """
    from airflow.jobs.job import Job, JobState
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        session.execute(
            update(Job)
            .where(Job.job_type == "SchedulerJob", Job.state == JobState.RUNNING)
            .values(state=JobState.FAILED)
        )


def _migrate(home: Path, logs: Path) -> None:
    """Make or upgrade the database unless this version of Airflow has done so."""
    from importlib.metadata import version

    database = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    # A digest, for the address of a PostgreSQL may hold its password.
    wanted = hashlib.sha256(f"{version('apache-airflow')} {database}".encode()).hexdigest()
    stamp = home / ".migrated"
    there = not database.startswith("sqlite") or (home / "airflow.db").exists()
    if there and stamp.exists() and stamp.read_text() == wanted:
        return
    log_file = logs / "airflow-migrate.log"
    if code := fork(lambda: _airflow(["airflow", "db", "migrate"]), log_file, wait=True):
        tail = "\n".join(log_file.read_text(errors="replace").splitlines()[-15:])
        raise SystemExit(f"airflow db migrate ended with code {code}:\n{tail}")
    stamp.write_text(wanted)


def _read_certificates() -> None:
    """Read the certificates of public authorities once, for all forked processes.

    A client of the API for tasks reads them and keeps them for its process, although it speaks plain HTTP here: each of
    the executor's workers would do so before its first task.
    """
    from airflow.sdk.api.client import Client

    Client(base_url=os.environ["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"], token="").close()


def main() -> None:
    """Import, migrate, fork."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    home = Path(os.environ["AIRFLOW_HOME"])
    logs = Path(os.environ["LIFECYCLE_HOME"]) / "logs"
    for module in _FIRST:
        importlib.import_module(module)
    _migrate(home, logs)
    for module in _EARLY:
        importlib.import_module(module)
    _read_certificates()
    gc.collect()
    gc.freeze()  # forked processes then share these pages for good
    Components(logs).run()


if __name__ == "__main__":
    main()
