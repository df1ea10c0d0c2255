"""The checks of a running server."""

import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from serving.verify.bundle import TOLERANCE, fault_in, read_examples
from serving.verify.client import Client, Failed, expect, members
from serving.verify.counters import Counters
from serving.verify.report import Report, percentile_ms

_SETTLED = 20
"""Answers in a row, each over a new connection, that must come from the expected version."""
_UNREACHABLE = 3
"""Polls in a row without an answer after which a watch is over."""


@dataclass
class _Watched:
    """What a watch has seen."""

    counters: list[Counters]
    """One of the beginning, and one of each poll that was answered."""
    polls: int = 0
    lost: list[str] = field(default_factory=list)
    """Why polls had no answer."""
    lost_in_a_row: int = 0
    wrong: list[str] = field(default_factory=list)


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
            said = members("GET /version", *client.get("/version"))
            client.close()
            self.report.version = str((said.get("model") or {}).get("version"))
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
        status, body = client.predict(self.examples["records"], explain=bool(self.examples.get("reasons")))
        client.close()
        if fault := fault_in(self.examples, members("POST /predict with the examples", status, body)):
            raise Failed(fault)
        return f"{len(self.examples['records'])} answers within {TOLERANCE:f} of the registered model's"

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
        answer = members("POST /predict", *client.predict([self.examples["records"][position]]))
        wanted = self.examples["classifier__predictions"][position]
        (got, *_) = answer.get("classifier__predictions") or [None]
        if got is None or abs(got - wanted) > TOLERANCE:
            raise Failed(f"example {position} should be {wanted}, is {got}")

    def watch(self, seconds: float, max_p95_ms: float, max_error_rate: float) -> str:
        """Follow ``/metrics`` for ``seconds``; one golden request a poll gives it something to see."""
        client = self.client()
        seen = _Watched([self._scrape(client)])
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and seen.lost_in_a_row < _UNREACHABLE:
            time.sleep(min(1.0, max(seconds / 10, 0.05)))
            seen.polls += 1
            try:
                self._ask_one(client, seen.polls % len(self.examples["records"]))
                seen.counters.append(self._scrape(client))
                seen.lost_in_a_row = 0
            except Failed as error:
                seen.wrong.append(str(error))
            except (OSError, http.client.HTTPException) as error:
                seen.lost.append(str(error) or type(error).__name__)
                seen.lost_in_a_row += 1
        client.close()
        return self._judge_watch(seen, max_p95_ms, max_error_rate)

    def _judge_watch(self, watched: _Watched, max_p95_ms: float, max_error_rate: float) -> str:
        lost = watched.lost
        if watched.lost_in_a_row >= _UNREACHABLE:
            raise Failed(f"the server went away: {lost[-1]}")
        if watched.wrong:
            raise Failed(f"{len(watched.wrong)} wrong answers, first: {watched.wrong[0]}")
        # The server's counters know nothing of a connection that it has dropped. One may be an accident of the network.
        if len(lost) > max(1, max_error_rate * watched.polls):
            raise Failed(
                f"{len(lost)} of {watched.polls} requests had no answer, last: {lost[-1]}; "
                f"allowed: error rate {max_error_rate:g}"
            )
        since = watched.counters[-1].since(watched.counters[0])
        if since is None or any(later.since(one) is None for one, later in pairwise(watched.counters)):
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

    def _scrape(self, client: Client) -> Counters:
        status, body = client.get("/metrics")
        expect("GET /metrics", status, 200)
        return Counters.parse(body.decode())
