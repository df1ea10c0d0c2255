"""What the approver reads at the gate: the evidence document as Markdown."""

from typing import Any

import msgspec

from lifecycle.evidence import links
from lifecycle.evidence.document import Evidence, Night
from lifecycle.evidence.markdown import code, table, text
from training.impact.record import GroupImpact, Impact, Preview

ROWS = 7
"""Figures that the gate shows at most; the page *Model releases* shows all."""
GROUPS = 2
"""Compared groups whose impact the gate shows: those of which the top of the list would change most."""
NOTE_LIMIT = 200
"""Characters of the requester's note that the gate shows."""
INTERVALS = "Where the result names an interval, the low end of the interval is what the limit is compared with."
_EVEN = 0.5
_GAPS = {
    "selection_rate": "Share picked out",
    "true_positive_rate": "Share found (true-positive rate)",
    "calibration": "Mean risk minus share of positives",
}


class Table(msgspec.Struct, frozen=True):
    """Heads of the columns, and rows of as many texts."""

    heads: list[str]
    rows: list[list[str]]

    def markdown(self) -> list[str]:
        return table([text(head) for head in self.heads], [[text(cell) for cell in row] for row in self.rows])


def _figure(found: dict[str, Any] | None) -> str:
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})" if found else "-"


def _compared_version(evaluation: dict[str, Any]) -> str:
    """The version that was champion when the challenger was evaluated; empty where there was none."""
    return str((evaluation.get("comparison") or {}).get("champion_version") or "")


def compared_with(evaluation: dict[str, Any], running: str) -> str:
    """What the comparison says nothing about, where production no longer runs the version that it was made with."""
    then = _compared_version(evaluation)
    if then == running:
        return ""
    before = f"version {then}, which was champion then" if then else "no champion, for there was none then"
    now = f"Production runs version {running} now" if running else "Production runs nothing now"
    return f"The evaluation compared with {before}. {now}: to compare with what runs now, train again."


def champion_lacks(evaluation: dict[str, Any]) -> str:
    """Which of the champion's fields the definition has changed since, and what that means; empty where none."""
    lacks = (evaluation.get("comparison") or {}).get("champion_lacks")
    return (
        f"The champion was compared without fields that the definition has changed since: {lacks}. It may look worse "
        "here than it is."
        if lacks
        else ""
    )


def metrics_table(evaluation: dict[str, Any], running: str) -> Table:
    """Each metric by its title: the challenger's figure beside those of the models that it is compared with.

    The champion's column names the version whose figures they are. ``running`` is the version in production.
    """
    then = _compared_version(evaluation)
    head = f"Version {then} ({'champion' if then == running else 'champion then'})" if then else "No champion then"
    models = {"Challenger": evaluation["challenger"], head: evaluation.get("champion")}
    models |= {"Plain logistic regression": evaluation["plain"]["metrics"]}
    if without := evaluation.get("without_protected"):
        models[_without(without)] = without["metrics"]
    other, compared = _compared(evaluation)
    rows = [
        [
            title,
            *(_figure((metrics or {}).get(name)) for metrics in models.values()),
            *([_difference(compared.get(name))] if compared else []),
        ]
        for name, title in evaluation["titles"].items()
    ]
    return Table(["Metric (95% interval)", *models, *([f"Challenger minus {other}"] if compared else [])], rows)


def _compared(evaluation: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The model that the challenger is compared with, and the paired differences by metric."""
    if with_champion := (evaluation.get("comparison") or {}).get("metrics"):
        return "champion", with_champion
    return "plain logistic regression", evaluation["plain"].get("comparison") or {}


def _difference(found: dict[str, Any] | None) -> str:
    if not found:
        return "-"
    paired = found["difference"]
    shown = f"{paired['value']:+.3f} ({paired['low']:+.3f} to {paired['high']:+.3f})"
    return f"{shown} {'WORSE' if _worse(found) else ''}".rstrip()


def _worse(found: dict[str, Any]) -> bool:
    """``better`` is the share of the resamples in which the challenger is the better one."""
    return bool(found["difference"]["value"] != 0 and found["better"] < _EVEN)


_SHOWN_DIFFERENCE = 0.0005
"""A smaller difference shows as 0.000."""


def better_or_worse(evaluation: dict[str, Any]) -> str:
    """One sentence: which model is better by the first figure, and by how much on the same rows."""
    other, compared = _compared(evaluation)
    first = next((name for name in evaluation["titles"] if name in compared), None)
    if first is None:
        return "No other model was compared with it on the same rows."
    title, found = evaluation["titles"][first], compared[first]
    paired = found["difference"]
    by = f"{title} is {abs(paired['value']):.3f} {'higher' if paired['value'] > 0 else 'lower'}"
    interval = f"95% interval of the difference {paired['low']:+.3f} to {paired['high']:+.3f}"
    if abs(paired["value"]) < _SHOWN_DIFFERENCE:
        return f"It is as good as the {other}: {title} is the same to three digits ({interval})."
    if paired["low"] <= 0 <= paired["high"]:
        return f"Neither it nor the {other} is clearly better: {by}, and chance alone may do that ({interval})."
    return f"It is {'worse' if _worse(found) else 'better'} than the {other}: {by} ({interval})."


def _without(without: dict[str, Any]) -> str:
    return f"Challenger without {', '.join(without['reasons'])}"


def gaps_table(evaluation: dict[str, Any]) -> Table | None:
    """The largest gaps between groups; ``None`` where the use case compares no groups."""
    if not (fairness := evaluation.get("fairness")):
        return None
    sets = {"Challenger": fairness}
    if without := evaluation.get("without_protected"):
        sets[_without(without)] = without["fairness"]
    rows = [[title, *(_gap(found["largest_gaps"][name]) for found in sets.values())] for name, title in _GAPS.items()]
    return Table(["Largest gap between groups", *sets], rows)


def _gap(gap: dict[str, Any]) -> str:
    return f"{gap['attribute']}: {_figure(gap)}" if gap["attribute"] else "too few records to compare"


def fed_because(evaluation: dict[str, Any]) -> list[str]:
    """Why the model sees fields that groups are compared by, a line for each field that it sees."""
    reasons = (evaluation.get("without_protected") or {}).get("reasons", {})
    return [f"The model sees {name}: {reason}" for name, reason in reasons.items()]


def trained_on(evaluation: dict[str, Any]) -> str:
    """The data that the challenger was trained on: its place, and its rows by where they come from."""
    data = evaluation["data"]
    if "source" not in data:  # a version that an earlier release of this project trained
        return f"{data['rows']} rows"
    return f"{data['source']}: {data['original_rows']} original rows and {data['labelled_rows']} labelled by outcomes"


def threshold_rows(evaluation: dict[str, Any]) -> list[tuple[str, str, str, bool, str]]:
    """Title, figure, limit in words, whether it is met, and a note; for each threshold."""
    words = {"minimum": "at least", "maximum": "at most"}
    return [
        (
            row["title"],
            f"{row['value']:.4g}",
            f"{words[row['kind']]} {row['limit']:.4g}",
            row["passed"],
            row.get("note") or "",
        )
        for row in evaluation.get("thresholds", [])
    ]


def _limits(evaluation: dict[str, Any]) -> list[str]:
    """A line for each limit that is missed, or one that says that none is."""
    rows = threshold_rows(evaluation)
    missed = [
        f"- **Limit missed:** {text(title)} is {value}, allowed is {limit}{f' ({text(note)})' if note else ''}"
        for title, value, limit, passed, note in rows
        if not passed
    ]
    met = ", ".join(f"{text(title)} {value} ({limit})" for title, value, limit, passed, _ in rows if passed)
    return [*missed, f"- Limits met: {met or 'none'}"]


def _groups(evaluation: dict[str, Any]) -> list[str]:
    found = gaps_table(evaluation)
    if not found:
        return []
    names = found.heads[1:]
    gaps = [
        f"- Largest gap between groups, {text(title)}: "
        + "; ".join(text(f"{name} {gap}") for name, gap in zip(names, row, strict=True))
        for title, *row in found.rows
    ]
    return [*gaps, *(f"- {text(line)}" for line in fed_because(evaluation))]


def _band(evaluation: dict[str, Any]) -> list[str]:
    if not (band := evaluation.get("band")):
        return []
    share = f"{100 * band['share']:g}%"
    return [
        f"- Answers say *top {share}* above a probability of {band['cut']:.4g}, where {band['records']} records of the "
        "hold-out lay: an aid to talk, and not a decision.",
    ]


def _staging(report: dict[str, Any]) -> list[str]:
    checks = report.get("checks", [])
    failed = [
        f"- **Failed in staging:** {text(check.get('name'))}: {text(check.get('detail') or '')}"
        for check in checks
        if not check.get("passed")
    ]
    return [
        *failed,
        f"- Passed in staging: {', '.join(text(c.get('name')) for c in checks if c.get('passed')) or 'nothing'}",
    ]


def _drift(nights: list[Night]) -> list[str]:
    if not nights:
        return ["- Drift: no night has been judged yet"]
    return [
        f"- Drift in the night of {text(night.window)}: {text(night.verdict)}"
        + (f" **Confirmed: {text(night.confirmed)}.**" if night.confirmed else "")
        for night in nights
    ]


def impact_table(impact: Impact, most: int | None = None) -> Table:
    """Who would enter and leave the top of the list: all, then ``most`` groups, those that change most first."""

    def moved(group: GroupImpact) -> float:
        return abs(group.entering.value - group.leaving.value) / group.records

    groups = sorted(impact.groups, key=moved, reverse=True)[:most]
    counted: list[tuple[str, Impact | GroupImpact]] = [("all", impact)]
    counted += [(f"{one.field}: {one.group}", one) for one in groups]
    rows = [[name, f"{one.records:,}", f"{one.top:,}", str(one.entering), str(one.leaving)] for name, one in counted]
    heads = [f"Impact on the {impact.share}", "Records", "In it now", "Would enter (95% interval)", "Would leave"]
    return Table(heads, rows)


def _impact(preview: Preview | None) -> list[str]:
    if preview is None:
        return []
    shown = impact_table(preview.impact, GROUPS).markdown() if preview.impact else []
    return ["", text(preview.sentence), "", *shown]


def _note(note: str) -> list[str]:
    """Last, so that nothing stands below what the requester may write."""
    return ["", "The requester's note:", "", f"> {text(note, NOTE_LIMIT)}"] if note.strip() else []


def render(evidence: Evidence, *, mlflow_url: str, experiment_id: str, response_hours: float) -> str:
    """Markdown for Airflow's required-actions page: what asks to replace what, is it better, what is unusual."""
    model, release, evaluation = evidence.model, evidence.release, evidence.evaluation
    run = links.mlflow_run(mlflow_url, experiment_id, model.training_run_id)
    replaced = evidence.replaces
    running = replaced.version if replaced else ""
    before = f"version {text(running)} in production" if replaced else "nothing: this is the first release"
    reasons = "; ".join(text(reason) for reason in evaluation.get("reasons", []))
    figures = metrics_table(evaluation, running)
    lines = [
        f"**{text(model.name)} version {text(model.version)}** asks to replace {before}. "
        f"{text(better_or_worse(evaluation))}",
        "",
        *filter(None, [text(compared_with(evaluation, running)), text(champion_lacks(evaluation))]),
        "",
        f"- Asked by **{text(release.requested_by)}** at {text(release.requested_at)}",
        f"- Verdict of the evaluation: **{text(model.verdict or 'unknown')}** {reasons}".rstrip(),
        *_limits(evaluation),
        *_groups(evaluation),
        *_band(evaluation),
        *_staging(evidence.staging_report),
        *_drift(evidence.drift),
        "",
        *Table(figures.heads, figures.rows[:ROWS]).markdown(),
        *_impact(evidence.preview),
        "",
        f"- Image: {code(evidence.image.reference)}" + (f", in place of {code(replaced.image)}" if replaced else ""),
        f"- [Training run]({run}), [model card]({run}/artifacts), code {code(model.git_revision)}",
        f"- Trained on {text(trained_on(evaluation))}, digest {code(model.data_digest)}",
        "- Time spent: "
        + ", ".join(f"{text(task)} {seconds:.0f} s" for task, seconds in evidence.stage_seconds.items()),
        "",
        f"An answer counts for {response_hours:g} hours from the first question on. Silence rejects the release.",
        *_note(release.note),
    ]
    return "\n".join(lines)
