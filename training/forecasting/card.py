"""The model card of a forecaster, in Markdown."""

from typing import Any

from training.config import JobConfig
from training.use_case import UseCase


def write_card(config: JobConfig, use_case: UseCase, evaluation: dict[str, Any]) -> str:
    """The card as Markdown text."""
    series, tuning, plain = use_case.forecast, evaluation["tuning"], evaluation["plain"]["metrics"]
    names = {"Challenger": evaluation["challenger"], "Seasonal naive": plain}
    if comparison := evaluation["comparison"]:
        names[f"Version {comparison['champion_version']} (champion then)"] = evaluation["champion"]
    heads = ["Figure", *names]
    rows = [
        [title, *(_figure(found[name]) for found in names.values())] for name, title in evaluation["titles"].items()
    ]
    known = ", ".join(one.field for one in series.known) or "nothing"
    recipe = ", ".join(f"{name}={value}" for name, value in tuning["recipe"]["boosting"].items())
    parts = [
        f"# Model card: {config.model_name}",
        f"**Verdict: {evaluation['verdict']}.** {'; '.join(evaluation['reasons']) or 'All thresholds are reached.'}",
        f"## What it is for\n\n{use_case.purpose}\n\n{use_case.misuse}",
        f"## Data\n\n{evaluation['data']['description']}, digest `{evaluation['data']['digest']}`. "
        f"Known of weeks to come: {known}; of weeks that have ended alone: {', '.join(series.unknown) or 'nothing'}.",
        f"## Model\n\nOne gradient boosting for all series, a model for each quantile (10%, 50%, 90%), with intervals "
        f"that are corrected on rolling origins. Series that mostly sell nothing are forecast by "
        f"{tuning['recipe']['intermittent'].upper()}. Chosen among {tuning['trials']} trials on the weeks before the "
        f"backtest: {recipe}.",
        f"## Quality in the backtest\n\n{_table(heads, rows)}\n\nIn brackets: 95% intervals, by bootstrap over series. "
        f"{'. '.join(evaluation['facts'])}.",
        *(f"### {shown['title']}\n\n{_table(shown['heads'], shown['rows'])}" for shown in evaluation["tables"]),
        f"## How it was made\n\nSeed {config.seed}, git revision `{config.git_revision}`, code `{config.code_hash}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _figure(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
