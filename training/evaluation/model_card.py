"""The model card: what the model is, what it may be used for, and how good it is, in Markdown."""

from typing import Any

from training.config import JobConfig
from training.search.ensemble import Member

_FAMILY = {
    "logistic": "logistic regression on a piecewise linear design",
    "forest": "extremely randomised trees",
    "boosting": "histogram gradient boosting",
}
_METRIC = {
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC (average precision)",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "calibration_error": "Expected calibration error",
    "recall_top_10": "Leavers among the 10% with the highest risk",
    "recall_top_20": "Leavers among the 20% with the highest risk",
}


def write_card(config: JobConfig, members: list[Member], evaluation: dict[str, Any]) -> str:
    """The card as Markdown text."""
    data, latency = evaluation["data"], evaluation["latency"]
    weights = "\n".join(
        f"| {_FAMILY[m.parameters['family']]} | {m.weight:.2f} | "
        f"{', '.join(f'{k}={v}' for k, v in m.parameters.items() if k != 'family')} |"
        for m in members
    )
    return f"""# Model card: {config.model_name}

**Verdict: {evaluation["verdict"]}.** {"; ".join(evaluation["reasons"]) or "All floors are reached."}

## What it is for

It estimates the probability that an employee leaves, so that an employer can talk to people in time.
It is not made to decide about hiring, pay or dismissal, and its risk says nothing about why a single
person would leave. Data of other employers, countries or years may follow other rules: watch drift.

## Data

{data["rows"]} records (digest `{data["digest"]}`): {data["development_rows"]} to choose and train,
{data["holdout_rows"]} held out ({data["holdout_leavers"]} leavers). The hold-out is fixed by employee number;
no version of the model is ever trained on it. EmployeeCount, StandardHours and Over18 are constant and
EmployeeNumber identifies a person: they are accepted in requests and not used.

## Model

Calibrated blend: `P = sigmoid(bias + sum of weight x score)`, where a score is
log-odds, or the probability that a forest gives. Chosen among {evaluation["tuning"]["trials"]} trials
({evaluation["tuning"]["pruned"]} pruned) by ROC AUC in repeated stratified folds of the development rows.

| Member | Weight | Parameters |
|---|---|---|
{weights}

## Quality on the hold-out

| Metric | Challenger | Champion | Difference |
|---|---|---|---|
{_metric_rows(evaluation)}

In brackets: 95% bootstrap intervals.{_compared(evaluation)} Calibration before blending weights were fitted:
{evaluation["calibration"]["before"]:.3f} expected calibration error, after: {evaluation["calibration"]["after"]:.3f}.

## Fairness

Picked out: the {evaluation["fairness"]["selected_share"]:.0%} with the highest risk.

| Group | Rows | Leavers | Picked out | Leavers found | Predicted minus seen |
|---|---|---|---|---|---|
{_fairness_rows(evaluation["fairness"])}

Largest gaps: {_gaps(evaluation["fairness"])}. Groups are small: read the counts with the rates.

## What matters most

{_importance_rows(evaluation["importance"])}

## How it was made

Seed {config.seed}, git revision `{config.git_revision}`, code `{config.code_hash}`. Bundle and scikit-learn
agree to {evaluation["parity"]["probability"]:.1e} on {evaluation["parity"]["rows"]} rows. One record takes
{latency["classifier_us"]:.0f} microseconds in the classifier, {latency["latency_ms"]:.2f} ms with outliers and drift.
"""


def _figure(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def _metric_rows(evaluation: dict[str, Any]) -> str:
    champion, comparison = evaluation["champion"], evaluation["comparison"]
    rows = []
    for name, title in _METRIC.items():
        old = _figure(champion[name]) if champion else "none"
        difference = _figure(comparison["metrics"][name]["difference"]) if comparison else ""
        rows.append(f"| {title} | {_figure(evaluation['challenger'][name])} | {old} | {difference} |")
    return "\n".join(rows)


def _compared(evaluation: dict[str, Any]) -> str:
    comparison, rows = evaluation["comparison"], evaluation["data"]["holdout_rows"]
    if not comparison or comparison["rows"] == rows:
        return ""
    return f" The differences are those on the {comparison['rows']} hold-out rows of recent outcomes."


def _fairness_rows(fairness: dict[str, Any]) -> str:
    rows = []
    for attribute, groups in fairness["groups"].items():
        for name, group in groups.items():
            found = group["true_positive_rate"]
            rows.append(
                f"| {attribute}: {name} | {group['rows']} | {group['leavers']} | {group['selection_rate']:.0%} | "
                f"{'no leavers' if found is None else f'{found:.0%}'} | {group['calibration']:+.3f} |"
            )
    return "\n".join(rows)


def _gaps(fairness: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {gap['value']:.2f} ({gap['attribute']})"
        for name, gap in fairness["largest_gaps"].items()
    )


def _importance_rows(importance: dict[str, dict[str, float]]) -> str:
    largest = sorted(importance.items(), key=lambda item: -item[1]["mean"])[:8]
    return "\n".join(f"- {name}: {figure['mean']:.4f} of ROC AUC when shuffled" for name, figure in largest)
