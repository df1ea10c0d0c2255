"""``python -m delivery.smoke``: what ``make azure-smoke`` calls (``--help``)."""

import argparse
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from delivery.smoke import local
from delivery.smoke.cloud import Cloud, Given
from delivery.smoke.programs import ROOT, Programs
from delivery.smoke.run import Smoke
from delivery.smoke.state import Home, SmokeError
from embedded.environment import ConfigurationError, Stack, loopback_without_proxy
from training.use_case import UseCase, UseCaseError, load


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m delivery.smoke", description=__doc__)
    parser.add_argument("--use-case", default="attrition")
    parser.add_argument("--vars", type=Path, default=Path("infrastructure/mine.tfvars"))
    parser.add_argument("--backend", type=Path, default=Path("infrastructure/smoke.tfbackend"))
    parser.add_argument("--key", type=Path, default=Path("approval-key.json"), help="what make approval-key wrote")
    parser.add_argument("--repository", default="", help="address that Airflow clones the DAG files from")
    parser.add_argument("--dags-connection", type=Path, help="connection dags_repository as JSON, where it is private")
    parser.add_argument("--data", type=Path, help="a CSV file; default: the use case's own")
    parser.add_argument("--hours", type=float, default=4.0, help="everything is taken down after this time (default 4)")
    parser.add_argument("--home", type=Path, help="folder of its state and report; default: .azure-smoke")
    parser.add_argument("--dry", action="store_true", help="with stand-ins and the embedded stack, without a cloud")
    parser.add_argument("--down", action="store_true", help="take down what an earlier call has left, and nothing else")
    return parser.parse_args()


def say(text: str) -> None:
    """Tell whoever watches. A terminal that was closed must not keep us from taking everything down."""
    with suppress(OSError):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One smoke run at a time works in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SmokeError(f"another smoke run works in {folder}: let it end, or stop it with Ctrl-C") from None
        yield


def _given(arguments: argparse.Namespace, use_case: UseCase, folder: Path) -> Given:
    own = use_case.folder / use_case.data if use_case.data else Path("DATA")
    if not arguments.dry:
        return Given(
            variables=arguments.vars,
            backend=arguments.backend,
            approval_key=arguments.key,
            repository=arguments.repository,
            dags_connection=arguments.dags_connection,
            data=arguments.data or own,
        )
    for name in ("dry.tfvars", "dry.tfbackend", "dry-key.json"):
        (folder / name).write_text("{}\n")
    return Given(
        variables=folder / "dry.tfvars",
        backend=folder / "dry.tfbackend",
        approval_key=folder / "dry-key.json",
        repository="https://example.com/lifecycle.git",
        data=arguments.data or own,
    )


def _commit() -> str:
    """The commit that is checked out, however little time is left."""
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def _smoke(arguments: argparse.Namespace, folder: Path) -> int:
    stack = Stack.read()
    os.environ["USE_CASES"] = stack.shell.get("USE_CASES", "")
    os.environ.update(loopback_without_proxy(stack.shell))
    use_case = load(arguments.use_case)
    given = _given(arguments, use_case, folder)
    home = Home(folder)
    state = home.begin(arguments.hours)
    environment = dict(os.environ)
    kind: Callable[..., Cloud] = Cloud
    if arguments.dry:
        kind = partial(local.DryCloud, stack=stack, say=say)
        environment["PATH"] = f"{local.write_stand_ins(folder, stack.ports.airflow)}{os.pathsep}{os.environ['PATH']}"
    cloud = kind(given, use_case, home, Programs(folder / "programs.log", state.left, environment))
    if not state.began and not arguments.down:  # later, nothing may stand before taking down
        cloud.check()
    smoke = Smoke(
        home=home,
        state=state,
        cloud=cloud,
        use_case=use_case,
        commit=_commit(),
        embedded=partial(local.embedded, stack, given.data.resolve(), say),
        say=say,
    )
    if arguments.down:
        state.began = state.began or 1.0  # whatever was begun: there may be more than this folder knows of
        report = smoke.finish()
        return 0 if report.state.taken_down else 1
    return smoke.run()


def main() -> int:
    """Run it; a known fault is a line on stderr and exit code 1."""
    arguments = _arguments()
    folder: Path = (arguments.home or ROOT / (".azure-smoke/dry" if arguments.dry else ".azure-smoke")).resolve()
    try:
        with _alone(folder):
            return _smoke(arguments, folder)
    except (SmokeError, ConfigurationError, UseCaseError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
