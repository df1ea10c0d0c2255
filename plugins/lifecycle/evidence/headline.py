"""What a person decides a release by, in a few sentences: the same on the gate, in the terminal and on the pages.

Everything here is plain text: who shows it in Markdown or HTML escapes it.
"""

from typing import Any

import msgspec
from msgspec import UnsetType

from lifecycle.evidence.document import Evidence
from lifecycle.evidence.markdown import plain
from serving.verify.report import GOLDEN

CHAMPION, PLAIN = "champion", "Plain logistic regression"
"""What the challenger is compared with: the simple model is this one where the evaluation names no other."""
_EVEN = 0.5
_SHOWN_DIFFERENCE = 0.0005
"""A smaller difference shows as 0.000."""
_DETAIL = 160
"""Characters that a single thing that is unusual may take."""


class Headline(msgspec.Struct, frozen=True):
    """The sentences, on one line each."""

    lead: str
    """What asks to replace what."""
    rest: str
    """Which of them is better, who asked, what is unusual, and until when an answer counts."""

    def __str__(self) -> str:
        return f"{self.lead} {self.rest}"


def headline(evidence: Evidence) -> Headline:
    """The sentences about a release, from its evidence alone."""
    model, release, evaluation = evidence.model, evidence.release, evidence.evaluation
    lead = f"{model.name} version {model.version} asks to {_what(evidence)}"
    asked = f"Asked by {release.requested_by} at {moment(release.requested_at)}; trained on {trained_on(evaluation)}."
    found = unusual(evidence)
    odd = f"Unusual: {'; '.join(found)}." if found else "Nothing is unusual."
    parts = [better_or_worse(evaluation), asked, odd, until(evidence)]
    return Headline(plain(lead), plain(" ".join(filter(None, parts))))


def _what(evidence: Evidence) -> str:
    if evidence.replaces:
        return f"replace version {evidence.replaces.version} in production."
    return "go into production, where nothing runs yet."


def until(evidence: Evidence) -> str:
    """Until when an answer counts, and what silence means; empty in evidence that does not say it."""
    if not evidence.answer_by:
        return ""
    return f"Without an answer by {moment(evidence.answer_by)} this release is rejected."


def moment(time: str) -> str:
    """An RFC 3339 time in UTC as people read it, to the minute."""
    return f"{time[:16].replace('T', ' ')} UTC"


def trained_on(evaluation: dict[str, Any]) -> str:
    """The data that the challenger was trained on: its place, and its rows by where they come from."""
    data = evaluation["data"]
    if "description" in data:
        return str(data["description"])
    if "source" not in data:  # a version that an earlier release of this project trained
        return f"{data['rows']:,} rows"
    labelled = f" of the original and {data['labelled_rows']:,} labelled by outcomes" if data["labelled_rows"] else ""
    return f"{data['source']} ({data['original_rows']:,} rows{labelled})"


# --- better or worse ---


def titles(evaluation: dict[str, Any]) -> dict[str, str]:
    """What people call each figure, by name; in the evaluation's own order, the one that matters most first."""
    found: dict[str, str] = evaluation["titles"]
    return {name: found[name] for name in evaluation.get("figures", found)}


def compared(evaluation: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The model that the challenger is compared with, and the paired differences by metric."""
    if with_champion := (evaluation.get("comparison") or {}).get("metrics"):
        return CHAMPION, with_champion
    title = plain_title(evaluation)
    return f"{title[:1].lower()}{title[1:]}", evaluation["plain"].get("comparison") or {}


def plain_title(evaluation: dict[str, Any]) -> str:
    """What people call the simple model that every challenger is compared with."""
    return str(evaluation["plain"].get("title", PLAIN))


def period(evaluation: dict[str, Any]) -> str:
    """What people call the span of time that monitoring judges: ``night`` or ``week``."""
    return str(evaluation.get("period", "night"))


def facts(evaluation: dict[str, Any]) -> list[str]:
    """What the evaluation says in sentences, beside its figures."""
    return list(evaluation.get("facts", []))


def worse(found: dict[str, Any]) -> bool:
    """Whether the difference that people read is to the challenger's disadvantage.

    Evaluations of 0.1 do not say so. They have ``better``, the share of the resamples in which the challenger is the
    better one, and that may lean the other way.
    """
    if "worse" in found:
        return bool(found["worse"])
    return bool(found["difference"]["value"] != 0 and found["better"] < _EVEN)


def clear(found: dict[str, Any]) -> bool:
    """Whether the 95% interval of a difference leaves out 0."""
    paired = found["difference"]
    return bool(not paired["low"] <= 0 <= paired["high"])


def better_or_worse(evaluation: dict[str, Any]) -> str:
    """Which model is better by the first figure, by how much on the same rows, and how many figures got worse."""
    other, found = compared(evaluation)
    named = titles(evaluation)
    first = next((name for name in named if name in found), None)
    if first is None:
        return "No other model was compared with it on the same rows."
    return f"{_by_the_first(named[first], other, found[first])} {_all_figures(found)}"


def _by_the_first(title: str, other: str, found: dict[str, Any]) -> str:
    paired = found["difference"]
    by = f"{title} is {abs(paired['value']):.3f} {'higher' if paired['value'] > 0 else 'lower'}"
    interval = f"95% {paired['low']:+.3f} to {paired['high']:+.3f}"
    if abs(paired["value"]) < _SHOWN_DIFFERENCE:
        return f"It is as good as the {other}: {title} is the same to three digits ({interval})."
    if not clear(found):
        return f"Neither it nor the {other} is clearly better: {by}, and chance alone may do that ({interval})."
    return f"It is {'worse' if worse(found) else 'better'} than the {other}: {by} ({interval})."


def _all_figures(found: dict[str, Any]) -> str:
    got_worse = [one for one in found.values() if worse(one)]
    if not got_worse:
        return f"None of {len(found)} figures got worse."
    clearly = sum(map(clear, got_worse))
    return f"{len(got_worse)} of {len(found)} figures got worse, {clearly or 'none'} of them clearly."


# --- unusual ---


def compared_with(evaluation: dict[str, Any], running: str) -> str:
    """What the comparison says nothing about, where production no longer runs the version that it was made with."""
    then = compared_version(evaluation)
    if then == running:
        return ""
    before = f"version {then}, champion then" if then else "no champion"
    now = f"version {running} now: train again to compare them" if running else "nothing now"
    return f"It was compared with {before}, and production runs {now}."


def compared_version(evaluation: dict[str, Any]) -> str:
    """The version that was champion when the challenger was evaluated; empty where there was none."""
    return str((evaluation.get("comparison") or {}).get("champion_version") or "")


def champion_lacks(evaluation: dict[str, Any]) -> str:
    """Which of the champion's fields the definition has changed since, and what that means; empty where none."""
    lacks = (evaluation.get("comparison") or {}).get("champion_lacks")
    return (
        f"The champion was compared without fields that the definition has changed since: {lacks}. It may look worse "
        "here than it is."
        if lacks
        else ""
    )


def staging_checks(evidence: Evidence) -> list[dict[str, Any]]:
    """What was checked in staging; nothing where no server answers requests."""
    report = evidence.staging_report
    return [] if isinstance(report, UnsetType) else list(report.get("checks", []))


def trial(evidence: Evidence) -> str:
    """What the trial before staging found: where, for how long, and with which golden answers; empty without one."""
    report = evidence.trial_report
    if isinstance(report, UnsetType):
        return ""
    checks = {check["name"]: check for check in report["checks"]}
    failed = [name for name, check in checks.items() if not check["passed"]]
    found = f"failed {', '.join(failed)}" if failed else f"passed every check ({len(checks)})"
    golden = f"; golden answers: {checks[GOLDEN]['detail']}" if GOLDEN in checks else ""
    return f"Tried {report['where']}: {found} in {report['seconds']:.1f} s{golden}."


def unusual(evidence: Evidence) -> list[str]:
    """What an approver would not expect, the gravest first; empty where there is nothing."""
    evaluation, running = evidence.evaluation, evidence.replaces.version if evidence.replaces else ""
    missed = [
        f"{row['title']} is {row['value']:.4g}, which misses the limit of {row['limit']:.4g}"
        for row in evaluation.get("thresholds", [])
        if not row["passed"]
    ]
    failed = [
        f"{check.get('name')} failed in staging ({plain(check.get('detail') or 'no detail', _DETAIL)})"
        for check in staging_checks(evidence)
        if not check.get("passed")
    ]
    forced = (
        [] if evidence.model.verdict in ("passed", "") else [f"the evaluation's verdict is {evidence.model.verdict}"]
    )
    confirmed = (
        [f"drift is confirmed for {evidence.drift[0].confirmed}"]
        if evidence.drift and evidence.drift[0].confirmed
        else []
    )
    impact = evidence.preview.impact if evidence.preview else None
    doubts = [impact.doubts] if impact and impact.doubts else []
    same = running == evidence.model.version
    about = ["" if same else compared_with(evaluation, running), champion_lacks(evaluation)]
    fed = (evaluation.get("without_protected") or {}).get("reasons", {})
    seen = [f"the model sees {name}, by which groups are compared ({reason})" for name, reason in fed.items()]
    said = [*missed, *failed, *forced, *confirmed, *filter(None, about), *doubts, *seen]
    return [plain(one).rstrip(".") for one in said]
