"""The evidence of one release, as a page that people read: what the gate has no room for."""

import functools
import hashlib
import re
from typing import Any

import msgspec
from msgspec import UnsetType

from lifecycle import settings
from lifecycle.evidence import cost, gate_body, headline, links
from lifecycle.evidence import document as evidence
from lifecycle.evidence.document import Evidence
from lifecycle.evidence.gate_body import Table
from lifecycle.evidence.headline import Headline
from lifecycle.evidence.signature import SignatureError
from lifecycle.hooks import registry
from training.registry import tags

_RUN = re.compile(r"[0-9a-f]{32}")
_KEY = re.compile(r"[a-z0-9-]{1,63}")
_GROUP_FIGURES = {
    "rows": "Records",
    "positives": "Positives",
    "selection_rate": "Share picked out",
    "true_positive_rate": "Share found",
    "calibration": "Mean risk minus share of positives",
}


class EvidencePage(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows."""

    document: Evidence
    said: Headline
    digest: str
    """Of the document as it is stored."""
    unsigned: str
    """Why the signature of its decision does not count; empty where it does, or where nothing was decided."""
    metrics: Table
    thresholds: list[tuple[str, str, str, bool, str]]
    gaps: Table | None
    groups: list[Table]
    """The figures of each group, a table for each compared field."""
    fed_because: list[str]
    impact: Table | None
    facts: list[str]
    shown: list[tuple[str, Table]]
    """Further tables of the evaluation, by title."""
    cost: Table | None
    cost_said: str
    trial: str
    """What the trial before staging found, in a sentence; empty without one."""
    has_staging: bool
    period: str
    release_url: str
    version_url: str
    run_url: str
    card_url: str
    plots_url: str
    json_url: str


def read(use_case: str, run_id: str, key: str) -> EvidencePage | None:
    """The evidence with this key in a training run; ``None`` where there is none of this use case.

    Raises as ``registry_view.read`` does, and ``msgspec.MsgspecError`` where the document cannot be read.
    """
    from mlflow.exceptions import MlflowException

    if not _RUN.fullmatch(run_id) or not _KEY.fullmatch(key):
        return None
    try:
        text = registry.find_text(run_id, evidence.path(key))
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
            return None
        raise
    if text is None:
        return None
    document = evidence.decode(text)
    # A run of another use case, whose releases the reader may not see, has the same kind of address.
    if document.model.name != registry.model_name(use_case):
        return None
    return _page(document, text.encode())


def _page(document: Evidence, stored: bytes) -> EvidencePage:
    configured, model, evaluation = settings.load(), document.model, document.evaluation
    experiment_id = registry.experiment_of(model.training_run_id)
    run_url = functools.partial(links.mlflow_run, configured.mlflow_url, experiment_id, model.training_run_id)
    running = document.replaces.version if document.replaces else ""
    impact = document.preview.impact if document.preview else None
    return EvidencePage(
        document=document,
        said=headline.headline(document),
        digest=f"sha256:{hashlib.sha256(stored).hexdigest()}",
        unsigned=_unsigned(document, stored),
        metrics=gate_body.metrics_table(evaluation, running),
        thresholds=gate_body.threshold_rows(evaluation),
        gaps=gate_body.gaps_table(evaluation),
        groups=_groups(evaluation),
        fed_because=gate_body.fed_because(evaluation),
        impact=gate_body.impact_table(impact) if impact else None,
        facts=headline.facts(evaluation),
        shown=gate_body.shown_tables(evaluation),
        cost=Table(*cost.table(document.cost)) if document.cost else None,
        cost_said=cost.sentence(document.cost) if document.cost else "",
        trial=headline.trial(document),
        has_staging=not isinstance(document.staging_report, UnsetType),
        period=headline.period(evaluation),
        release_url=links.airflow_run(configured.airflow_url, document.release.dag_id, document.release.run_id),
        version_url=links.model_version(configured.mlflow_url, model.name, model.version),
        run_url=run_url(),
        card_url=run_url(f"{links.ARTIFACTS}/{tags.MODEL_CARD_FILE}"),
        plots_url=run_url(f"{links.ARTIFACTS}/{tags.PLOTS_FOLDER}"),
        json_url=run_url(f"{links.ARTIFACTS}/{evidence.path(document.release.key)}"),
    )


def _unsigned(document: Evidence, stored: bytes) -> str:
    try:
        if document.decision:
            evidence.check_signature(stored)
    except SignatureError as error:
        return str(error)
    return ""


def _groups(evaluation: dict[str, Any]) -> list[Table]:
    found = (evaluation.get("fairness") or {}).get("groups", {})
    return [
        Table(
            [field, *_GROUP_FIGURES.values()],
            [
                [name, *(_shown(members[name].get(figure)) for figure in _GROUP_FIGURES)]
                for name in sorted(members, key=_in_order)
            ],
        )
        for field, members in found.items()
    ]


def _in_order(group: str) -> tuple[float, bool, str]:
    """Bands (``under 30``, ``30 to under 40``) by where they begin; evidence keeps its members sorted as texts."""
    number = re.search(r"-?\d+(\.\d+)?", group)
    return (float(number[0]) if number else 0.0, not group.startswith("under "), group)


def _shown(figure: float | None) -> str:
    if figure is None:
        return "-"
    return f"{figure:,}" if isinstance(figure, int) else f"{figure:.3f}"
