"""What the approver reads at the gate: the evidence document as Markdown."""

from typing import Any

import msgspec

from lifecycle.evidence import links
from lifecycle.evidence.document import Evidence, Night

INTERVALS = "Where the result names an interval, the low end of the interval is what the limit is compared with."
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
        lines = [self.heads, ["---"] * len(self.heads), *self.rows]
        return [f"| {' | '.join(line)} |" for line in lines]


def _figure(found: dict[str, Any] | None) -> str:
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})" if found else "-"


def metrics_table(evaluation: dict[str, Any]) -> Table:
    """Each metric by its title: the challenger's figure beside those of the models that it is compared with."""
    models = {"Challenger": evaluation["challenger"], "Champion": evaluation.get("champion")}
    models |= {"Plain logistic regression": evaluation["plain"]["metrics"]}
    if without := evaluation.get("without_protected"):
        models[_without(without)] = without["metrics"]
    rows = [
        [title, *(_figure((metrics or {}).get(name)) for metrics in models.values())]
        for name, title in evaluation["titles"].items()
    ]
    return Table(["Metric (95% interval)", *models], rows)


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


def _thresholds(evaluation: dict[str, Any]) -> list[str]:
    rows = [
        [title, value, limit, f"{'met' if passed else '**missed**'}{f': {note}' if note else ''}"]
        for title, value, limit, passed, note in threshold_rows(evaluation)
    ]
    return [*Table(["Threshold", "Value", "Limit", "Result"], rows).markdown(), "", INTERVALS]


def _groups(evaluation: dict[str, Any]) -> list[str]:
    table = gaps_table(evaluation)
    return [*table.markdown(), "", *(f"- {line}" for line in fed_because(evaluation)), ""] if table else []


def _band(evaluation: dict[str, Any]) -> list[str]:
    if not (band := evaluation.get("band")):
        return []
    share = f"{100 * band['share']:g}%"
    return [
        f"Answers say *top {share}* above a probability of {band['cut']:.4g}, where {band['records']} records of the "
        "hold-out lay: an aid to talk, and not a decision.",
        "",
    ]


def _staging(report: dict[str, Any]) -> list[str]:
    rows = ["| Check in staging | |", "|---|---|"]
    for check in report.get("checks", []):
        result = "passed" if check.get("passed") else "**failed**"
        rows.append(f"| {check.get('name')} | {result} {check.get('detail') or ''} |")
    return rows


def _drift(nights: list[Night]) -> list[str]:
    if not nights:
        return ["No night has been judged yet."]
    confirmed = (f" **Confirmed: {night.confirmed}.**" if night.confirmed else "" for night in nights)
    return [f"- {night.window}: {night.verdict}{said}" for night, said in zip(nights, confirmed, strict=True)]


def render(evidence: Evidence, *, mlflow_url: str, experiment_id: str) -> str:
    """Markdown for Airflow's required-actions page, newest facts first."""
    model, release, evaluation = evidence.model, evidence.release, evidence.evaluation
    run = links.mlflow_run(mlflow_url, experiment_id, model.training_run_id)
    replaced = evidence.replaces
    before = f"version {replaced.version} (`{replaced.digest}`)" if replaced else "nothing: this is the first release"
    lines = [
        f"**{model.name} version {model.version}** asks to replace {before} in production.",
        "",
        f"- Asked by **{release.requested_by}** at {release.requested_at}"
        + (f": {release.note}" if release.note else ""),
        f"- Verdict of the evaluation: **{model.verdict}** " + "; ".join(evaluation.get("reasons", [])),
        f"- Image: `{evidence.image.digest}`",
        f"- [Training run]({run}), [model card]({run}/artifacts), data digest `{model.data_digest}`, "
        f"code `{model.git_revision}`",
        "",
        *metrics_table(evaluation).markdown(),
        "",
        *_thresholds(evaluation),
        "",
        *_groups(evaluation),
        *_band(evaluation),
        *_staging(evidence.staging_report),
        "",
        "**Drift of the last nights**",
        "",
        *_drift(evidence.drift),
        "",
        "Time spent: " + ", ".join(f"{task} {seconds:.0f} s" for task, seconds in evidence.stage_seconds.items()),
        "",
        "Without an answer within the time limit the release is rejected.",
    ]
    return "\n".join(lines)
