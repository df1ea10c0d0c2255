"""``python -m embedded up|down|status|demo|bundle|api-key|rotate-approval-key``: the embedded stack's command line."""

import argparse
import os
import sys

from embedded import stack as stacks
from embedded.addresses import Addresses
from embedded.environment import TARGETS, ConfigurationError, Stack, loopback_without_proxy
from embedded.preflight import PreflightError
from lifecycle import approval_keys
from training.use_case import Target, UseCase, UseCaseError, load, load_all


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m embedded", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start the stack and stay until Ctrl-C")
    up.add_argument("--detach", action="store_true", help="return once it is up")
    commands.add_parser("down", help="stop the stack and end what a killed one left behind")
    commands.add_parser("status", help="what runs, and where")
    key = commands.add_parser("api-key", help="the key of a target's scoring servers, whatever the use case")
    key.add_argument("target", choices=TARGETS)
    commands.add_parser("rotate-approval-key", help="sign approvals with a new key from the next start on")
    bundle = commands.add_parser("bundle", help="folder of the model bundle that runs")
    bundle.add_argument("use_case")
    bundle.add_argument("target", choices=TARGETS)
    demo = commands.add_parser("demo", help="take a model from data to production")
    demo.add_argument("--use-case", required=True, help="name of a folder in use_cases/, or in a folder of USE_CASES")
    demo.add_argument("--data", help="CSV or Parquet; default: the use case's own file, synthetic rows without one")
    demo.add_argument("--synthetic", choices=("yes", "no"), default="no", help="train on synthetic rows (default no)")
    demo.add_argument("--approve", choices=("yes", "no"), help="answer the gate; default: ask")
    demo.add_argument("--drop", choices=("yes", "no"), default="no", help="start by a new file (default no)")
    demo.add_argument("--keep", choices=("yes", "no"), default="yes", help="leave the stack up (default yes)")
    return parser.parse_args()


def _up(stack: Stack, detach: bool) -> int:
    if stacks.is_held(stack):
        print(f"the stack in {stack.home} is up already")
        return _status(stack)
    if detach:
        stacks.up_detached(stack)
    else:
        stacks.Supervisor(stack).run()
    return 0


def _status(stack: Stack) -> int:
    state = stacks.read_state(stack)
    if not stacks.is_held(stack):
        print(f"the stack in {stack.home} is down: `make up` starts it")
        return 3
    for name, part in state.get("parts", {}).items():
        print(f"{name:<22} pid {part['pid']:<8} {', '.join(part['addresses'])}".rstrip())
    for use_case in (addresses := Addresses(stack)).assigned():
        for target in TARGETS:
            print(_server_line(stack, use_case, target, addresses.url(use_case, target) or ""))
    print(f"{'state':<22} {state.get('state')}")
    print(f"{'sign in to Airflow':<22} {stack.credentials.airflow_user} / {stack.credentials.airflow_password}")
    return 0


def _server_line(stack: Stack, use_case: str, target: Target, url: str) -> str:
    from embedded.demo.scoring import Scoring, ScoringError

    try:
        version = Scoring(url, stack.credentials.api_keys[target]).version()
        what = f"answers with version {version}" if version else "runs nothing"
    except ScoringError as error:
        what = str(error)
    return f"{use_case + ', ' + target:<35} {url}  {what}"


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


def _run(arguments: argparse.Namespace) -> int:
    stack = Stack.read()
    # Definitions are imported in this process too, and .env may say where they are.
    os.environ["USE_CASES"] = stack.shell.get("USE_CASES", "")
    # This process asks the stack's servers too: whether they are up, and in the demo all the rest.
    os.environ.update(loopback_without_proxy(stack.shell))
    if arguments.command == "up":
        return _up(stack, arguments.detach)
    if arguments.command == "status":
        return _status(stack)
    if arguments.command == "down":
        stacks.down(stack)
        return 0
    if arguments.command == "api-key":
        print(stack.credentials.api_keys[arguments.target])
        return 0
    if arguments.command == "rotate-approval-key":
        approval_keys.main(["--rotate", str(stack.approval_key_file)])
        return 0
    if arguments.command == "bundle":
        print(_bundle(stack, arguments.use_case, arguments.target))
        return 0
    from embedded.demo.walk import Demo  # rich and the rest of it: `make status` need not wait for them

    return Demo(
        stack,
        _use_case(arguments.use_case),
        data=arguments.data,
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
