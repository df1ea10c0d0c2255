"""What the approver reads at the gate: the evidence document as Markdown."""

from typing import Any

from lifecycle.evidence import links
from lifecycle.evidence.document import Evidence, Night

_METRICS = {
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "calibration_error": "Calibration error",
    "recall_top_10": "Recall among the 10% with the highest probability",
    "recall_top_20": "Recall among the 20% with the highest probability",
}


INTERVALS = "A figure with an interval in its result is compared by the lower bound of that interval."


def _metric(metrics: dict[str, Any] | None, name: str) -> str:
    if not metrics or name not in metrics:
        return "-"
    metric = metrics[name]
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


def metric_rows(evaluation: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Label, the challenger's figure and the champion's, each with its 95% interval; the best known first."""
    challenger, champion = evaluation["challenger"], evaluation.get("champion")
    known = [name for name in _METRICS if name in challenger]
    others = sorted(set(challenger) - set(_METRICS))
    return [
        (_METRICS.get(name, name), _metric(challenger, name), _metric(champion, name)) for name in [*known, *others]
    ]


def _metrics_table(evaluation: dict[str, Any]) -> list[str]:
    rows = ["| Metric (95% interval) | Challenger | Champion |", "|---|---|---|"]
    return rows + [f"| {' | '.join(row)} |" for row in metric_rows(evaluation)]


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
    lines = ["| Threshold | Value | Limit | Result |", "|---|---|---|---|"]
    for title, value, limit, passed, note in threshold_rows(evaluation):
        result = "met" if passed else "**missed**"
        lines.append(f"| {title} | {value} | {limit} | {result}{f': {note}' if note else ''} |")
    return [*lines, "", INTERVALS]


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
        *_metrics_table(evaluation),
        "",
        *_thresholds(evaluation),
        "",
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
