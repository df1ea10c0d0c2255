"""``python -m embedded up|down|status|demo|api-key``: the embedded stack's command line."""

import argparse
import sys

from embedded import stack as stacks
from embedded.environment import SLOTS, ConfigurationError, Stack
from embedded.preflight import PreflightError


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m embedded", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start the stack and stay until Ctrl-C")
    up.add_argument("--detach", action="store_true", help="return once it is up")
    commands.add_parser("down", help="stop the stack and end what a killed one left behind")
    commands.add_parser("status", help="what runs, and where")
    key = commands.add_parser("api-key", help="the key of a scoring server")
    key.add_argument("slot", choices=SLOTS)
    demo = commands.add_parser("demo", help="take a model from data to production")
    demo.add_argument("--data", help="CSV or Parquet; default: generated employees")
    demo.add_argument("--approve", choices=("yes", "no"), help="answer the gate; default: ask")
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
    print(f"{'state':<22} {state.get('state')}")
    print(f"{'sign in to Airflow':<22} {stack.credentials.airflow_user} / {stack.credentials.airflow_password}")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    stack = Stack.read()
    if arguments.command == "up":
        return _up(stack, arguments.detach)
    if arguments.command == "status":
        return _status(stack)
    if arguments.command == "down":
        stacks.down(stack)
        return 0
    if arguments.command == "api-key":
        print(stack.credentials.api_keys[arguments.slot])
        return 0
    from embedded.demo.walk import Demo  # rich and the rest of it: `make status` need not wait for them

    return Demo(stack, data=arguments.data, approve=arguments.approve, keep=arguments.keep == "yes").run()


def main() -> int:
    """Run one command; a known fault is a line on stderr and exit code 1."""
    try:
        return _run(_arguments())
    except (ConfigurationError, PreflightError, stacks.StackError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
