"""Judge one curated night: read the window and the outcomes, decide, and write verdict and report."""

from datetime import date
from pathlib import Path

import msgspec
import numpy as np

from training.drift.losses import losses
from training.drift.reference import Reference
from training.drift.report import render
from training.drift.verdict import QUALITY_ROWS, Limits, Quality, Verdict, decide, judge_quality, judge_window
from training.drift.window import read_window
from training.inference_log import layout
from training.inference_log.outcomes import labelled_columns, read_labels, read_rejected, why_unjoined
from training.inference_log.sql_engine import Engine, sql_text
from training.use_case import UseCase

_EARLIER = 60
"""Nights that are looked back on."""


def judge(
    engine: Engine,
    tables: Path,
    night: date,
    use_case: UseCase,
    reference: Reference | None,
    limits: Limits,
    *,
    by_hand: bool = False,
) -> Verdict:
    """Write ``verdict.json`` and ``report.html`` of a night that has been curated and labelled."""
    folder = layout.night_folder(tables, "nights", night)
    fields = [field.name for field in reference.fields] if reference else []
    window = read_window(engine, tables, night, use_case, fields, reference.version if reference else "")
    verdict = judge_window(night.isoformat(), window, reference, limits)
    labelled = layout.night_folder(tables, "labelled", night)
    engine.view("labelled", [labelled] if labelled.exists() else [], labelled_columns(use_case))
    rejected = read_rejected(tables, night)
    verdict = msgspec.structs.replace(
        verdict,
        labels=engine.query("SELECT COUNT(*) AS n FROM labelled")[0]["n"],
        quality=_quality(engine, use_case, reference.version, limits) if reference and use_case.key else None,
        rejected_outcomes=len(rejected),
        feed=read_labels(tables, night),
        unpaired=_unpaired(engine, tables, night),
        unjoined=why_unjoined(use_case),
        changed=reference.changed if reference else "",
        data=str(layout.night_folder(tables, "training", night)),
        counts=layout.read_json(folder / layout.COUNTS) or {},
    )
    earlier = read_verdicts(tables, before=night)
    verdict = decide(verdict, earlier, limits, by_hand=by_hand)
    lost = losses(verdict, limits)
    facts = [*filter(None, [verdict.unjoined]), *(one.text for one in lost)]
    if verdict.changed:
        facts.append(f"not judged, for the definition has changed since the champion was trained: {verdict.changed}")
    verdict = msgspec.structs.replace(verdict, note="; ".join([verdict.note, *facts]))
    layout.write_text(
        folder / layout.REPORT, render(use_case, verdict, window, reference, earlier, limits, rejected, lost)
    )
    # Last: the file says that the night has been judged.
    layout.write_json(folder / layout.VERDICT, msgspec.to_builtins(verdict))
    return verdict


def read_verdicts(tables: Path, before: date) -> list[Verdict]:
    """The verdicts of the nights before, the latest last."""
    nights = [night for night in layout.partitions(tables, "nights") if night < before][-_EARLIER:]
    found = [layout.read_json(layout.night_folder(tables, "nights", night) / layout.VERDICT) for night in nights]
    return [msgspec.convert(content, Verdict) for content in found if content is not None]


def _unpaired(engine: Engine, tables: Path, night: date) -> dict[str, int]:
    engine.view_days("alone", tables, "unpaired", {"reason": "STRING"}, night)
    return {row["reason"]: row["n"] for row in engine.query("SELECT reason, COUNT(*) AS n FROM alone GROUP BY reason")}


def _quality(engine: Engine, use_case: UseCase, version: str, limits: Limits) -> Quality:
    positive = f"{use_case.columns[use_case.label.field]} = {sql_text(use_case.binary.positive)}"
    rows = engine.query(
        f"SELECT prediction, CASE WHEN {positive} THEN 1 ELSE 0 END AS y FROM labelled "
        f"WHERE model_version = '{version}' "
        f"ORDER BY effective_date DESC, event_time DESC, request_id, record LIMIT {QUALITY_ROWS}"
    )
    predictions = np.array([row["prediction"] for row in rows], np.float64)
    return judge_quality(predictions, np.array([row["y"] for row in rows], np.int64), limits.minimum_live_auc)
