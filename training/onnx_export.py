"""The final classifier as one ONNX graph: encoded matrix in, probability out.

The blend adds up scores, and nearly all of them are sums over questions about one value at a time: trees,
and the effect of a category in the linear model. All these go into one tree-ensemble operator that asks the
encoded matrix itself. Only the linear model's numbers need arithmetic, a dozen small operators.
"""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from training.blend import Blend
from training.features import Design
from training.onnx_graph import INPUT, Graph, Tree

_LARGEST = float(np.finfo(np.float32).max)


def classifier_to_onnx(blend: Blend, features: int) -> bytes:
    """The ONNX model of a fitted blend: input ``X``, output ``probability`` ``[n, 1]``."""
    graph = Graph("classifier")
    # Constant terms of all members are summed up here, in float64, and added once.
    constant = blend.bias
    trees: list[Tree] = []
    sums: list[str] = []
    for member, (design, model) in zip(blend.members, blend.pipelines_, strict=True):
        weight = member.weight
        if isinstance(model, LogisticRegression):
            slopes = weight * model.coef_[0] / design.scale_
            constant += weight * float(model.intercept_[0]) - float(design.center_ @ slopes)
            trees += _question_trees(design, slopes)
            if len(design.knots_):
                sums.append(_numbers(graph, design, slopes[len(design.asked_) :]))
        elif isinstance(model, HistGradientBoostingClassifier):
            constant += weight * float(model._baseline_prediction.item())
            trees += [_boosted_tree(iteration[0], design, weight) for iteration in model._predictors]
        elif isinstance(model, ExtraTreesClassifier):
            share = weight / len(model.estimators_)
            trees += [_forest_tree(estimator.tree_, design, share) for estimator in model.estimators_]
        else:
            raise TypeError(f"there is no ONNX route for {type(model).__name__}: add one here")
    total = graph.trees(trees, INPUT, constant)
    for part in sums:
        total = graph.node("Add", total, part)
    return graph.finish(graph.node("Sigmoid", total), "probability", features)


def _question_trees(design: Design, slopes: NDArray[np.float64]) -> list[Tree]:
    """What each field that is asked about adds to the linear model's sum, as a chain of questions."""
    trees = []
    for column in dict.fromkeys(design.asked_.tolist()):
        own = np.flatnonzero(design.asked_ == column)
        values, effects = design.values_[own].astype(np.float64), slopes[own]
        unknown = float(design.fill_[own] @ effects)
        if design.step_[own[0]]:
            # Below the first value nothing is added, between the first and the second the first effect, ...
            # The first question sends what is missing, which is below no threshold, to its own leaf.
            thresholds = np.append(_LARGEST, np.nextafter(values.astype(np.float32), np.float32(-np.inf)))
            sums = np.concatenate([[0.0], np.cumsum(effects)])
            trees.append(_chain(column, thresholds, np.append(unknown, sums[:-1]), sums[-1]))
        else:
            trees.append(_chain(column, values, effects, unknown, unequal=True))
    return trees


def _chain(
    column: int, thresholds: NDArray[np.float64], leaves: NDArray[np.float64], last: float, *, unequal: bool = False
) -> Tree:
    """Question after question about one column; each has a leaf, and ``last`` is what is left.

    ``unequal``: leaf ``k`` is for values equal to threshold ``k``. Else the first leaf is for missing values,
    and leaf ``k`` for values up to threshold ``k``.
    """
    size = len(thresholds)
    # Nodes 0..size-1 ask, node size + k is leaf k, node 2 * size is the last leaf.
    asking, leaf = np.arange(size), np.arange(size) + size
    onward = np.append(asking[1:], 2 * size)
    blank = np.zeros(size + 1, np.int64)
    # Going left is "yes": unequal, not missing (the first of the other kind), or up to the threshold.
    left, right = (onward, leaf) if unequal else (leaf, onward)
    if not unequal:
        left[0], right[0] = right[0], left[0]
    return Tree(
        feature=np.concatenate([np.full(size, column), blank - 1]),
        threshold=np.concatenate([thresholds, blank]).astype(np.float64),
        unequal=np.concatenate([np.full(size, unequal), blank.astype(bool)]),
        missing_left=np.concatenate([np.full(size, unequal), blank.astype(bool)]),
        left=np.concatenate([left, blank]),
        right=np.concatenate([right, blank]),
        value=np.concatenate([np.zeros(size), leaves, [last]]),
    )


def _numbers(graph: Graph, design: Design, slopes: NDArray[np.float64]) -> str:
    """The linear model's sum over the hinges, ``[n, 1]``; all bounds are given once for each hinge."""
    number = design.knot_numbers_
    values = graph.node("Gather", INPUT, graph.constant(design.number_columns_[number], np.int64), axis=1)
    values = graph.node("Where", graph.node("IsNaN", values), graph.constant([design.medians_[number]]), values)
    values = graph.node("Max", values, graph.constant([design.low_[number]]))
    values = graph.node("Min", values, graph.constant([design.high_[number]]))
    if design.skewed_.any():
        logarithms = graph.node("Log", graph.node("Add", values, graph.constant([[1.0]])))
        values = graph.node("Where", graph.constant([design.skewed_[number]], np.bool_), logarithms, values)
    hinges = graph.node("Relu", graph.node("Sub", values, graph.constant([design.knots_])))
    return graph.node("MatMul", hinges, graph.constant(slopes[:, np.newaxis]))


def _forest_tree(tree: Any, design: Design, share: float) -> Tree:
    leaf = tree.children_left < 0
    return _onto_matrix(
        Tree(
            feature=np.where(leaf, -1, tree.feature),
            threshold=tree.threshold,
            unequal=np.zeros(len(leaf), bool),
            missing_left=np.zeros(len(leaf), bool),
            left=tree.children_left,
            right=tree.children_right,
            value=share * tree.value[:, 0, 1],
        ),
        design,
    )


def _boosted_tree(predictor: Any, design: Design, weight: float) -> Tree:
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    return _onto_matrix(
        Tree(
            feature=np.where(leaf, -1, nodes["feature_idx"]).astype(np.int64),
            threshold=nodes["num_threshold"].astype(np.float64),
            unequal=np.zeros(len(leaf), bool),
            missing_left=np.zeros(len(leaf), bool),
            left=nodes["left"].astype(np.int64),
            right=nodes["right"].astype(np.int64),
            value=weight * nodes["value"].astype(np.float64),
        ),
        design,
    )


def _onto_matrix(tree: Tree, design: Design) -> Tree:
    """The same tree, asking about columns of the encoded matrix instead of columns of the design.

    An indicator is at most its threshold (0.5) where the code is unequal to its level; missing and unknown
    are unequal. A missing number goes where the median goes. Keeping numbers within the training range
    changes no answer, as all thresholds lie within it.
    """
    branch = tree.feature >= 0
    indicators = len(design.asked_)
    column = np.where(branch, tree.feature, 0)
    is_indicator = branch & (column < indicators)
    number = np.where(branch & ~is_indicator, column - indicators, 0)
    level = np.where(is_indicator, column, 0)
    medians: NDArray[np.float32] = design.medians_
    return msgspec.structs.replace(
        tree,
        feature=np.where(branch, np.where(is_indicator, _at(design.asked_, level), design.number_columns_[number]), -1),
        threshold=np.where(is_indicator, _at(design.values_, level), tree.threshold),
        unequal=is_indicator,
        missing_left=is_indicator | (medians[number] <= tree.threshold),
    )


def _at(values: NDArray[Any], positions: NDArray[np.int64]) -> NDArray[Any]:
    """``values[positions]`` for values that may be empty, where no position is meant."""
    return values[positions] if len(values) else np.zeros(len(positions), values.dtype)
