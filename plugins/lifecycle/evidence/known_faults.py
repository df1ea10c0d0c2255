"""What a scan of an image's Python packages found (``lifecycle.builders.scan``), as the evidence keeps it."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from serving.scoring.described import described

Severity = Literal["LOW", "MODERATE", "HIGH", "CRITICAL", "not rated"]
RATED: tuple[Severity, ...] = ("LOW", "MODERATE", "HIGH", "CRITICAL")
"""From the least to the worst. What nobody has rated counts as the worst, for somebody has to look at it."""
_SHOWN = 5


def rank(severity: Severity) -> int:
    """The higher the worse."""
    return RATED.index(severity) if severity in RATED else len(RATED)


class Fault(msgspec.Struct, frozen=True):
    """A fault that is known of a package in the image."""

    id: str
    package: str
    version: str
    severity: Severity
    fixed: str = ""
    """The first version without it, where the advisory names one."""

    @property
    def rank(self) -> int:
        return rank(self.severity)

    def __str__(self) -> str:
        mended = f", mended in {self.fixed}" if self.fixed else ""
        return f"{self.id} in {self.package} {self.version} ({self.severity}{mended})"


def counted(faults: Sequence[Fault]) -> str:
    """How many there are, in words."""
    return f"{len(faults)} known fault{'' if len(faults) == 1 else 's'}"


@described
class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, or why nothing was looked for."""

    not_scanned: str = ""
    """Why not; empty where it was scanned."""
    packages: int = 0
    advisories: str = ""
    """The day of the newest advisory of the copy (UTC)."""
    faults: tuple[Fault, ...] = ()
    """The worst first."""

    @property
    def sentence(self) -> str:
        """For a person: one sentence."""
        if self.not_scanned:
            return f"Python packages: not scanned ({self.not_scanned})."
        if not self.faults:
            return f"Python packages: no known fault in {self.packages}, advisories of {self.advisories}."
        named = ", ".join(map(str, self.faults[:_SHOWN]))
        more = f" and {len(self.faults) - _SHOWN} more" if len(self.faults) > _SHOWN else ""
        return f"Python packages: {counted(self.faults)} in {self.packages}: {named}{more} ({self.advisories})."

    @property
    def short(self) -> str:
        """The sentence for the gate, where every line counts: why and of when is on the evidence page."""
        if self.not_scanned:
            return "Packages: not scanned."
        return f"Packages: {counted(self.faults)}, {self.faults[0]}." if self.faults else "Packages: no known fault."
