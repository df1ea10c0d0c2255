"""Verify a model bundle or a running scoring server, from the image that is about to be trusted.

    python -m serving.verify bundle PATH                    the bundle loads and reproduces its examples
    python -m serving.verify server URL --bundle PATH       health, version, answers, errors, a short load
    python -m serving.verify watch URL --bundle PATH        errors and latency over a time; URL: the metrics' address

The image build runs the first, a pod in the cluster (or a process of the embedded stack) the others. The
API key is read from the environment variable ``LIFECYCLE_API_KEY``. The report is JSON, written to
``--report``; failed checks are also the last lines of the output. Exit code 1 means a check failed.
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

from serving.verify.bundle import verify_bundle
from serving.verify.client import Failed
from serving.verify.report import GOLDEN, Report
from serving.verify.server import Verification

KEY_VARIABLE = "LIFECYCLE_API_KEY"


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving.verify", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    bundle = commands.add_parser("bundle", help="check a bundle folder, without a server")
    bundle.add_argument("bundle", type=Path)
    for name in ("server", "watch"):
        command = commands.add_parser(name)
        command.add_argument("url")
        command.add_argument("--bundle", type=Path, default=Path("bundle"))
        command.add_argument("--version", required=True, help="the model version that must answer")
        command.add_argument("--seconds", type=float, default=5.0)
        command.add_argument("--max-p95-ms", type=float, default=500.0)
        command.add_argument("--max-error-rate", type=float, default=0.0)
        command.add_argument("--report", type=Path)
        command.add_argument("--connections", type=int, default=2)
        command.add_argument("--settle-seconds", type=float, default=20.0)
    return parser.parse_args(arguments)


def _verify(options: argparse.Namespace) -> Report:
    verification = Verification(options.url, options.bundle, os.environ.get(KEY_VARIABLE))
    report = verification.report
    began = time.monotonic()
    limits = (options.max_p95_ms, options.max_error_rate)
    if report.check("version", lambda: verification.version_is(options.version, options.settle_seconds)):
        if options.command == "server":
            report.check("health", lambda: verification.status_is("/healthz", 200))
            report.check("ready", lambda: verification.status_is("/readyz", 200))
            report.check(GOLDEN, verification.answers_are_golden)
            report.check("contract", verification.contract_is_kept)
            report.check("keys", verification.keys_are_asked_for)
            report.check("load", lambda: verification.load(options.seconds, options.connections, *limits))
        else:
            report.check(GOLDEN, verification.answers_are_golden)
            report.check("watch", lambda: verification.watch(options.seconds, *limits))
    report.seconds = round(time.monotonic() - began, 3)
    return report


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _arguments(arguments)
    out = sys.stdout.write
    if options.command == "bundle":
        try:
            out(f"bundle: {verify_bundle(options.bundle)}\n")
        except Failed as error:
            out(f"FAILED bundle: {error}\n")
            return 1
        return 0
    document = _verify(options).document()
    if options.report:
        options.report.write_text(json.dumps(document))
    for check in sorted(document["checks"], key=lambda check: not check["passed"]):
        out(f"{'ok' if check['passed'] else 'FAILED'} {check['name']}: {check['detail']}\n")
    return 0 if document["passed"] else 1


if __name__ == "__main__":
    # The first process of a container has no default handler: without this it would outlive its pod's end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
