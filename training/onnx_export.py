"""The final classifier as one ONNX graph: encoded matrix in, probability out.

Operators follow ``training.features.Design`` and ``training.blend.Blend``. A linear member needs the design
written out. Trees need none of it: they ask about one value at a time, so each question is put to the
encoded matrix itself (``_onto_matrix``), and a whole ensemble is one operator.
"""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from training.blend import Blend
from training.features import Design
from training.models import SMALLEST_PROBABILITY
from training.onnx_graph import INPUT, Graph, Tree


def classifier_to_onnx(blend: Blend, features: int) -> bytes:
    """The ONNX model of a fitted blend: input ``X``, output ``probability`` ``[n, 1]``."""
    graph = Graph("classifier")
    # Constant terms of all members are summed up here, in float64, and added once.
    total, constant = "", blend.bias
    for member, pipeline in zip(blend.members, blend.pipelines_, strict=True):
        odds, offset = _log_odds(graph, pipeline, member.weight)
        total = graph.node("Add", total, odds) if total else odds
        constant += offset
    total = graph.node("Add", total, graph.constant([[constant]]))
    return graph.finish(graph.node("Sigmoid", total), "probability", features)


def _log_odds(graph: Graph, pipeline: Pipeline, weight: float) -> tuple[str, float]:
    """Name of ``weight`` times the pipeline's log-odds, but for a constant that is returned too."""
    design, model = pipeline
    if isinstance(model, LogisticRegression):
        return _linear(graph, design, model, weight)
    if isinstance(model, HistGradientBoostingClassifier):
        trees = [_boosted_tree(iteration[0], design, weight) for iteration in model._predictors]
        return graph.trees(trees, INPUT), weight * float(model._baseline_prediction.item())
    if isinstance(model, ExtraTreesClassifier):
        return _forest(graph, design, model, weight), 0.0
    raise TypeError(f"there is no ONNX route for {type(model).__name__}: add one here")


def _linear(graph: Graph, design: Design, model: LogisticRegression, weight: float) -> tuple[str, float]:
    """Filling, standardising and the linear model are one matrix product: weights are folded in float64."""
    slopes = weight * model.coef_[0] / design.scale_
    constant = weight * model.intercept_[0] + (design.fill_ - design.center_) @ slopes
    folded = graph.constant((design.unfill_ @ slopes)[:, np.newaxis])
    return graph.node("MatMul", _design(graph, design), folded), float(constant)


def _design(graph: Graph, design: Design) -> str:
    """Indicators, numbers and hinges side by side, float32, before a linear model standardises them."""
    numbers = graph.node("Gather", INPUT, graph.constant(design.number_columns_, np.int64), axis=1)
    numbers = graph.node("Where", graph.node("IsNaN", numbers), graph.constant([design.medians_]), numbers)
    numbers = graph.node("Max", numbers, graph.constant([design.low_]))
    numbers = graph.node("Min", numbers, graph.constant([design.high_]))
    if design.skewed_.any():
        logarithms = graph.node("Log", graph.node("Add", numbers, graph.constant([[1.0]])))
        numbers = graph.node("Where", graph.constant([design.skewed_], np.bool_), logarithms, numbers)
    parts = [numbers]
    if len(design.levels_):
        chosen = graph.node("Gather", INPUT, graph.constant(design.level_columns_, np.int64), axis=1)
        same = graph.node("Equal", chosen, graph.constant([design.levels_]))
        parts.insert(0, graph.node("Cast", same, to=1))
    if len(design.knots_):
        above = graph.node("Gather", numbers, graph.constant(design.knot_numbers_, np.int64), axis=1)
        parts.append(graph.node("Relu", graph.node("Sub", above, graph.constant([design.knots_]))))
    return graph.node("Concat", *parts, axis=1)


def _forest(graph: Graph, design: Design, model: ExtraTreesClassifier, weight: float) -> str:
    trees = [_forest_tree(estimator.tree_, design, len(model.estimators_)) for estimator in model.estimators_]
    low, high = graph.constant(SMALLEST_PROBABILITY), graph.constant(1 - SMALLEST_PROBABILITY)
    probability = graph.node("Clip", graph.trees(trees, INPUT), low, high)
    odds = graph.node("Div", probability, graph.node("Sub", graph.constant([[1.0]]), probability))
    return graph.node("Mul", graph.node("Log", odds), graph.constant([[weight]]))


def _forest_tree(tree: Any, design: Design, trees: int) -> Tree:
    leaf = tree.children_left < 0
    return _onto_matrix(
        Tree(
            feature=np.where(leaf, -1, tree.feature),
            threshold=tree.threshold,
            unequal=np.zeros(len(leaf), bool),
            missing_left=np.zeros(len(leaf), bool),
            left=tree.children_left,
            right=tree.children_right,
            value=tree.value[:, 0, 1] / trees,
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
