"""The impact preview as the evidence of a release keeps it and as people read it.

Airflow's tasks read it too, so this module imports nothing heavy.
"""

import msgspec

from serving.scoring.described import described
from training.registry import tags


class Count(msgspec.Struct, frozen=True):
    """How many records, with the 95% interval (Wilson's) that chance alone gives a count in a list of this size."""

    value: int
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:,} ({self.low:,.0f} to {self.high:,.0f})"


class GroupImpact(msgspec.Struct, frozen=True, kw_only=True):
    """Who of one compared group would enter and leave the top of the list."""

    field: str
    group: str
    records: int
    top: int
    """In the top as the champion has it."""
    entering: Count
    leaving: Count

    @property
    def moved(self) -> float:
        """How much of the group the top would have more or less of, as a share of its records."""
        return abs(self.entering.value - self.leaving.value) / self.records


class Change(msgspec.Struct, frozen=True):
    """The challenger's probabilities minus the champion's, over all records."""

    mean: float
    low: float
    """The 95% interval of the mean."""
    high: float
    median: float
    """Of the changes without their signs, as the two below."""
    percentile_95: float
    largest: float


class Impact(msgspec.Struct, frozen=True, kw_only=True):
    """What would change for the records of one list."""

    source: str
    """Which list, in words."""
    entities: str
    """What people call the records."""
    rows: int
    """Records of the list."""
    records: int
    """Records that were scored: all, or those that the hash of their key has chosen."""
    top_share: float
    top: int
    """Records in the top: ``top_share`` of those that were scored."""
    entering: Count
    leaving: Count
    groups: list[GroupImpact] = []
    """Only groups of at least ten records."""
    change: Change
    outliers_before: Count
    """Outliers as the champion's model has it."""
    outliers: Count
    lacking: str = ""
    """Fields that a model knows and the definition has changed since, in words: they are missing to that model here."""
    answered_otherwise: int = 0
    """Records whose score by the champion is not the one that was recorded: something that it needs was not kept."""

    @property
    def share(self) -> str:
        return f"top {100 * self.top_share:g}%"

    @property
    def sentence(self) -> str:
        """What a person should know of it, as what follows a colon."""
        sampled = f", a sample of {self.records:,} scored" if self.records < self.rows else ""
        return (
            f"in {self.source} ({self.rows:,} {self.entities}{sampled}), {self.entering.value:,} (95% "
            f"{self.entering.low:,.0f} to {self.entering.high:,.0f}) of the {self.top:,} in the {self.share} would be "
            f"others. Scores move by {self.change.median:.3f} in the median, outliers are {self.outliers.value:,} "
            f"instead of {self.outliers_before.value:,}.{self._group}"
        )

    @property
    def _group(self) -> str:
        """Of which compared group the top would change most, as a sentence; empty where of none."""
        if not (moved := max(self.groups, key=lambda one: one.moved, default=None)) or not moved.moved:
            return ""
        return (
            f" {moved.field} {moved.group} changes most: {moved.entering.value:,} enter, {moved.leaving.value:,} leave."
        )

    @property
    def doubts(self) -> str:
        """What makes the preview less than the whole truth; empty where nothing does."""
        found = []
        if self.lacking:
            found.append(f"the preview does without fields that the definition has changed since: {self.lacking}")
        if self.answered_otherwise:
            found.append(
                f"for {self.answered_otherwise:,} previewed records the champion's score is not the recorded one, "
                "because the records lack something that it was given"
            )
        return "; ".join(found)


@described
class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """The impact of one release, or the reason why there is none to show."""

    challenger: str
    champion: str
    """The version in production; empty where nothing runs there."""
    reason: str = ""
    impact: Impact | None = None

    @property
    def sentence(self) -> str:
        """What a person should know of it, as what follows a colon."""
        return self.impact.sentence if self.impact else f"no preview, because {self.reason}."


def path(run_key: str) -> str:
    """Where the preview of a job with this key lies among the artifacts of the challenger's training run."""
    return f"{tags.PREVIEW_FOLDER}/{run_key}.json"
