"""What a night left out or could not judge, in the words that note, report and alert share."""

from collections.abc import Sequence
from datetime import date

import msgspec

from training.drift.limits import Limits
from training.drift.verdict import Verdict
from training.inference_log.labels import Labels

_SHOWN = 3


class Loss(msgspec.Struct, frozen=True):
    """One thing that was lost, or is missing."""

    kind: str
    """Of the alert: ``outcomes``, ``feed``, ``records``, ``export`` or ``quarantine``."""
    text: str
    grave: bool
    """It is beyond the limit of the settings, so people hear of it at once."""


def losses(verdict: Verdict, limits: Limits) -> list[Loss]:
    """Everything that a night lost, whether much or little."""
    found = [*_records(verdict, limits), *_export(verdict, limits)]
    return found if verdict.feed is None or verdict.unjoined else [*_feed(verdict.feed, limits), *found]


def _feed(feed: Labels, limits: Limits) -> list[Loss]:
    found = []
    if feed.rejected:
        text = f"{feed.rejected} rows or files of the outcomes feed were rejected"
        found.append(Loss("outcomes", text, feed.unread_share > limits.unread_share))
    if feed.gone:
        text = f"the outcomes feed has lost {_listed(feed.gone)}: what they said counts no more"
        found.append(Loss("feed", text, True))
    if feed.newest:
        days = (date.fromisoformat(feed.night) - date.fromisoformat(feed.newest)).days
        if days >= limits.feed_days:
            text = f"the outcomes feed has brought nothing new since {feed.newest} ({days} days)"
            found.append(Loss("feed", text, True))
    return found


def _records(verdict: Verdict, limits: Limits) -> list[Loss]:
    found = []
    if verdict.asked >= limits.minimum_records and verdict.most > limits.one_key_share * verdict.asked:
        text = f"{verdict.most} of the champion's {verdict.asked} records are about one key, and one of them counts"
        found.append(Loss("records", text, True))
    if verdict.status == "too few records" and verdict.records >= limits.minimum_records:
        text = (
            f"the night could not be judged although it has {verdict.records} records: {verdict.asked} are of version "
            f"{verdict.champion}, about {verdict.used} different keys"
        )
        found.append(Loss("records", text, True))
    if alone := sum(verdict.unpaired.values()):
        share = alone / (alone + verdict.records + verdict.own)
        reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(verdict.unpaired.items()))
        found.append(Loss("export", f"{alone} records lack their other half ({reasons})", share > limits.unread_share))
    return found


def _export(verdict: Verdict, limits: Limits) -> list[Loss]:
    found = []
    if lines := verdict.counts.get("quarantined"):
        share = lines / verdict.counts["read"]
        reasons = ", ".join(f"{reason}: {count}" for reason, count in verdict.counts["reasons"].items())
        text = f"{share:.1%} of {verdict.counts['read']} log lines are unreadable ({reasons})"
        # How many are too many stands in another part of the settings: whoever sends the alerts looks it up.
        found.append(Loss("quarantine", text, False))
    if strange := verdict.counts.get("strange"):
        share = len(strange) / (len(strange) + verdict.counts.get("blobs", 0))
        text = f"the export holds {_listed(strange)}, which no export is named like: nobody read it"
        found.append(Loss("export", text, share > limits.unread_share))
    if unread := verdict.counts.get("unread"):
        size, files = sum(one["bytes"] for one in unread), sum(one["blobs"] for one in unread)
        back = (date.fromisoformat(verdict.night) - date.fromisoformat(unread[0]["day"])).days + 1
        text = (
            f"no night has read {size:,} bytes of the export, in {files} file{'' if files == 1 else 's'} of "
            f"{_listed([one['day'] for one in unread])}, and none looks there again: set lookback_days in [retraining] "
            f"to {back} or more, and the next night reads them"
        )
        found.append(Loss("export", text, size / (size + verdict.counts.get("bytes", 0)) > limits.unread_share))
    return found


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(name.encode("utf-8", "backslashreplace").decode() for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
