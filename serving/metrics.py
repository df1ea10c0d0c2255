"""Counters that all workers share, in Prometheus' text format.

Every worker adds to a row of its own in memory that was mapped before the fork, so counting takes no file, no
lock between processes and well under a microsecond; ``/metrics`` of any worker adds up the rows. A worker that
takes over a row goes on where the former one stopped, so the counters never fall.
"""

import bisect
import mmap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from serving.scoring.contract import Contract
from serving.settings import Release

if TYPE_CHECKING:
    from prometheus_client.core import Metric

ENDPOINTS = ("predict", "healthz", "readyz", "version", "metrics", "openapi", "docs", "other")
STATUSES = tuple(map(int, HTTPStatus))
"""All that HTTP has: a status counted as another one could look like a failure of ours, and end a canary."""
BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the latency histogram in seconds."""


MANY_RECORDS = 30
"""From which on a request's p-values are shown. Those of few records would tell the fields of the person scored."""


class Metrics:
    """The counters of one server. Make it before forking; each worker then calls ``take_row``."""

    def __init__(
        self,
        contract: Contract,
        release: Release,
        rows: int,
        lost_lines: Callable[[], int] = lambda: 0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """``lost_lines`` gives the log lines that stderr has not taken, ``stopped`` whether nothing is scored."""
        self._release = release
        self._stopped = stopped
        self._lost_lines = lost_lines
        self._drift_fields = [field.name for field in contract.drift_fields]
        self._category_fields = [field.name for field in contract.fields if field.kind == "category"]
        sizes = {
            "requests": len(ENDPOINTS) * len(STATUSES),
            "buckets": len(BUCKETS) + 1,
            "seconds": 1,
            "records": 1,
            "outliers": 1,
            "unlogged": 1,
            "unknown": len(self._category_fields),
            "p_values": len(self._drift_fields),
            "tested": 1,  # when p_values were set
        }
        ends = np.cumsum(list(sizes.values())).tolist()
        self._places = {name: slice(end - sizes[name], end) for name, end in zip(sizes, ends, strict=True)}
        width = ends[-1]
        memory = mmap.mmap(-1, rows * width * 8)
        self._rows: NDArray[np.float64] = np.frombuffer(memory, np.float64).reshape(rows, width)
        self._cells = memoryview(memory).cast("d")
        self._width = width
        self._free = set(range(rows))
        self._taken: dict[int, int] = {}
        self._lock = threading.Lock()
        self.take_row(0)

    def take_row(self, row: int) -> None:
        """Count in this row from now on: a worker's, after the fork."""
        self._own = self._rows[row]
        self._start = row * self._width
        self._lock = threading.Lock()

    def reserve_row(self, worker: int) -> int:
        """In the master: a row that no living worker counts in, for worker number ``worker``."""
        row = min(self._free) if self._free else worker % len(self._rows)
        self._free.discard(row)
        self._taken[worker] = row
        return row

    def release_row(self, worker: int) -> None:
        """In the master: worker number ``worker`` has ended."""
        row = self._taken.pop(worker, None)
        if row is not None and row not in self._taken.values():
            self._free.add(row)

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Count one answer; latency is kept of ``predict`` alone."""
        place = ENDPOINTS.index(endpoint) * len(STATUSES)
        place += STATUSES.index(status)
        start, cells = self._start, self._cells
        with self._lock:
            cells[start + place] += 1
            if endpoint == "predict":
                cells[start + self._places["buckets"].start + bisect.bisect_left(BUCKETS, seconds)] += 1
                cells[start + self._places["seconds"].start] += seconds

    def scored(self, records: int, outliers: int, unknown: Sequence[int], p_values: Any) -> None:
        """Count what one request held. ``unknown``: by category field, or empty; ``p_values``: by drift field."""
        start, cells, places = self._start, self._cells, self._places
        with self._lock:
            cells[start + places["records"].start] += records
            cells[start + places["outliers"].start] += outliers
            if unknown:
                self._own[places["unknown"]] += unknown
            if records >= MANY_RECORDS:
                self._own[places["p_values"]] = p_values
                cells[start + places["tested"].start] = time.time()

    def unlogged(self) -> None:
        """Count one request whose log lines could not be written."""
        with self._lock:
            self._cells[self._start + self._places["unlogged"].start] += 1

    def text(self) -> bytes:
        """All rows, added up, in Prometheus' text format."""
        from prometheus_client import generate_latest

        return generate_latest(self)

    def collect(self) -> Iterator["Metric"]:
        """The metric families, as prometheus-client wants them of a collector."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
            InfoMetricFamily,
        )

        total = self._rows.sum(axis=0)
        yield InfoMetricFamily(
            "scoring_build",
            "What runs here",
            {
                "model": self._release.model_name,
                "version": self._release.model_version,
                "revision": self._release.revision,
            },
        )
        yield GaugeMetricFamily("scoring_stopped", "1 while the stop switch is set", value=float(self._stopped()))
        requests = CounterMetricFamily("scoring_requests", "Answers", labels=["endpoint", "status"])
        counts = iter(self._of(total, "requests"))
        for endpoint in ENDPOINTS:
            for status in STATUSES:
                count = next(counts)
                if count or (endpoint, status) == ("predict", 200):
                    requests.add_metric([endpoint, str(status)], count)
        yield requests
        bounds = [*map(str, BUCKETS), "+Inf"]
        yield HistogramMetricFamily(
            "scoring_request_duration_seconds",
            "Time from request to answer of POST /predict",
            buckets=list(zip(bounds, np.cumsum(self._of(total, "buckets")).tolist(), strict=True)),
            sum_value=self._of(total, "seconds")[0],
        )
        for name, help_text in (
            ("records", "Records scored"),
            ("outliers", "Records that were outliers"),
            ("unlogged", "Requests whose inference log could not be written"),
        ):
            yield CounterMetricFamily(f"scoring_{name}", help_text, value=self._of(total, name)[0])
        yield CounterMetricFamily("scoring_lost_lines", "Lines that stderr did not take", value=self._lost_lines())
        yield _by_field(
            CounterMetricFamily("scoring_unknown_categories", "Values that no category lists", labels=["field"]),
            self._category_fields,
            self._of(total, "unknown"),
        )
        latest = self._rows[int(self._rows[:, self._places["tested"].start].argmax())]
        if self._of(latest, "tested")[0]:
            yield _by_field(
                GaugeMetricFamily("scoring_drift_p_value", "Drift of the latest large request", labels=["field"]),
                self._drift_fields,
                self._of(latest, "p_values"),
            )

    def _of(self, row: NDArray[np.float64], name: str) -> list[float]:
        values: list[float] = row[self._places[name]].tolist()
        return values


def _by_field(family: Any, fields: Iterable[str], values: Iterable[float]) -> Any:
    for field, value in zip(fields, values, strict=True):
        family.add_metric([field], value)
    return family
