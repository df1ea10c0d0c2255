"""Exports as they really are, with known truth.

Messages come from the server's own log writer. They are delivered, night by night, as files of
ContainerLogV2 records, with every fault that an export is known for. What the curated tables must hold
afterwards is written down on the way, independently of the code under test.
"""

import gzip
import json
import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec

from serving.inference_log import InferenceLog
from serving.scoring.bundle import Result
from serving.settings import Release, Settings
from training.export.contract import request_contract
from training.use_case import UseCase
from use_cases.attrition import USE_CASE as ATTRITION

CONTAINER = "am-containerlogv2"
WORKSPACE = (
    "WorkspaceResourceId=/subscriptions/5f0c0d0e/resourcegroups/hr/providers/"
    "microsoft.operationalinsights/workspaces/hr-logs"
)
RUNTIME_LIMIT = 16_384
_SETTINGS = Settings(auth="off")


class _Lines:
    """Stands for the server's stdout."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, block: bytes) -> None:
        self.lines += block.splitlines()


def log_lines(records, predictions, outliers, *, when, request_id, client, version, body=None,
              use_case=ATTRITION):  # fmt: skip
    """What the server writes for one request at time ``when``: a list of lines as text."""
    out = _Lines()
    zeros = {"KS": 0.5}
    result = Result(
        classifier__predictions=predictions,
        drift__threshold=0.05,
        drift__sample_size=len(records),
        drift__is_drift={"KS": False},
        drift__p_value=zeros,
        drift__adjusted_p_value=zeros,
        drift__magnitude=zeros,
        outliers__is_outlier=[score > 0 for score in outliers],
        outliers__score=outliers,
    )
    release = Release(model_name=use_case.model_name, model_version=version)
    log = InferenceLog(request_contract(use_case), release, _SETTINGS, out)
    log.write(log.lines(request_id, client, body or msgspec.json.encode(records), result, msgspec.json.encode(result)))
    stamp = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return [re.sub(r'"timestamp":"[^"]+"', f'"timestamp":"{stamp}"', line.decode(), count=1) for line in out.lines]


def random_record(rng, number, use_case=ATTRITION):
    """One request record with a number as its key; some values are missing, some categories unknown."""
    record = {}
    for one in use_case.fields:
        if one.name == use_case.key:
            record[one.name] = f"{number:05d}" if one.kind == "category" else number
        elif one.kind == "category":
            record[one.name] = rng.choice([*one.categories, "Ünbekannt {neu}"]) if rng.random() < 0.9 else None
        else:
            record[one.name] = rng.randint(int(one.minimum), int(min(one.maximum, 30_000)))
    if rng.random() < 0.1:
        del record[rng.choice(use_case.features).name]
    return record


@dataclass
class Export:
    """A folder of exported blobs that grows, and the truth of what was delivered into it."""

    root: Path
    seed: int = 1
    use_case: UseCase = ATTRITION
    half_written: float = 0.05
    """Share of blobs whose last line is half written when the night is closed."""
    rows: dict = field(default_factory=dict)
    """(request_id, event_time, record) -> the row that table ``inference`` must hold."""
    unpaired: Counter = field(default_factory=Counter)
    """(request_id, event_time, record, type, reason)"""
    counts: dict = field(default_factory=lambda: defaultdict(Counter))
    """By night: read, kept, duplicate, foreign, quarantined."""
    quarantine: dict = field(default_factory=lambda: defaultdict(set))
    """By night: (blob, offset, reason)"""
    faults: Counter = field(default_factory=Counter)
    """How often each fault was made."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self._pending = defaultdict(list)  # night -> (blob, line, kind, reason)
        self._size = Counter()  # decompressed bytes delivered, by blob
        self._open_line = {}  # blob -> rest of a half-written last line, with its kind and reason
        self._zipped = set()
        self._number = 0

    # -- making requests ------------------------------------------------------------------------------------

    def request(self, when, *, records=1, night=None, request_id=None, version="1", loses=None, **delivery):
        """Make one request and schedule its lines for delivery in ``night`` (default: the night of its day)."""
        self._number += 1
        rng = self.rng
        when = when.replace(microsecond=when.microsecond // 1000 * 1000)
        request_id = request_id or f"req-{self.seed}-{self._number:07d}"
        people = [random_record(rng, rng.randint(1, 5000), self.use_case) for _ in range(records)]
        predictions = [round(rng.random(), 6) for _ in people]
        outliers = [round(rng.uniform(-0.3, 0.1), 6) for _ in people]
        client = rng.choice(["hr-portal", "payroll"])
        lines = log_lines(
            people, predictions, outliers, when=when, request_id=request_id, client=client, version=version,
            body=delivery.pop("body", None), use_case=self.use_case,
        )  # fmt: skip
        for number, person in enumerate(people):
            key = (request_id, when, number)
            if loses:
                lost, kept = ("OutputData", "InputData") if loses == "output" else ("InputData", "OutputData")
                reason = "input without output" if lost == "OutputData" else "output without input"
                self.unpaired[(*key, kept, reason)] += 1
            else:
                self.rows[key] = {
                    **self._values(person),
                    "prediction": predictions[number], "outlier_score": outliers[number],
                    "is_outlier": outliers[number] > 0, "client": client, "model_version": version,
                }  # fmt: skip
        if loses:
            self.faults[f"lost {loses}"] += 1
            lines = [line for line in lines if f'"type":"{loses.capitalize()}Data"' not in line]
        night = night or when.date()
        for line in lines:
            self.deliver(line, when, night, **delivery)
        return lines

    def _values(self, person):
        """A record's values as table ``inference`` must hold them, by column."""
        columns = self.use_case.columns
        return {columns[one.name]: person.get(one.name) for one in self.use_case.fields}

    # -- delivering -----------------------------------------------------------------------------------------

    def deliver(self, message, when, night, *, kind="kept", reason=None, as_text=None, times=1, again=None,
                stream="scoring-7c9d-x2", stamp=None):  # fmt: skip
        """Schedule a log line as ``times`` records of ``night``; ``again``: one more copy in that later night."""
        as_text = self.rng.random() < 0.5 if as_text is None else as_text
        record = self.record(message, stamp or when + timedelta(milliseconds=self.rng.randint(1, 900)), as_text, stream)
        for copy in range(times):
            self.raw(record, stamp or when, night, "duplicate" if copy and kind == "kept" else kind, reason)
            self.faults["duplicate"] += bool(copy)
        if again:
            self.raw(record, stamp or when, again, "duplicate" if kind == "kept" else kind, reason)
            self.faults["delivered again"] += 1

    def record(self, message, generated, as_text, stream):
        """One exported ContainerLogV2 record, as a line of JSON."""
        try:
            content = message if as_text else json.loads(message)
        except json.JSONDecodeError:
            content = message
        stamp = generated.strftime("%Y-%m-%dT%H:%M:%S.%f") + f"{self.rng.randint(0, 9)}Z"
        return json.dumps({
            "TenantId": "0f3c", "TimeGenerated": stamp, "Computer": "aks-np1-0", "ContainerId": f"id-{stream}",
            "ContainerName": "scoring", "PodName": stream, "PodNamespace": "prod", "LogSource": "stdout",
            "LogLevel": "INFO", "LogMessage": content, "KubernetesMetadata": {"podLabels": {"app": "scoring"}},
            "Type": "ContainerLogV2",
        }, ensure_ascii=False, separators=(",", ":"))  # fmt: skip

    def raw(self, line, when, night, kind, reason=None):
        """Schedule an exported line as it is."""
        text = line if isinstance(line, bytes) else line.encode()
        self._pending[night].append((self._blob(when), text, kind, reason))

    def _blob(self, when):
        minute = when.minute // 5 * 5
        name = self.rng.choice(["PT05M.json", "PT05M.json", "PT05M_1.json"])
        if when.hour == 3:
            name = "PT5M.json"
        blob = f"{WORKSPACE}/y={when:%Y}/m={when:%m}/d={when:%d}/h={when:%H}/m={minute:02d}/{name}"
        if when.hour == 4:
            self._zipped.add(blob)
        return blob

    def close(self, night):
        """Write what is scheduled for a night into the blobs; afterwards the night can be curated."""
        blobs = defaultdict(list)
        copies = Counter()
        for blob, text, kind, reason in self._pending.pop(night, []):
            blobs[blob].append((text, kind, reason))
            copies[text] += 1
        self._twice = {text for text, count in copies.items() if count > 1}
        for blob in sorted({*blobs, *self._open_line}):
            lines = blobs[blob]
            self.rng.shuffle(lines)  # records out of order
            written = b""
            if blob in self._open_line:
                rest, start, kind, reason = self._open_line.pop(blob)
                written += rest + b"\n"
                self._account(night, blob, start, kind, reason)
            for number, (text, kind, reason) in enumerate(lines):
                start = self._size[blob] + len(written)
                last = number == len(lines) - 1
                if last and kind == "kept" and self._is_cut_off(blob, text):
                    half = len(text) // 2
                    written += text[:half]
                    self._open_line[blob] = (text[half:], start, kind, reason)
                    self.faults["half-written line"] += 1
                    break
                written += text + b"\n"
                self._account(night, blob, start, kind, reason)
            self._append(blob, written)

    def _is_cut_off(self, blob, text):
        """Draw among the lines that no other one repeats or goes on: they are delivered a night later as a whole."""
        delivered = [one for lines in self._pending.values() for _, one, _, _ in lines]
        if blob in self._zipped or b'"id-cut' in text or text in self._twice | set(delivered):
            return False
        return self.rng.random() < self.half_written

    def _account(self, night, blob, start, kind, reason):
        self.counts[night].update(["read", kind])
        if kind == "quarantined":
            self.quarantine[night].add((blob, start, reason))

    def _append(self, blob, written):
        path = self.root / CONTAINER / blob
        path.parent.mkdir(parents=True, exist_ok=True)
        self._size[blob] += len(written)
        if self.faults and path.exists():
            self.faults["blob grew"] += 1
        with path.open("ab") as file:
            file.write(gzip.compress(written, mtime=0) if blob in self._zipped and written else written)
        self.faults["gzip"] += blob in self._zipped

    # -- a day with everything ------------------------------------------------------------------------------

    def messy_day(self, day: date, requests: int) -> None:
        """A day's traffic with every fault in it, delivered on the day itself and the night after."""
        night, later = day, day + timedelta(days=1)
        for _ in range(requests):
            when = self._moment(day)
            chance = self.rng.random()
            self.request(
                when,
                records=self.rng.choice([1, 1, 1, 2, 5, 40]),
                version=self.rng.choice(["1", "1", "2"]),
                night=later if chance < 0.05 else night,
                times=2 if 0.05 <= chance < 0.10 else 1,
                again=later if 0.10 <= chance < 0.15 else None,
                loses="output" if 0.15 <= chance < 0.17 else "input" if 0.17 <= chance < 0.19 else None,
            )
            self.faults["late"] += chance < 0.05
        self._strangers(day)
        self._unreadable(day)
        self._cut_lines(day)
        self._clocks(day)
        self._reused_ids(day)

    def _moment(self, day):
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return start + timedelta(milliseconds=self.rng.randrange(86_400_000))

    def _strangers(self, day):
        for _ in range(20):
            when = self._moment(day)
            line = self.rng.choice([
                f'{{"service_name":"{self.use_case.title}","type":"access","path":"/predict","status":200}}',
                '{"service_name":"Another API","type":"InputData","request_id":"x","timestamp":"2026-01-01","data":[]}',
                f"Listening at: http://0.0.0.0:8080 for {self.use_case.title}",
                "10.0.0.7 - GET /healthz {ok}",
                "[1, 2, 3]", "42", "null", '"text"', "{}", "",
            ])  # fmt: skip
            self.deliver(line, when, day, kind="foreign", as_text=line == "null")
            self.faults["foreign"] += 1

    def _unreadable(self, day):
        line = log_lines(
            [random_record(self.rng, 1, self.use_case)], [0.5], [0.0], when=self._moment(day), request_id="bad",
            client="x", version="1", use_case=self.use_case,
        )[0]  # fmt: skip
        when = self._moment(day)
        whole = self.record(line, when, False, "s")
        broken = [
            (whole[: len(whole) // 2], "broken JSON"),
            ("not json at all", "broken JSON"),
            (whole.encode().replace(b"hr", b"\xff\xfe").replace(b"scoring", b"sco\xffring", 1), "broken JSON"),
            (whole.replace("LogMessage", "Message"), "no LogMessage"),
            (whole.replace('"TimeGenerated":"', '"TimeGenerated":"x'), "no TimeGenerated"),
            (self.record(line[:-30], when, True, "s"), "broken JSON in LogMessage"),
            (self.record(line.replace("request_id", "request"), when, False, "s"), "no request_id"),
            (self.record(line.replace('"timestamp":"', '"timestamp":"at '), when, True, "s"), "no timestamp"),
            (self.record(line.replace('"data":[', '"data":{"a":[').replace("]}", "]}}"), when, False, "s"),
             "no list of records"),
            (self.record(line.replace("InputData", "OutputData"), when, False, "s"), "no predictions"),
        ]  # fmt: skip
        for text, reason in broken:
            self.raw(text, self._moment(day).replace(hour=10), day, "quarantined", reason)
            self.faults[reason] += 1

    def _cut_lines(self, day):
        """Lines beyond the runtime's limit: whole at once, with the rest a night later or earlier, and never."""
        later = day + timedelta(days=1)
        for case, nights in {"at once": (day, day), "rest later": (day, later), "rest earlier": (later, day)}.items():
            first, *rest = self._cut(day, case)
            self.deliver(first[0], first[1], nights[0], as_text=True, stamp=first[1], stream=f"cut {case}",
                         kind="quarantined" if case == "rest later" else "kept",
                         reason="cut line without its rest" if case == "rest later" else None)  # fmt: skip
            for text, when in rest:
                self.deliver(
                    text,
                    when,
                    nights[1],
                    as_text=True,
                    stamp=when,
                    stream=f"cut {case}",
                    kind="foreign" if case == "rest earlier" else "kept",
                    times=2 if case == "at once" else 1,
                )
            self.faults[f"cut, {case}"] += 1
        text, when = self._cut(day, "never")[0]
        self.deliver(text, when, day, as_text=True, stamp=when, stream="cut never", kind="quarantined",
                     reason="cut line without its rest")  # fmt: skip
        self.faults["cut, never"] += 1

    def _cut(self, day, case):
        """An input line of about 40 KiB as pieces with their times; its output is delivered whole (or lost)."""
        when = self._moment(day).replace(hour=9)
        people = []
        while len(msgspec.json.encode(people)) < 40_000:
            people.append(random_record(self.rng, len(people), self.use_case))
        predictions = [round(self.rng.random(), 6) for _ in people]
        request_id = f"cut-{self.seed}-{day}-{case.replace(' ', '-')}"
        lines = log_lines(
            people, predictions, [0.05] * len(people), when=when, request_id=request_id, client="hr", version="1",
            use_case=self.use_case,
        )  # fmt: skip
        inputs = [json.loads(line) for line in lines if "InputData" in line]
        whole = inputs[0] | {"chunks": 1, "data": [record for line in inputs for record in line["data"]]}
        when = datetime.fromisoformat(whole["timestamp"])
        for line in lines:
            if "OutputData" in line:
                self.deliver(line, when, day)
        for number, person in enumerate(people):
            if case == "never":
                self.unpaired[request_id, when, number, "OutputData", "output without input"] += 1
            else:
                self.rows[request_id, when, number] = {
                    **self._values(person), "prediction": predictions[number],
                    "outlier_score": 0.05, "is_outlier": True, "client": "hr", "model_version": "1",
                }  # fmt: skip
        text = json.dumps(whole, separators=(",", ":"))
        parts = [text[at : at + RUNTIME_LIMIT] for at in range(0, len(text), RUNTIME_LIMIT)]
        assert len(parts) >= 3
        # The runtime stamps each part when it reads it.
        return [(part, when + timedelta(milliseconds=number)) for number, part in enumerate(parts)]

    def _clocks(self, day):
        """Pods whose clock is wrong: the message's own time decides on its day, the folder is the node's."""
        for hours in (-50, -3, 2, 30):
            when = self._moment(day)
            wrong = when + timedelta(hours=hours)
            self.request(wrong, night=day, stamp=when)
            self.faults["clock skew"] += 1

    def _reused_ids(self, day):
        """A client that sends one request id again and again; once twice within a millisecond."""
        when = self._moment(day)
        for offset in (0, 1, 5):
            self.request(when + timedelta(milliseconds=offset), request_id="always-the-same", night=day)
        when = self._moment(day)
        for _ in range(2):
            before = dict(self.rows)
            self.request(when, request_id=f"twin-{day}", night=day)
            for key in set(self.rows) - set(before) | {key for key in self.rows if key[0] == f"twin-{day}"}:
                del self.rows[key]
                for side in ("InputData", "OutputData"):
                    self.unpaired[(*key, side, "request_id used twice")] += 1
        self.faults["request id reused"] += 5
