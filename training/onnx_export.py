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
            trees += _category_trees(design, slopes)
            if len(design.knots_):
                sums.append(_numbers(graph, design, slopes[len(design.levels_) :]))
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


def _category_trees(design: Design, slopes: NDArray[np.float64]) -> list[Tree]:
    """The effect of each one-hot field as a chain of questions: is it this level? else this one? else fill."""
    trees = []
    for column in dict.fromkeys(design.level_columns_.tolist()):
        group = np.flatnonzero(design.level_columns_ == column)
        size = len(group)
        # Nodes 0..size-1 ask; the leaf of level k is size + k; the last leaf is for none of them.
        asking = np.arange(size)
        blank = np.zeros(size + 1, np.int64)
        trees.append(
            Tree(
                feature=np.concatenate([np.full(size, column), blank - 1]),
                threshold=np.concatenate([design.levels_[group], blank]).astype(np.float64),
                unequal=np.concatenate([np.ones(size, bool), blank.astype(bool)]),
                missing_left=np.concatenate([np.ones(size, bool), blank.astype(bool)]),
                left=np.concatenate([np.append(asking[1:], 2 * size), blank]),
                right=np.concatenate([asking + size, blank]),
                value=np.concatenate([np.zeros(size), slopes[group], [design.fill_[group] @ slopes[group]]]),
            )
        )
    return trees


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
    indicators = len(design.levels_)
    column = np.where(branch, tree.feature, 0)
    is_indicator = branch & (column < indicators)
    number = np.where(branch & ~is_indicator, column - indicators, 0)
    level = np.where(is_indicator, column, 0)
    medians: NDArray[np.float32] = design.medians_
    return msgspec.structs.replace(
        tree,
        feature=np.where(
            branch, np.where(is_indicator, _at(design.level_columns_, level), design.number_columns_[number]), -1
        ),
        threshold=np.where(is_indicator, _at(design.levels_, level), tree.threshold),
        unequal=is_indicator,
        missing_left=is_indicator | (medians[number] <= tree.threshold),
    )


def _at(values: NDArray[Any], positions: NDArray[np.int64]) -> NDArray[Any]:
    """``values[positions]`` for values that may be empty, where no position is meant."""
    return values[positions] if len(values) else np.zeros(len(positions), values.dtype)
