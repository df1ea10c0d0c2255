"""What a verification found, and how it is written down."""

import http.client
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from serving.verify.client import Failed


@dataclass
class Check:
    """One thing that was looked at. ``detail`` says what was seen."""

    name: str
    passed: bool
    detail: str


GOLDEN = "golden answers"
"""The check that a server gives the answers that its bundle holds."""


@dataclass
class Report:
    """What a verification found; ``passed`` only if every check did."""

    url: str
    version: str = ""
    started: float = field(default_factory=time.time)
    seconds: float = 0.0
    requests: int = 0
    errors: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    checks: list[Check] = field(default_factory=list)

    def check(self, name: str, look: Callable[[], str]) -> bool:
        """Run one check: ``look`` returns what was seen, or raises ``Failed`` (or cannot connect)."""
        try:
            self.checks.append(Check(name, True, look()))
        except (Failed, OSError, http.client.HTTPException) as error:
            self.checks.append(Check(name, False, str(error) or type(error).__name__))
        return self.checks[-1].passed

    def document(self) -> dict[str, Any]:
        passed = bool(self.checks) and all(check.passed for check in self.checks)
        return {"passed": passed, **asdict(self)}


def percentile_ms(times: list[float], share: float) -> float | None:
    if not times:
        return None
    ordered = sorted(times)
    return round(ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] * 1000, 3)
