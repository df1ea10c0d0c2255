"""The embedded stack's command line: ``python -m embedded up|down|status|logs|demo|bundle|...`` (``--help``)."""

import argparse
import os
import subprocess
import sys
from datetime import UTC, datetime

from embedded import stack as stacks
from embedded import status
from embedded.environment import TARGETS, ConfigurationError, Stack, loopback_without_proxy
from embedded.lines import filled
from embedded.preflight import PreflightError
from lifecycle import approval_keys
from training.use_case import Target, UseCase, UseCaseError, load, load_all

_LOG_LINES = 60


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m embedded", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start the stack and stay until Ctrl-C")
    up.add_argument("--detach", action="store_true", help="return once it is up")
    commands.add_parser("down", help="stop the stack and end what a killed one left behind")
    commands.add_parser("status", help="what answers, what runs in production, what waits")
    logs = commands.add_parser("logs", help="the last lines of a part's log")
    logs.add_argument("part", nargs="?", default="supervisor", help="default: the supervisor")
    key = commands.add_parser("api-key", help="the key of a target's scoring servers, whatever the use case")
    key.add_argument("target", choices=TARGETS)
    commands.add_parser("rotate-approval-key", help="sign approvals with a new key from the next start on")
    commands.add_parser("rotate-signing-keys", help="sign bundles and images with new keys from the next start on")
    sign = commands.add_parser("sign", help="sign the bundle and the image of a version that are not signed")
    sign.add_argument("use_case")
    sign.add_argument("version")
    bundle = commands.add_parser("bundle", help="folder of the model bundle that runs")
    bundle.add_argument("use_case")
    bundle.add_argument("target", choices=TARGETS)
    demo = commands.add_parser("demo", help="take a model from data to production")
    demo.add_argument("--use-case", required=True, help="name of a folder in use_cases/, or in a folder of USE_CASES")
    demo.add_argument("--data", help="CSV or Parquet; default: the use case's own file, synthetic rows without one")
    demo.add_argument("--plan", help="with --data, where series are forecast: what is known of weeks to come")
    demo.add_argument("--synthetic", choices=("yes", "no"), default="no", help="train on synthetic rows (default no)")
    demo.add_argument("--approve", choices=("yes", "no"), help="answer the gate; default: ask")
    demo.add_argument("--drop", choices=("yes", "no"), default="no", help="start by a new file (default no)")
    demo.add_argument("--keep", choices=("yes", "no"), default="yes", help="leave the stack up (default yes)")
    return parser.parse_args()


def _up(stack: Stack, detach: bool) -> int:
    if stacks.is_held(stack):
        print(f"the stack in {stack.home} is up already")
        return status.tell(stack)
    if detach:
        stacks.up_detached(stack)
    else:
        stacks.Supervisor(stack, print if sys.stdout.isatty() else _stamped).run()
    return 0


def _stamped(text: str) -> None:
    """A line of the supervisor's log; ``stacks.up_detached`` shows it without the time."""
    print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}", flush=True)


def _logs(stack: Stack, part: str) -> int:
    """Print the last lines of a part's log, or the names of those that there are."""
    found = {file.stem: file for file in sorted(stack.logs.glob("*.log"))}
    if part not in found:
        print(filled(f"PART is one of {', '.join(found) or '(the stack has not been started yet)'}"), file=sys.stderr)
        return 2
    lines = found[part].read_text(errors="replace").splitlines()
    print("\n".join([*lines[-_LOG_LINES:], f"(all of it: {found[part]})"]))
    return 0


def _use_case(name: str) -> UseCase:
    """A use case that the stack can run; raises ``UseCaseError``."""
    use_case = load(name)
    loaded, faults = load_all()
    if use_case not in loaded:  # it has the title or the model of another one
        raise UseCaseError("; ".join(str(fault) for fault in faults))
    return use_case


def _bundle(stack: Stack, use_case: str, target: Target) -> str:
    """Folder of the bundle that runs at a target; raises ``StackError`` where nothing does."""
    from lifecycle.hooks.slot import read_status

    if (stable := read_status(stack.slot(use_case, target)).stable) is None:
        raise stacks.StackError(f"nothing of use case {use_case!r} runs in {target}: release it, or name a BUNDLE")
    return f"{stable.folder}/bundle"


def _rotate_signing_keys(stack: Stack) -> None:
    for name, ring in stack.signing_keys.items():
        rotated = ring.rotated()
        rotated.save(stack.signing_key_files[name])
        print(f"the {name} is signed with key {rotated.public[-1].id[:12]} once the stack is started again")


def _sign(stack: Stack, use_case: str, version: str) -> int:
    """In a process of its own, with the connections that a task has."""
    command = [sys.executable, "-m", "lifecycle.signing", "sign", use_case, version]
    return subprocess.run(command, env=stack.airflow_environment(), check=False).returncode


def _run(arguments: argparse.Namespace) -> int:
    stack = Stack.read()
    # Definitions are imported in this process too, and .env may say where they are.
    os.environ["USE_CASES"] = stack.shell.get("USE_CASES", "")
    # This process asks the stack's servers too: whether they are up, and in the demo all the rest.
    os.environ.update(loopback_without_proxy(stack.shell))
    if arguments.command == "up":
        return _up(stack, arguments.detach)
    if arguments.command == "status":
        return status.tell(stack)
    if arguments.command == "logs":
        return _logs(stack, arguments.part)
    if arguments.command == "down":
        stacks.down(stack)
        return 0
    if arguments.command == "api-key":
        print(stack.credentials.api_keys[arguments.target])
        return 0
    if arguments.command == "rotate-approval-key":
        approval_keys.main(["--rotate", str(stack.approval_key_file)])
        return 0
    if arguments.command == "rotate-signing-keys":
        _rotate_signing_keys(stack)
        return 0
    if arguments.command == "sign":
        return _sign(stack, arguments.use_case, arguments.version)
    if arguments.command == "bundle":
        print(_bundle(stack, arguments.use_case, arguments.target))
        return 0
    from embedded.demo.walk import Demo  # rich and the rest of it: `make status` need not wait for them

    return Demo(
        stack,
        _use_case(arguments.use_case),
        data=arguments.data,
        plan=arguments.plan,
        synthetic=arguments.synthetic == "yes",
        approve=arguments.approve,
        keep=arguments.keep == "yes",
        drop=arguments.drop == "yes",
    ).run()


def main() -> int:
    """Run one command; a known fault is a line on stderr and exit code 1."""
    try:
        return _run(_arguments())
    except (ConfigurationError, PreflightError, UseCaseError, stacks.StackError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
