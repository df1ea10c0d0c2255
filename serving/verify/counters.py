"""Read requests, errors and latency out of the server's own ``/metrics`` text."""

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

REQUESTS = "scoring_requests_total"
LATENCY_BUCKET = "scoring_request_duration_seconds_bucket"


@dataclass(frozen=True)
class Counters:
    """Counts of ``POST /predict`` since the server started."""

    requests: int
    errors: int
    """Answers with status 500 and above."""
    buckets: dict[float, float]
    """Upper bound in seconds to the number of answers that took at most so long."""

    @classmethod
    def parse(cls, text: str) -> "Counters":
        """Read the Prometheus text format; whatever it does not know is passed over."""
        requests = errors = 0
        buckets: dict[float, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == REQUESTS and sample.labels["endpoint"] == "predict":
                    requests += int(sample.value)
                    errors += int(sample.value) if int(sample.labels["status"]) >= 500 else 0
                elif sample.name == LATENCY_BUCKET:
                    buckets[float(sample.labels["le"])] = sample.value
        return cls(requests, errors, buckets)

    def since(self, earlier: "Counters") -> "Counters | None":
        """What happened after ``earlier``; ``None`` if a counter fell, which means a restart."""
        if self.requests < earlier.requests or self.errors < earlier.errors:
            return None
        buckets = {bound: count - earlier.buckets.get(bound, 0.0) for bound, count in self.buckets.items()}
        return Counters(self.requests - earlier.requests, self.errors - earlier.errors, buckets)

    def percentile_ms(self, share: float) -> float | None:
        """A percentile of the latency in milliseconds, linear within its bucket; ``None`` without requests.

        What lies beyond the last bound counts as that bound.
        """
        bounds = sorted(self.buckets)
        if not bounds or not self.buckets[bounds[-1]]:
            return None
        rank = share * self.buckets[bounds[-1]]
        lower = below = 0.0
        for bound in bounds:
            count = self.buckets[bound]
            if count >= rank:
                within = (rank - below) / (count - below) if count > below else 1.0
                value = lower if bound == float("inf") else lower + (bound - lower) * within
                return round(value * 1000, 3)
            lower, below = bound, count
        return None
