"""Verify a model bundle or a running scoring server, from the image that is about to be trusted.

    python -m serving.verify bundle PATH                    the bundle loads and reproduces its examples
    python -m serving.verify server URL --bundle PATH       health, version, answers, errors, a short load
    python -m serving.verify watch URL --bundle PATH        errors and latency over a time, from /metrics

The image build runs the first, a pod in the cluster (or a process of the embedded stack) the others. The
API key is read from the environment variable ``LIFECYCLE_API_KEY``. The report is JSON, written to
``--report``; failed checks are also the last lines of the output. Exit code 1 means a check failed.
"""

import argparse
import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.metrics_text import Metrics
from serving.verify_client import Client, Failed, expect
from serving.verify_report import Report, percentile_ms

KEY_VARIABLE = "LIFECYCLE_API_KEY"
TOLERANCE = 1e-6
_SETTLED = 20
"""Answers in a row, each over a new connection, that must come from the expected version."""
_UNREACHABLE = 3
"""Polls in a row without an answer after which a watch is over."""


def fault_in(examples: Mapping[str, Any], answer: Mapping[str, Any]) -> str | None:
    """The first golden answer that differs, in words; probabilities and scores may differ by 1e-6."""
    for name, wanted in examples.items():
        if name == "records":
            continue
        got = answer.get(name)
        if not isinstance(got, list) or len(got) != len(wanted):
            return f"{name}: expected {len(wanted)} values, got {got!r:.80}"
        for position, (expected, value) in enumerate(zip(wanted, got, strict=True)):
            same = value == expected if isinstance(expected, bool) else abs(value - expected) <= TOLERANCE
            if not same:
                return f"{name}: example {position} should be {expected}, is {value}"
    return None


def read_examples(bundle: Path) -> dict[str, Any]:
    """``examples.json`` of a bundle: records, and what the registered model answered."""
    examples: dict[str, Any] = json.loads((bundle / "examples.json").read_bytes())
    return examples


def verify_bundle(bundle: Path) -> str:
    """Load a bundle with this image's scoring package; ``Failed`` unless it reproduces its examples."""
    from serving.scoring.bundle import Bundle, BundleError

    try:
        examples = read_examples(bundle)
        scored = Bundle.load(bundle).score(examples["records"])
    except (BundleError, OSError, ValueError, KeyError) as error:
        raise Failed(f"the bundle {bundle} does not load: {error}") from error
    answer = {name: getattr(scored, name) for name in examples if name != "records"}
    if fault := fault_in(examples, answer):
        raise Failed(f"the model is not the one that was registered: {fault}")
    return f"{len(examples['records'])} examples reproduced"


class Verification:
    """The checks of one server."""

    def __init__(self, url: str, bundle: Path, key: str | None) -> None:
        self.url = url
        self.key = key
        self.examples = read_examples(bundle)
        self.contract = json.loads((bundle / "contract.json").read_bytes())
        self.report = Report(url=url)

    def client(self) -> Client:
        return Client(self.url, self.key)

    def status_is(self, path: str, wanted: int) -> str:
        client = self.client()
        status, _ = client.get(path)
        client.close()
        return expect(f"GET {path}", status, wanted)

    def version_is(self, wanted: str, settle_seconds: float) -> str:
        """Every new connection reaches ``wanted``. A Service may reach an old pod for a moment: poll."""
        deadline = time.monotonic() + settle_seconds
        in_a_row = 0
        while in_a_row < _SETTLED:
            client = self.client()
            _, body = client.get("/version")
            client.close()
            self.report.version = str(json.loads(body)["model"]["version"])
            if self.report.version == wanted:
                in_a_row += 1
                continue
            in_a_row = 0
            if time.monotonic() > deadline:
                raise Failed(f"the server runs version {self.report.version}, not {wanted}")
            time.sleep(0.5)
        return f"version {wanted}"

    def answers_are_golden(self) -> str:
        client = self.client()
        status, body = client.predict(self.examples["records"])
        client.close()
        expect("POST /predict with the examples", status, 200, body)
        if fault := fault_in(self.examples, json.loads(body)):
            raise Failed(fault)
        return f"{len(self.examples['records'])} answers within {TOLERANCE:g} of the registered model's"

    def contract_is_kept(self) -> str:
        """A record without a field that the contract requires is refused with 422."""
        name = next(f["name"] for f in self.contract["fields"] if f.get("required", True))
        record = {key: value for key, value in self.examples["records"][0].items() if key != name}
        client = self.client()
        status, body = client.predict([record])
        client.close()
        return expect(f"POST /predict without {name}", status, 422, body)

    def keys_are_asked_for(self) -> str:
        client = self.client()
        status, _ = client.predict(self.examples["records"][:1], key=False)
        client.close()
        return expect("POST /predict without a key", status, 401)

    def load(self, seconds: float, connections: int, max_p95_ms: float, max_error_rate: float) -> str:
        """Send single examples over ``connections`` for ``seconds``; judges errors and p95."""
        times: list[float] = []
        errors: list[str] = []
        deadline = time.monotonic() + seconds
        threads = [
            threading.Thread(target=self._keep_asking, args=(deadline, times, errors), daemon=True)
            for _ in range(connections)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        report = self.report
        report.requests, report.errors = len(times) + len(errors), len(errors)
        report.p50_ms, report.p95_ms = (percentile_ms(times, share) for share in (0.5, 0.95))
        seen = f"{report.requests} requests in {seconds:g} s, {report.errors} errors, p95 {report.p95_ms} ms"
        if not report.requests or report.errors > max_error_rate * report.requests:
            raise Failed(f"{seen}; allowed: error rate {max_error_rate:g}. {'; '.join(errors[:3])}")
        if report.p95_ms is None or report.p95_ms > max_p95_ms:
            raise Failed(f"{seen}; allowed: p95 {max_p95_ms:g} ms")
        return seen

    def _keep_asking(self, deadline: float, times: list[float], errors: list[str]) -> None:
        client = self.client()
        position = 0
        while time.monotonic() < deadline:
            position = (position + 1) % len(self.examples["records"])
            began = time.perf_counter()
            try:
                self._ask_one(client, position)
            except (Failed, OSError, http.client.HTTPException) as error:
                errors.append(str(error) or type(error).__name__)
                time.sleep(0.05)  # a dead server is not asked a million times
            else:
                times.append(time.perf_counter() - began)
        client.close()

    def _ask_one(self, client: Client, position: int) -> None:
        status, body = client.predict([self.examples["records"][position]])
        expect("POST /predict", status, 200, body)
        wanted = self.examples["classifier__predictions"][position]
        got = json.loads(body)["classifier__predictions"][0]
        if abs(got - wanted) > TOLERANCE:
            raise Failed(f"example {position} should be {wanted}, is {got}")

    def watch(self, seconds: float, max_p95_ms: float, max_error_rate: float) -> str:
        """Follow ``/metrics`` for ``seconds``; one golden request a poll gives it something to see."""
        client = self.client()
        before = self._scrape(client)
        latest = before
        lost: list[str] = []
        wrong: list[str] = []
        deadline = time.monotonic() + seconds
        position = 0
        while time.monotonic() < deadline and len(lost) < _UNREACHABLE:
            time.sleep(min(1.0, max(seconds / 10, 0.05)))
            position = (position + 1) % len(self.examples["records"])
            try:
                self._ask_one(client, position)
                latest = self._scrape(client)
                lost.clear()
            except Failed as error:
                wrong.append(str(error))
            except (OSError, http.client.HTTPException) as error:
                lost.append(str(error) or type(error).__name__)
        client.close()
        return self._judge_watch(before, latest, lost, wrong, max_p95_ms, max_error_rate)

    def _judge_watch(
        self,
        before: Metrics,
        latest: Metrics,
        lost: list[str],
        wrong: list[str],
        max_p95_ms: float,
        max_error_rate: float,
    ) -> str:
        if len(lost) >= _UNREACHABLE:
            raise Failed(f"the server went away: {lost[-1]}")
        if wrong:
            raise Failed(f"{len(wrong)} wrong answers, first: {wrong[0]}")
        since = latest.since(before)
        if since is None:
            raise Failed("the server's counters fell: it was restarted while it was watched")
        report = self.report
        report.requests, report.errors = since.requests, since.errors
        report.p50_ms, report.p95_ms = since.percentile_ms(0.5), since.percentile_ms(0.95)
        seen = f"{since.requests} requests, {since.errors} errors, p95 {report.p95_ms} ms"
        if since.errors > max_error_rate * since.requests:
            raise Failed(f"{seen}; allowed: error rate {max_error_rate:g}")
        if report.p95_ms is None or report.p95_ms > max_p95_ms:
            raise Failed(f"{seen}; allowed: p95 {max_p95_ms:g} ms")
        return seen

    def _scrape(self, client: Client) -> Metrics:
        status, body = client.get("/metrics")
        expect("GET /metrics", status, 200)
        return Metrics.parse(body.decode())


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
            report.check("golden answers", verification.answers_are_golden)
            report.check("contract", verification.contract_is_kept)
            report.check("keys", verification.keys_are_asked_for)
            report.check("load", lambda: verification.load(options.seconds, options.connections, *limits))
        else:
            report.check("golden answers", verification.answers_are_golden)
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
