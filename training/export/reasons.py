"""Write ``reasons.npz``: what ``serving.scoring.reasons`` explains a probability with.

``base`` is the mean log-odds of the background, a sample of the training rows; effects are against it. ``means``
``[features]`` is what steps and numbers add on average there.

- Steps: ``step_columns``, and behind each other for all of these ``step_cuts`` (``step_ends``: where those of each end)
  and ``step_effects``, one more than cuts.
- Numbers of linear members: ``number_columns``, ``number_medians``, ``number_low``, ``number_high``, ``number_skewed``;
  ``knots``, ``slopes`` and ``knot_numbers``, the number of each.
- Trees that ask about several columns: ``leaf_values``; behind each other the questions on the way to each leaf
  (``leaf_ends``), one for each column of the design: a value of ``question_columns`` is above ``question_low`` and at
  most ``question_high`` (or is not, where ``question_within`` is false); ``question_missing``: a missing one passes.
  ``background_fails``: bits of the questions that each background row fails, ``[leaves, rows]``. So no row of the
  background is in the file itself.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from serving.scoring.contract import REASONS_FILE
from serving.scoring.reasons import Questions, Reasons
from training.export.classifier import Parts
from training.export.onnx_graph import Tree, round_down, step_tables
from training.search.design import DesignMatrix

log = logging.getLogger(__name__)
BACKGROUND = 100
"""Rows that a record is compared with."""
TOLERANCE = 1e-6
"""Base and effects add up to the served probability within this, otherwise no reasons are given."""
_MOST_QUESTIONS = 32  # of a leaf: the bits of ``background_fails``
_MOST_LEAVES = 60_000
"""More would take too much of a server's memory and time: 12 MB, and six seconds for 100 records."""
_CHECKED = 256


def background(x: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """The rows that records are compared with, ``[BACKGROUND, features]``; all of a smaller matrix."""
    chosen = np.random.default_rng(seed).permutation(len(x))[:BACKGROUND]
    return x[np.sort(chosen)]


def write_reasons(
    folder: Path, parts: Parts, x: NDArray[np.float32], probabilities: NDArray[np.float64], seed: int
) -> bool:
    """Write the file, unless it would be too large, or what it gives for rows ``x`` does not add up to what is served.

    Returns whether there is one; without it the model is served and gives no reasons.
    """
    arrays = reasons_arrays(parts, background(x, seed))
    if arrays is None:
        log.warning("no reasons: a leaf has more than %d questions, or trees %d leaves", _MOST_QUESTIONS, _MOST_LEAVES)
        return False
    reasons = Reasons(arrays, x.shape[1])
    checked = np.linspace(0, len(x) - 1, min(_CHECKED, len(x))).astype(int)
    added_up = expit(reasons.base + reasons.effects(x[checked]).sum(axis=1))
    difference = float(np.abs(added_up - probabilities[checked]).max())
    if not difference <= TOLERANCE:
        log.warning("no reasons: they add up to within %.2g of the probabilities, not %g", difference, TOLERANCE)
        return False
    np.savez_compressed(folder / REASONS_FILE, **arrays)
    return True


def reasons_arrays(parts: Parts, rows: NDArray[np.float32]) -> dict[str, Any] | None:
    """The arrays of the file, with ``rows`` as background; ``None`` where the trees are too many or too deep."""
    values, questions = _leaves(parts)
    if len(values) > _MOST_LEAVES or max(map(len, questions), default=0) > _MOST_QUESTIONS:
        return None
    arrays: dict[str, Any] = {"base": 0.0, "means": np.zeros(rows.shape[1]), **_steps(parts), **_numbers(parts)}
    no_trees = _questions([], []) | {"background_fails": np.zeros((0, len(rows)), np.uint16)}
    means = Reasons(arrays | no_trees, rows.shape[1]).effects(rows).mean(axis=0)
    asked = _questions(values, questions)
    fails = Questions(asked).failed(rows, slice(0, len(values))).T if values else no_trees["background_fails"]
    reached = (fails == 0).mean(axis=1) @ asked["leaf_values"]
    return arrays | asked | {"base": parts.constant + means.sum() + reached, "means": means, "background_fails": fails}


def _steps(parts: Parts) -> dict[str, Any]:
    tables = step_tables(parts.steps)
    return {
        "step_columns": np.array([column for column, _, _ in tables], np.int64),
        "step_ends": np.cumsum([len(cuts) for _, cuts, _ in tables], dtype=np.int64),
        "step_cuts": np.concatenate([np.empty(0, np.float32), *(cuts for _, cuts, _ in tables)]),
        "step_effects": np.concatenate([np.empty(0), *(sums for _, _, sums in tables)]),
    }


def _numbers(parts: Parts) -> dict[str, Any]:
    designs = [design for design, _ in parts.numbers]
    counts = np.cumsum([0, *(len(design.number_columns_) for design in designs)])

    def joined(name: str, dtype: Any) -> NDArray[Any]:
        return np.concatenate([np.empty(0, dtype), *(getattr(design, name) for design in designs)]).astype(dtype)

    return {
        "number_columns": joined("number_columns_", np.int64),
        "number_medians": joined("medians_", np.float32),
        "number_low": joined("low_", np.float32),
        "number_high": joined("high_", np.float32),
        "number_skewed": joined("skewed_", np.bool_),
        "knots": joined("knots_", np.float32),
        "slopes": np.concatenate([np.empty(0), *(slopes for _, slopes in parts.numbers)]),
        "knot_numbers": np.concatenate(
            [np.empty(0, np.int64), *(d.knot_numbers_ + first for d, first in zip(designs, counts[:-1], strict=True))]
        ),
    }


class _Question(NamedTuple):
    """What a leaf asks of one column of the design, in terms of the encoded column behind it."""

    column: int
    low: float
    high: float
    within: bool
    missing: bool


def _leaves(parts: Parts) -> tuple[list[float], list[list[_Question]]]:
    """The value of each leaf of the trees that ask about several columns, and its questions."""
    values, questions = [], []
    for design, trees in parts.trees:
        for tree in trees:
            for value, box in _boxes(tree):
                values.append(value)
                questions.append([_question(design, position, *limits) for position, limits in box.items()])
    return values, questions


def _boxes(tree: Tree) -> Iterator[tuple[float, dict[int, tuple[float, float]]]]:
    """The value of each leaf, and between what the columns on the way to it lie: above, and at most."""
    ways: list[tuple[int, dict[int, tuple[float, float]]]] = [(0, {})]
    while ways:
        node, box = ways.pop()
        column, threshold = int(tree.feature[node]), float(tree.threshold[node])
        if column < 0:
            yield float(tree.value[node]), box
            continue
        low, high = box.get(column, (-np.inf, np.inf))
        ways.append((int(tree.left[node]), {**box, column: (low, min(high, threshold))}))
        ways.append((int(tree.right[node]), {**box, column: (max(low, threshold), high)}))


def _question(design: DesignMatrix, position: int, low: float, high: float) -> _Question:
    number = position - len(design.asked_)
    if number >= 0:
        median = float(design.medians_[number])
        return _Question(int(design.number_columns_[number]), low, high, True, low < median <= high)
    # "Is it this category?" A leaf has training rows, so it takes one answer; both would be no question.
    value, yes = design.values_[position], low < 1 <= high
    return _Question(int(design.asked_[position]), float(np.nextafter(value, -np.inf)), float(value), yes, not yes)


def _questions(values: list[float], questions: list[list[_Question]]) -> dict[str, Any]:
    flat = [question for own in questions for question in own]
    columns, low, high, within, missing = zip(*flat, strict=True) if flat else [()] * 5
    return {
        "leaf_values": np.array(values, np.float64),
        "leaf_ends": np.cumsum([len(own) for own in questions], dtype=np.int64),
        "question_columns": np.array(columns, np.int64),
        "question_low": round_down(np.array(low, np.float64)),
        "question_high": round_down(np.array(high, np.float64)),
        "question_within": np.array(within, np.bool_),
        "question_missing": np.array(missing, np.bool_),
    }
