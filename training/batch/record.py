"""What a run of the batch scoring says of itself, for the tasks that come after it."""

from datetime import date
from typing import Any

import msgspec

from training.inference_log import layout

_FOLDER = "batches"


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one run made: ``batches/DATE.json``, written last."""

    day: str
    """The date that was scored, ISO 8601."""
    source: str
    version: str
    bundle_digest: str
    rows: int
    scored: int
    rejected: int
    outliers: int
    left_out: tuple[str, ...] = ()
    """Columns of the table that the contract does not know."""

    @property
    def note(self) -> str:
        """All of it, in a sentence or two."""
        text = (
            f"{self.rows} rows of {self.source} for {self.day}: {self.scored} scored by version {self.version} "
            f"({self.outliers} outliers), {self.rejected} rejected"
        )
        return f"{text}. Columns that the model does not know: {', '.join(self.left_out)}" if self.left_out else text


def batch_file(tables: Any, day: date) -> Any:
    """Where a date's ``Batch`` lies; ``tables`` may be any path that can be joined with ``/``."""
    return tables / _FOLDER / f"{day.isoformat()}.json"


def read_batch(tables: Any, day: date) -> Batch | None:
    """What the last run of a date has made, or ``None`` before its first one."""
    content = layout.read_json(batch_file(tables, day))
    return None if content is None else msgspec.convert(content, Batch)


def newest_batch(tables: Any) -> Batch | None:
    """What the run of the newest date that was scored has made, or ``None`` before the first one."""
    files = sorted((file for file in layout.entries(tables / _FOLDER) if file.suffix == ".json"), key=lambda f: f.name)
    return msgspec.convert(layout.read_json(files[-1]), Batch) if files else None
