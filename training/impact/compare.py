"""Score records with two models, and count what differs: the top of the list, the scores, the outliers."""

import math
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.scoring.bundle import Bundle
from serving.scoring.encode import encode_columns
from training.data.changes import changes, columns_as_before, told
from training.evaluation.binary import CONFIDENCE
from training.evaluation.fairness import groups_of
from training.evaluation.share_interval import share_interval
from training.impact.record import Change, Count, GroupImpact, Impact
from training.impact.records import Records
from training.use_case import UseCase

SMALLEST = 10
"""Records that a group has at least: of fewer, people could tell who they are."""
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
_SAME = 1e-6
"""How far two scores of one record by one model may lie apart (``docs/batch.md``)."""


class Scored(msgspec.Struct, frozen=True):
    """Some records by one model."""

    probabilities: NDArray[np.float64]
    """``[n]``."""
    is_outlier: NDArray[np.bool_]
    """``[n]``."""
    lacks: str
    """Fields of the model that the definition has changed since, in words."""


def score(use_case: UseCase, bundle: Bundle, records: Records) -> Scored:
    """The records by a model, which may have been trained by an older definition."""
    fields = bundle.contract.fields
    x = encode_columns(columns_as_before(records.columns, fields, use_case.fields), bundle.contract)
    lacks = told(changes(bundle.contract.features, use_case.fields))
    return Scored(bundle.probabilities(x), bundle.outlier_scores(x) > 0, lacks)


def compare(use_case: UseCase, records: Records, challenger: Scored, champion: Scored, champion_version: str) -> Impact:
    """What would change for these records; there is at least one."""
    count = len(records.answers)
    size = max(1, round(use_case.top_share * count))
    before, after = _top(champion.probabilities, size), _top(challenger.probabilities, size)
    entering, leaving = after & ~before, before & ~after
    answered = records.versions == champion_version
    otherwise = answered & (np.abs(champion.probabilities - records.answers) > _SAME)
    return Impact(
        source=records.source,
        entities=use_case.entities,
        rows=records.rows,
        records=count,
        top_share=use_case.top_share,
        top=size,
        entering=counted(int(entering.sum()), count),
        leaving=counted(int(leaving.sum()), count),
        groups=[
            GroupImpact(
                field=field,
                group=group,
                records=int(rows.sum()),
                top=int((rows & before).sum()),
                entering=counted(int((rows & entering).sum()), int(rows.sum())),
                leaving=counted(int((rows & leaving).sum()), int(rows.sum())),
            )
            for field, members in groups_of(use_case, records.columns).items()
            for group, rows in members.items()
            if rows.sum() >= SMALLEST
        ],
        change=_change(challenger.probabilities - champion.probabilities),
        outliers_before=counted(int(champion.is_outlier.sum()), count),
        outliers=counted(int(challenger.is_outlier.sum()), count),
        lacking=", ".join(filter(None, dict.fromkeys((challenger.lacks, champion.lacks)))),
        answered_otherwise=int(otherwise.sum()),
    )


def _top(probabilities: NDArray[np.float64], size: int) -> NDArray[np.bool_]:
    """The ``size`` records with the highest scores, bool ``[n]``; of equal scores, those that come first."""
    chosen = np.zeros(len(probabilities), bool)
    chosen[np.argsort(-probabilities, kind="stable")[:size]] = True
    return chosen


def counted(value: int, of: int) -> Count:
    """A count of some records, with Wilson's interval for its share of them."""
    low, high = share_interval(value, of)
    return Count(value, round(of * low, 1), round(of * high, 1))


def _change(differences: NDArray[np.float64]) -> Change:
    mean, sizes = float(differences.mean()), np.abs(differences)
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0
    half = _Z * error
    figures = (mean, mean - half, mean + half, np.median(sizes), np.quantile(sizes, 0.95), sizes.max())
    return Change(*(round(float(figure), 6) for figure in figures))
