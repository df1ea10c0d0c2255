"""What the approver reads at the gate: the evidence document as Markdown."""

import re
from typing import Any

import msgspec
from msgspec import UnsetType

from lifecycle.evidence import headline, links
from lifecycle.evidence.document import Evidence, Night
from lifecycle.evidence.markdown import code, table, text
from training.impact.record import GroupImpact, Impact, Preview
from training.registry import tags

ROWS = 3
"""Figures that the gate shows at most: *Approve* is seen without scrolling at 1,280 x 900. The pages show all."""
NOTE_LIMIT = 200
"""Characters of the requester's note that the gate shows."""
TOLD_LIMIT = 300
"""Characters of what the evaluation says beside its figures: two lines and a half, which take the place of a figure."""
INTERVALS = "Where the result names an interval, the low end of the interval is what the limit is compared with."
_LAST = 3
_LOW_END = ", low end of the 95% interval"
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
        """A table whose cells keep to one line; the first column alone may break."""
        return table([*map(_unbroken, self.heads)], [[text(row[0]), *map(_unbroken, row[1:])] for row in self.rows])


def _unbroken(cell: str) -> str:
    return text(cell).replace(" ", "\N{NO-BREAK SPACE}")


def _figure(found: dict[str, Any] | None) -> str:
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})" if found else "-"


def _difference(found: dict[str, Any] | None) -> str:
    if not found:
        return "-"
    paired = found["difference"]
    shown = f"{paired['value']:+.3f} ({paired['low']:+.3f} to {paired['high']:+.3f})"
    return f"{shown} {'WORSE' if headline.worse(found) else ''}".rstrip()


def _champion(evaluation: dict[str, Any], running: str) -> str:
    """Whose figures stand in the champion's column, where ``running`` is the version in production."""
    then = headline.compared_version(evaluation)
    return f"Version {then} ({'champion' if then == running else 'champion then'})"


def metrics_table(evaluation: dict[str, Any], running: str) -> Table:
    """Each metric by its title: the challenger's figure beside those of the models that it is compared with.

    The champion's column names the version whose figures they are. ``running`` is the version in production.
    """
    models = {"Challenger": evaluation["challenger"]}
    if champion := evaluation.get("champion"):
        models[_champion(evaluation, running)] = champion
    models[headline.plain_title(evaluation)] = evaluation["plain"]["metrics"]
    if without := evaluation.get("without_protected"):
        models[_without(without)] = without["metrics"]
    other, compared = headline.compared(evaluation)
    rows = [
        [
            title,
            *(_figure((metrics or {}).get(name)) for metrics in models.values()),
            *([_difference(compared.get(name))] if compared else []),
        ]
        for name, title in headline.titles(evaluation).items()
    ]
    return Table(["Metric (95% interval)", *models, *([f"Challenger minus {other}"] if compared else [])], rows)


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


def impact_table(impact: Impact) -> Table:
    """Who would enter and leave the top of the list: all, then the compared groups, those that change most first."""
    groups = sorted(impact.groups, key=lambda one: one.moved, reverse=True)
    counted: list[tuple[str, Impact | GroupImpact]] = [("all", impact)]
    counted += [(f"{one.field}: {one.group}", one) for one in groups]
    rows = [[name, f"{one.records:,}", f"{one.top:,}", str(one.entering), str(one.leaving)] for name, one in counted]
    heads = [f"Impact on the {impact.share}", "Records", "In it now", "Would enter (95% interval)", "Would leave"]
    return Table(heads, rows)


def decisive(evaluation: dict[str, Any], running: str, most: int = ROWS) -> Table:
    """At most ``most`` figures: what missed its limit or got clearly worse, what has a limit, and the first others.

    A limit that no figure of the comparison has, such as on the time for an answer, comes last where it is met.
    """
    other, found = headline.compared(evaluation)
    with_champion = other == headline.CHAMPION
    against = (evaluation["champion"] if with_champion else evaluation["plain"]["metrics"]) or {}
    titles = headline.titles(evaluation)
    limits: dict[str, list[dict[str, Any]]] = {}
    for row in evaluation.get("thresholds", []):
        limits.setdefault(_judged_metric(row, titles), []).append(row)
    rows = []
    for name, title in titles.items():
        judged = limits.pop(name, [])
        cells = [title, _value(against.get(name)), _value(evaluation["challenger"].get(name))]
        rows.append((_rank(judged, found.get(name)), [*cells, _difference(found.get(name)), _limit(judged)]))
    for title, judged in limits.items():
        rows.append((_rank(judged, None) and _LAST, [title, "-", f"{judged[0]['value']:.4g}", "-", _limit(judged)]))
    chosen = sorted(sorted(range(len(rows)), key=lambda place: rows[place][0])[:most])
    named = _champion(evaluation, running) if with_champion else other.capitalize()
    heads = ["Figure", named, "This version", "Difference (95%)", "Limit"]
    return Table(heads, [rows[place][1] for place in chosen])


def _judged_metric(row: dict[str, Any], titles: dict[str, str]) -> str:
    """The metric that a threshold limits, or the threshold's own title."""
    name = re.sub(r"^(minimum|maximum)_|_low$", "", row.get("name", ""))
    return name if name in titles else str(row["title"]).removesuffix(_LOW_END)


def _is_low_end(row: dict[str, Any]) -> bool:
    return row.get("name", "").endswith("_low") or str(row["title"]).endswith(_LOW_END)


def _rank(judged: list[dict[str, Any]], found: dict[str, Any] | None) -> int:
    if not all(row["passed"] for row in judged) or (found and headline.worse(found) and headline.clear(found)):
        return 0
    return 1 if judged else 2


def _value(figure: dict[str, Any] | None) -> str:
    return f"{figure['value']:.3f}" if figure else "-"


def _limit(judged: list[dict[str, Any]]) -> str:
    signs = {"minimum": "≥", "maximum": "≤"}
    told = [
        f"{'low end ' if _is_low_end(row) else ''}{signs[row['kind']]} {row['limit']:.4g}"
        f"{'' if row['passed'] else ' MISSED'}"
        for row in judged
    ]
    return f"{', '.join(told)}{': met' if judged and all(row['passed'] for row in judged) else ''}"


def _impact(preview: Preview | None) -> list[str]:
    return [f"- Impact: {text(preview.sentence)}"] if preview else []


def shown_tables(evaluation: dict[str, Any]) -> list[tuple[str, Table]]:
    """Title and content of the tables that an evaluation wants shown beside its figures."""
    return [(one["title"], Table(one["heads"], one["rows"])) for one in evaluation.get("tables", [])]


def _told(evaluation: dict[str, Any]) -> str:
    """What the evaluation says beside its figures: facts, and a sentence for each table that the pages show.

    Empty where it says nothing; otherwise a blank and the sentences.
    """
    tables = [one["gate"] for one in evaluation.get("tables", []) if "gate" in one]
    said = " ".join(filter(None, [*(f"{fact}." for fact in headline.facts(evaluation)), *tables]))
    return f" {text(said, TOLD_LIMIT)}" if said else ""


def _staging(evidence: Evidence) -> str:
    """Empty where nothing runs in staging; otherwise a sentence and a blank."""
    if isinstance(evidence.staging_report, UnsetType):
        return ""
    checks = headline.staging_checks(evidence)
    failed = [text(check.get("name")) for check in checks if not check.get("passed")]
    if failed:
        return f"Staging: **failed {', '.join(failed)}** ({len(failed)} of {len(checks)} checks). "
    return f"Staging: passed every check ({len(checks)}). " if checks else "Staging: nothing was checked. "


def _scan(evidence: Evidence) -> str:
    """Empty where nothing was built; otherwise a short sentence and a blank."""
    found = evidence.image.scan
    return "" if isinstance(found, UnsetType) else f"{text(found.short)} "


def _unsigned(evidence: Evidence) -> str:
    """What the settings let through unsigned, in a short sentence and a blank; mostly empty."""
    found, built = evidence.image.signed_by, isinstance(evidence.image.bundle, UnsetType)
    if isinstance(found, UnsetType):
        return ""
    lacking = [] if found.bundle else ["bundle"]
    lacking += ["image"] if built and not found.image else []
    return f"**Not signed: {', '.join(lacking)}.** " if lacking else ""


def _drift(nights: list[Night], period: str) -> str:
    if not nights:
        return f"Drift: no {period} has been judged yet."
    last = nights[0]
    confirmed = f" **Confirmed: {text(last.confirmed)}.**" if last.confirmed else ""
    return f"Drift in the {period} of {text(last.window)}: {text(last.said)}.{confirmed}"


def _digests(evidence: Evidence, page: str, card: str, glossary: str) -> str:
    """One line: what is approved, short; the page has all of it."""
    replaced = f" in place of {code(_short(evidence.replaces.image))}" if evidence.replaces else ""
    commit, changed, _ = evidence.model.git_revision.partition("+")
    revision = f"{commit[:12]}{changed and '+changes'}"
    return (
        f"- {_content(evidence)}{replaced}, data {code(_short(evidence.model.data_digest))}, "
        f"code {code(revision)}. [All evidence]({page}), "
        f"[model card]({card}), [glossary]({glossary})"
    )


def _content(evidence: Evidence) -> str:
    """What is approved, short: an image, or a model's bundle together with the code that runs it."""
    image = evidence.image
    if isinstance(image.bundle, UnsetType) or isinstance(image.code, UnsetType):
        return f"Image {code(_short(image.reference))}"
    parts = f"bundle {code(_short(image.bundle))} and the code {code(image.code)}"
    return f"Model {code(_short(image.reference))}, which is {parts}"


def _short(digest: str) -> str:
    """The first twelve characters of what stands behind an image's or a digest's last colon."""
    return digest.rpartition(":")[2][:12]


def _note(note: str) -> list[str]:
    """Last, so that nothing stands below what the requester may write."""
    return ["", f"> **Note:** {text(note, NOTE_LIMIT)}"] if note.strip() else []


def render(evidence: Evidence, *, mlflow_url: str, airflow_url: str, experiment_id: str) -> str:
    """Markdown for Airflow's required-actions page, of which *Approve* is seen without scrolling."""
    model = evidence.model
    card = links.mlflow_run(
        mlflow_url, experiment_id, model.training_run_id, f"{links.ARTIFACTS}/{tags.MODEL_CARD_FILE}"
    )
    page = links.evidence_page(airflow_url, model.use_case, model.training_run_id, evidence.release.key)
    said, told = headline.headline(evidence), _told(evidence.evaluation)
    running = evidence.replaces.version if evidence.replaces else ""
    lines = [
        f"**{text(said.lead)}** {text(said.rest)}",
        "",
        *decisive(evidence.evaluation, running, ROWS - bool(told)).markdown(),
        "",
        *_impact(evidence.preview),
        *(f"- {text(trial)}" for trial in filter(None, [headline.trial(evidence)])),
        f"- {_staging(evidence)}{_scan(evidence)}{_unsigned(evidence)}"
        f"{_drift(evidence.drift, headline.period(evidence.evaluation))}{told}",
        _digests(evidence, page, card, links.glossary_page(airflow_url)),
        *_note(evidence.release.note),
    ]
    return "\n".join(lines)
