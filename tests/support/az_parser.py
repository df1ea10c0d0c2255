"""``python az_parser.py <calls.json``: what is wrong with calls of ``az``, by its own parser; none is carried out.

For an environment with azure-cli, and nothing of this project. Reads a JSON list of argument lists, and prints a list
of texts, empty where ``az`` knows the command with its arguments.
"""

import json
import os
import sys
import tempfile
from typing import Any

from azure.cli.core import get_default_cli
from knack.events import EVENT_INVOKER_POST_PARSE_ARGS


def wrong(cli: Any, call: list[str]) -> str:
    """What the parser says against a call; it writes that to the standard error of the process."""
    parsed = []

    def stop(*_: Any, **__: Any) -> None:
        parsed.append(True)
        raise SystemExit(0)

    cli.register_event(EVENT_INVOKER_POST_PARSE_ARGS, stop)
    with tempfile.TemporaryFile() as said:
        before = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            cli.invoke(call)
        except SystemExit:
            pass
        finally:
            cli.unregister_event(EVENT_INVOKER_POST_PARSE_ARGS, stop)
            os.dup2(before, 2)
            os.close(before)
        said.seek(0)
        return "" if parsed else said.read().decode() or "az did not come to its arguments, and said nothing"


def main() -> None:
    """Judge what standard input has."""
    cli = get_default_cli()
    sys.stdout.write(json.dumps([wrong(cli, call) for call in json.load(sys.stdin)]))


if __name__ == "__main__":
    main()
