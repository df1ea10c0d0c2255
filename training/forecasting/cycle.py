"""What a run of the forecasts says of itself, for the tasks that come after it: ``batches/DATE.json``, written last."""

from datetime import date
from typing import Any, Literal

import msgspec

from training.inference_log import layout

FOLDER = "batches"
Role = Literal["champion", "beside"]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """A new version's forecasts beside those of the version in production, for the same series and weeks."""

    version: str
    """That of the version in production."""
    rows: int
    change: float
    """Sum of the new forecasts by sum of the old ones, less one."""
    inside: float
    """Share of the new forecasts that lie within the intervals of the old ones."""
    faults: tuple[str, ...] = ()
    """Why the new version does not take over by itself; empty where it does."""


class Cycle(msgspec.Struct, frozen=True, kw_only=True):
    """What one version has forecast for one date."""

    day: str
    """The date of the partition, ISO 8601."""
    role: Role
    source: str
    plan: str
    version: str
    bundle_digest: str
    rows: int
    series: int
    origin: str
    """The last week that was known, an ISO date."""
    first_week: str
    last_week: str
    total: float
    """Sum of all forecasts."""
    unit: str = ""
    plan_assumed: int = 0
    """Rows whose known fields were assumed, because the plan does not list the week."""
    short_history: int = 0
    """Series with less than a season of weeks."""
    sums: int = 0
    """Rows of the sums over parts of the key, which were written with them."""
    restored: bool = False
    """The partition was put back as it had been, and not made again."""
    compared: Compared | None = None
    took_over: bool = False
    """The partition of the version in production was replaced by this one."""

    @property
    def note(self) -> str:
        """All of it, in a few sentences."""
        weeks = f"weeks {self.first_week} to {self.last_week}, known up to {self.origin}"
        text = f"{self.day}: {self.series} series by version {self.version}, {weeks}: {self.total:,.0f} {self.unit}"
        parts = [text.rstrip()]
        if self.sums:
            parts.append(f"their sums are {self.sums} rows of table sums")
        if self.restored:
            parts.append("the partition was put back as it had been")
        if self.plan_assumed:
            share = self.plan_assumed / max(self.rows, 1)
            parts.append(
                f"{self.plan_assumed} of {self.rows} rows ({share:.0%}) are not in the plan: the last values and no "
                "promotion were assumed"
            )
        if self.short_history:
            parts.append(f"{self.short_history} series have less than a season of weeks")
        if self.compared:
            parts.append(self._comparison(self.compared))
        return "; ".join(parts)

    def _comparison(self, compared: Compared) -> str:
        figures = (
            f"beside version {compared.version} the total changes by {compared.change:+.1%}, and {compared.inside:.0%} "
            "of the forecasts lie within its intervals"
        )
        if self.took_over:
            return f"{figures}: it takes over"
        return f"{figures}: it does not take over, for {'; '.join(compared.faults)}"


def cycle_file(tables: Any, day: date, role: Role) -> Any:
    """Where a date's ``Cycle`` lies; ``tables`` may be any path that can be joined with ``/``."""
    ending = "" if role == "champion" else f".{role}"
    return tables / FOLDER / f"{day.isoformat()}{ending}.json"


def read_cycle(tables: Any, day: date, role: Role) -> Cycle | None:
    """What the last run of a date has made, or ``None`` before its first one."""
    content = layout.read_json(cycle_file(tables, day, role))
    return None if content is None else msgspec.convert(content, Cycle)


def cycle_days(tables: Any) -> list[date]:
    """The dates that were forecast, in order."""
    names = [entry.name.removesuffix(".json") for entry in layout.entries(tables / FOLDER)]
    return sorted(date.fromisoformat(name) for name in names if len(name) == len("2026-01-01"))
