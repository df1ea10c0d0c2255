"""The model card: what the model is, what it may be used for, and how good it is, in Markdown."""

import itertools
from typing import Any

from training.config import JobConfig
from training.search.ensemble import Member
from training.use_case import UseCase

_FAMILY = {
    "logistic": "logistic regression on a piecewise linear design",
    "forest": "extremely randomised trees",
    "boosting": "histogram gradient boosting",
}


def write_card(config: JobConfig, use_case: UseCase, members: list[Member], evaluation: dict[str, Any]) -> str:
    """The card as Markdown text."""
    data, latency, label = evaluation["data"], evaluation["latency"], use_case.binary
    weights = "\n".join(
        f"| {_FAMILY.get(m.parameters['family'], m.parameters['family'])} | {m.weight:.2f} | "
        f"{', '.join(f'{k}={_rounded(v)}' for k, v in m.parameters.items() if k != 'family')} |"
        for m in members
    )
    fixed_by = f"the field {use_case.key}" if use_case.key else "the values of each row"
    return _one_line_each(f"""# Model card: {config.model_name}

**Verdict: {evaluation["verdict"]}.** {"; ".join(evaluation["reasons"]) or "All thresholds are reached."}

## What it is for

{use_case.purpose}

{use_case.misuse}

## Data

`{data["source"]}`, digest `{data["digest"]}`: {data["rows"]:,} {use_case.entities}, {data["original_rows"]:,} of them
original and {data["labelled_rows"]:,} labelled by outcomes. {data["development_rows"]:,} served to choose and train.
Held out were {data["holdout_rows"]:,} ({data["holdout_positives"]:,} {label.positives}). The hold-out is fixed by
{fixed_by}; no version of the model is ever trained on it. {_not_seen(use_case)}

## Model

Stacked and calibrated ensemble: `P = sigmoid(bias + sum of weight x score)`, where a score is
log-odds, or the probability that a forest gives. Chosen among {evaluation["tuning"]["trials"]} trials
({evaluation["tuning"]["pruned"]} pruned) by ROC AUC in repeated stratified folds of the development rows.

| Member | Weight | Parameters |
|---|---|---|
{weights}

{_computed(use_case, evaluation)}## Quality on the hold-out

{_metrics(evaluation)}

In brackets: 95% bootstrap intervals.{_compared(evaluation)} Calibration before the weights were fitted:
{evaluation["calibration"]["before"]:.3f} expected calibration error, after: {evaluation["calibration"]["after"]:.3f}.

{_fairness(use_case, evaluation)}## What matters most

{_importance_rows(evaluation["importance"])}

## How it was made

Seed {config.seed}, git revision `{config.git_revision}`, code `{config.code_hash}`. Bundle and scikit-learn
agree to {evaluation["parity"]["probability"]:.1e} on {evaluation["parity"]["rows"]} rows. One record takes
{latency["classifier_us"]:.0f} microseconds in the classifier, {latency["latency_ms"]:.2f} ms with outliers and drift.
""")


def _one_line_each(text: str) -> str:
    """Markdown whose paragraphs are a line each: MLflow breaks a line where the text does."""

    def is_prose(line: str) -> bool:
        return bool(line) and not line.startswith(("#", "|", "- "))

    parts = itertools.groupby(text.split("\n"), is_prose)
    return "\n".join(" ".join(lines) if prose else "\n".join(lines) for prose, lines in parts)


def _rounded(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _computed(use_case: UseCase, evaluation: dict[str, Any]) -> str:
    """What the table of members does not say, with a blank line behind; empty where there is nothing to add."""
    sentences = []
    if use_case.part("features"):
        sentences.append("Between a member's design matrix and its model stand features of its own (features.py).")
    if not evaluation["gives_reasons"]:
        sentences.append("It gives no reasons for single records.")
    return "\n".join([*sentences, "", ""]) if sentences else ""


def _figure(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def _metrics(evaluation: dict[str, Any]) -> str:
    """Each figure beside those of the version that was champion then, if there was one, and of the simple model."""
    champion, comparison, plain = evaluation["champion"], evaluation["comparison"], evaluation["plain"]
    heads, rows = ["Metric", "Challenger"], []
    if comparison:
        heads += [f"Version {comparison['champion_version']} (champion then)", "Difference"]
    heads.append("Plain logistic regression")
    for name, title in evaluation["titles"].items():
        row = [title, _figure(evaluation["challenger"][name])]
        if comparison:
            row += [_figure(champion[name]), _figure(comparison["metrics"][name]["difference"])]
        rows.append([*row, _figure(plain["metrics"][name])])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows))


def _compared(evaluation: dict[str, Any]) -> str:
    comparison, rows = evaluation["comparison"], evaluation["data"]["holdout_rows"]
    if not comparison or comparison["rows"] == rows:
        return ""
    return f" The differences are those on the {comparison['rows']} hold-out rows of recent outcomes."


def _not_seen(use_case: UseCase) -> str:
    """What is in a request and no model sees, by reason."""
    carried = [field.name for field in use_case.fields if field.role == "carried"]
    compared = [field.name for field in use_case.fields if field.role == "compared"]
    sentences = []
    if carried:
        sentences.append(f"Accepted in requests and not used: {', '.join(carried)}.")
    if compared:
        sentences.append(f"Not used either, and only there to compare groups: {', '.join(compared)}.")
    return " ".join(sentences)


def _fairness(use_case: UseCase, evaluation: dict[str, Any]) -> str:
    """The section about groups, with a blank line behind; empty where no groups are compared."""
    fairness, label = evaluation.get("fairness"), use_case.binary
    if fairness is None:
        return ""
    titled = label.positives[:1].upper() + label.positives[1:]
    return f"""## Fairness

Picked out: the {fairness["selected_share"]:.0%} with the highest risk.

| Group | Rows | {titled} | Picked out | {titled} found | Predicted minus seen |
|---|---|---|---|---|---|
{_fairness_rows(fairness, label.positives)}

Largest gaps: {_gaps(fairness)}. Groups are small: read the counts with the rates.{_protected(evaluation)}

"""


def _protected(evaluation: dict[str, Any]) -> str:
    """What the fields are worth that the model sees and groups are compared by."""
    without = evaluation.get("without_protected")
    if without is None:
        return ""
    fed = "; ".join(f"{name}, because {reason}" for name, reason in without["reasons"].items())
    return f"""

The model sees {fed}. Without that, ROC AUC is {_figure(without["metrics"]["roc_auc"])}, and the largest gaps are
{_gaps(without["fairness"])}."""


def _fairness_rows(fairness: dict[str, Any], positives: str) -> str:
    rows = []
    for attribute, groups in fairness["groups"].items():
        for name, group in groups.items():
            found = group["true_positive_rate"]
            rows.append(
                f"| {attribute}: {name} | {group['rows']} | {group['positives']} | {group['selection_rate']:.0%} | "
                f"{f'no {positives}' if found is None else f'{found:.0%}'} | {group['calibration']:+.3f} |"
            )
    return "\n".join(rows)


def _gaps(fairness: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {gap['value']:.2f} ({gap['attribute'] or 'groups too small to compare'})"
        for name, gap in fairness["largest_gaps"].items()
    )


def _importance_rows(importance: dict[str, dict[str, float]]) -> str:
    largest = sorted(importance.items(), key=lambda item: -item[1]["mean"])[:8]
    return "\n".join(f"- {name}: {figure['mean']:.4f} of ROC AUC when shuffled" for name, figure in largest)
