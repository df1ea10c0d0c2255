"""The night's report: one HTML page that needs nothing beside itself, in light and dark."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from serving.scoring.contract import Field
from training.drift import charts
from training.drift.losses import Loss
from training.drift.reference import Reference
from training.drift.statistics import category_counts
from training.drift.verdict import PREDICTION, Finding, Limits, Quality, Verdict
from training.drift.window import Window
from training.inference_log.labels import Labels
from training.inference_log.outcomes_feed import Rejected
from training.use_case import Binary, UseCase

_BINS = 12
_REJECTED_SHOWN = 20
_STYLE = """
:root{color-scheme:light dark;--ink:#1d2733;--soft:#66717e;--paper:#fff;--line:#dde2e8;
--now:#2f6fb2;--bad:#b3261e;--good:#20744a}
@media (prefers-color-scheme:dark){:root{--ink:#e6eaef;--soft:#9aa5b1;--paper:#14191f;--line:#2c353f;
--now:#6ea8e5;--bad:#ff8a80;--good:#7bd3a3}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:70rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.4rem 0}
.soft{color:var(--soft)}.bad{color:var(--bad);font-weight:600}.good{color:var(--good);font-weight:600}
table{border-collapse:collapse;width:100%}th{font-weight:600;color:var(--soft)}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);vertical-align:middle}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.scroll{overflow-x:auto}
svg{display:block;max-width:100%}svg text{font-size:9px;fill:var(--soft)}svg .end{text-anchor:end}
.ref{fill:none;stroke:var(--soft)}.now{fill:var(--now);fill-opacity:.75}.over{fill:var(--bad)}
.limit{stroke:var(--bad);stroke-dasharray:4 3}
"""


def render(
    use_case: UseCase,
    verdict: Verdict,
    window: Window,
    reference: Reference | None,
    earlier: Sequence[Verdict],
    limits: Limits,
    rejected: Sequence[Rejected] = (),
    lost: Sequence[Loss] = (),
) -> str:
    """The page. ``earlier`` are the verdicts of the nights before, the latest last."""
    parts = [_head(verdict), _facts(use_case, verdict, window), _lost(lost), _rejected(rejected)]
    if verdict.quality:
        parts.append(_quality(use_case.binary, verdict.quality))
    if reference and verdict.findings:
        parts.append(_history([*earlier, verdict][-30:], limits))
        parts.append(_findings(verdict, window, reference, limits))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(use_case.title)}, night {escape(verdict.night)}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _head(verdict: Verdict) -> str:
    tone = "bad" if verdict.status == "drifted" or (verdict.quality and verdict.quality.lost) else "good"
    decision = "A new model is trained" if verdict.retrain else "No new model is trained"
    return (
        f"<h1>Night {escape(verdict.night)}: <span class={tone}>{escape(verdict.status)}</span></h1>"
        f"<p>{decision}: {escape('; '.join(verdict.reasons))}.</p>"
    )


def _facts(use_case: UseCase, verdict: Verdict, window: Window) -> str:
    judged = f"the champion's, the latest one of each {use_case.key}" if use_case.key else "all of the champion's"
    rows = [
        ("Champion", f"version {verdict.champion}" if verdict.champion else "none yet"),
        ("Scored records", f"{verdict.records:,} ({_versions(window)})"),
        ("Judged", f"{verdict.used:,} of {verdict.asked:,}: {judged}"),
        ("Labelled records", verdict.unjoined or f"{verdict.labels:,}"),
    ]
    if verdict.own:
        rows.append(("Asked by releases", f"{verdict.own:,} records, which count for nothing"))
    if verdict.feed:
        rows += _feed(verdict.feed)
    if verdict.changed:
        rows.append(("Not judged", f"{verdict.changed}: the definition has changed since the champion was trained"))
    if verdict.skewed:
        rows.append(("Clock", f"{verdict.skewed:,} records are more than a day off the log pipeline's time"))
    if verdict.outliers:
        one = verdict.outliers
        text = f"{one.share:.1%} (95% {one.low:.1%} to {one.high:.1%}), {one.reference:.1%} in the reference"
        rows.append(("Outliers", text + (" - drifted" if one.drifted else "")))
    if counts := verdict.counts:
        shares = ", ".join(f"{counts[key]:,} {key}" for key in ("kept", "duplicate", "foreign", "quarantined"))
        rows.append(("Log lines", f"{counts['read']:,} read = {shares}"))
        if counts["reasons"]:
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in counts["reasons"].items())
            rows.append(("Quarantine", reasons))
        if waiting := counts.get("waiting"):
            rows.append(("Waiting", f"{waiting:,} bytes of the export, for the rest of their line"))
    body = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows)
    return f"<h2>The night</h2><table>{body}</table>"


def _feed(feed: Labels) -> list[tuple[str, str]]:
    training = f"{feed.original:,} rows of {feed.origin}, {feed.labelled:,} labelled by outcomes"
    if feed.unjoined:
        return [("Training table", training)]
    rows = [
        ("Outcomes feed", f"{feed.told}, in {feed.files:,} files; newest: {feed.newest or 'none yet'}"),
        ("Training table", training),
    ]
    if feed.ignored:
        rows.append(("Left out knowingly", f"hidden, or open in a program: {', '.join(feed.ignored)}"))
    return rows


def _lost(lost: Sequence[Loss]) -> str:
    items = "".join(f"<li{' class=bad' if one.grave else ''}>{escape(one.text)}</li>" for one in lost)
    return f"<h2>What is missing</h2><ul>{items}</ul>" if lost else ""


def _versions(window: Window) -> str:
    return ", ".join(f"{count:,} of version {version}" for version, count in sorted(window.versions.items())) or "none"


def _rejected(rejected: Sequence[Rejected]) -> str:
    if not rejected:
        return ""
    more = f"<p class=soft>and {len(rejected) - _REJECTED_SHOWN:,} more</p>" if len(rejected) > _REJECTED_SHOWN else ""
    rows = "".join(
        f"<tr><td>{escape(one.file)}</td><td class=n>{one.row or ''}</td><td>{escape(one.reason)}</td></tr>"
        for one in rejected[:_REJECTED_SHOWN]
    )
    return (
        f"<h2>Outcomes that were rejected: {len(rejected):,}</h2>"
        f"<table><tr><th>File</th><th class=n>Row</th><th>Reason</th></tr>{rows}</table>{more}"
    )


def _quality(label: Binary, quality: Quality) -> str:
    kinds = f"{quality.positives:,} {label.positives}, {quality.labels - quality.positives:,} {label.negatives}"
    text = f"{quality.labels:,} outcomes of the champion's records have arrived: {escape(kinds)}."
    if quality.roc_auc is None or quality.calibration_error is None:
        return f"<h2>Live quality</h2><p>{text} Too few of one kind to measure.</p>"
    auc, error = quality.roc_auc, quality.calibration_error
    tone = "bad" if quality.lost else "good"
    return (
        f"<h2>Live quality</h2><p>{text}</p>"
        f"<p>ROC AUC <span class={tone}>{auc.value:.3f}</span> (95% {auc.low:.3f} to {auc.high:.3f}); "
        f"calibration error {error.value:.3f} ({error.low:.3f} to {error.high:.3f}); "
        f"{escape(label.positives)}: predicted {quality.predicted_share:.1%}, seen {quality.seen_share:.1%}.</p>"
    )


def _history(verdicts: Sequence[Verdict], limits: Limits) -> str:
    largest = [
        max((finding.effect for finding in one.findings), default=None) if one.findings else None for one in verdicts
    ]
    chart = charts.line(largest, limits.minimum_effect, [one.night for one in verdicts])
    return f"<h2>Largest effect, last {len(verdicts)} nights</h2><div class=scroll>{chart}</div>"


def _findings(verdict: Verdict, window: Window, reference: Reference, limits: Limits) -> str:
    fields = {field.name: field for field in reference.fields}
    ordered = sorted(verdict.findings, key=lambda one: (not one.drifted, -one.effect))
    rows = "".join(_finding(one, _chart(one, fields.get(one.name), window, reference)) for one in ordered)
    return (
        "<h2>Fields</h2>"
        f"<p class=soft>Drift: adjusted p below {limits.significance} and an effect of at least "
        f"{limits.minimum_effect} (KS distance, or total variation distance), "
        f"or more than {limits.unknown_share:.0%} unknown categories. "
        "PSI is the population stability index: 0.1 is little, 0.25 much; nothing is decided by it. "
        "Outline: reference; filled: this window.</p>"
        "<div class=scroll><table><tr><th>Field</th><th class=n>records</th><th class=n>effect</th>"
        "<th class=n>adjusted p</th><th class=n>PSI</th><th class=n>unknown</th><th>distribution</th></tr>"
        f"{rows}</table></div>"
    )


def _finding(one: Finding, chart: str) -> str:
    name = f"<span class=bad>{escape(one.name)}</span>" if one.drifted else escape(one.name)
    p_value = "&lt; 0.0001" if one.adjusted_p_value < 1e-4 else f"{one.adjusted_p_value:.4f}"
    return (
        f"<tr><td>{name}</td><td class=n>{one.n:,}</td><td class=n>{one.effect:.3f}</td><td class=n>{p_value}</td>"
        f"<td class=n>{one.psi:.3f}</td><td class=n>{one.unknown_share:.1%}</td><td>{chart}</td></tr>"
    )


def _chart(one: Finding, field: Field | None, window: Window, reference: Reference) -> str:
    if one.n == 0:
        return ""
    if field is not None and field.kind == "category":
        before = reference.arrays[field.name]
        now = category_counts(window.counts[field.name], field.categories)
        return charts.bars(
            (before / max(before.sum(), 1)).tolist(), (now / now.sum()).tolist(), [*field.categories, "unknown"]
        )
    if one.name == PREDICTION:
        known, (values, counts) = reference.predictions, window.predictions
    else:
        seen = window.counts[one.name]
        known = reference.arrays[one.name]
        values = np.array(sorted(seen), np.float64)
        counts = np.array([seen[value] for value in sorted(seen)], np.int64)
    return charts.bars(*_binned(known, values, counts))


def _binned(known: Any, values: Any, counts: Any) -> tuple[list[float], list[float], list[str]]:
    low, high = float(min(known[0], values[0])), float(max(known[-1], values[-1]))
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    before, _ = np.histogram(known, edges)
    now, _ = np.histogram(values, edges, weights=counts)
    labels = [f"{start:g} to {end:g}" for start, end in zip(edges[:-1].round(2), edges[1:].round(2), strict=True)]
    return (before / len(known)).tolist(), (now / counts.sum()).tolist(), labels
