"""The final classifier as one ONNX graph: encoded matrix in, probability out.

The ensemble adds up scores, and most of them depend on one value at a time: the effect of a category in the linear
model, and trees that ask about one field. All that is said of a field becomes one balanced tree, so a record is
asked a few questions a field, however many trees there were. Other trees stay as they are, and the linear model's
numbers need arithmetic, a dozen small operators.
"""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from training.export.onnx_graph import INPUT, MISSING, Graph, Steps, Tree, balanced_trees, boosted_tree, round_down
from training.search.design import DesignMatrix
from training.search.ensemble import StackedEnsemble

FORESTS = (ExtraTreesClassifier, RandomForestClassifier)
TREES = (HistGradientBoostingClassifier, *FORESTS)


class Parts(msgspec.Struct, frozen=True):
    """The log-odds of a fitted ensemble as the sum that it is, in float64."""

    constant: float
    steps: list[Steps]
    """What depends on one column alone and is constant between cuts."""
    numbers: list[tuple[DesignMatrix, NDArray[np.float64]]]
    """Linear members' hinges: each design with the slope of each of its knots."""
    trees: list[tuple[DesignMatrix, list[Tree]]]
    """Trees that ask about several columns of their design."""


def comes_apart(ensemble: StackedEnsemble) -> bool:
    """Whether every member is a sum over the fields behind its design, or over trees: then the ensemble is one too."""
    return all(
        len(pipeline) == 2 and isinstance(pipeline[-1], LogisticRegression if pipeline[0].linear else TREES)
        for pipeline in ensemble.pipelines_
    )


def take_apart(ensemble: StackedEnsemble) -> Parts:
    """The parts of a fitted ensemble. Raises ``TypeError`` for a model of a kind that is not known here."""
    parts = Parts(ensemble.bias, [], [], [])
    constant = ensemble.bias
    for member, (design, model) in zip(ensemble.members, ensemble.pipelines_, strict=True):
        weight = member.weight
        if isinstance(model, LogisticRegression):
            slopes = weight * model.coef_[0] / design.scale_
            constant += weight * float(model.intercept_[0]) - float(design.center_ @ slopes)
            parts.steps.extend(_question_steps(design, slopes))
            if len(design.knots_):
                parts.numbers.append((design, slopes[len(design.asked_) :]))
            continue
        added, trees = constant_and_trees(model, weight)
        constant += added
        asked = [np.unique(tree.feature[tree.feature >= 0]) for tree in trees]
        parts.steps.extend(_tree_steps(t, int(c[0]), design) for t, c in zip(trees, asked, strict=True) if len(c) == 1)
        others = [tree for tree, columns in zip(trees, asked, strict=True) if len(columns) > 1]
        if others:
            parts.trees.append((design, others))
    return msgspec.structs.replace(parts, constant=constant)


def constant_and_trees(model: Any, weight: float) -> tuple[float, list[Tree]]:
    """What a fitted model of trees adds to the log-odds: the same for all rows, and the trees that ask something.

    Raises ``TypeError`` for a model of a kind that is not known here.
    """
    if isinstance(model, HistGradientBoostingClassifier):
        constant = weight * float(model._baseline_prediction.item())
        trees = [boosted_tree(iteration[0], weight) for iteration in model._predictors]
    elif isinstance(model, FORESTS):
        constant, share = 0.0, weight / len(model.estimators_)
        trees = [_forest_tree(estimator.tree_, share) for estimator in model.estimators_]
    else:
        raise TypeError(f"there is no ONNX route for {type(model).__name__}: add one here")
    asking = [tree for tree in trees if (tree.feature >= 0).any()]
    constant += sum(float(tree.value[0]) for tree in trees if not (tree.feature >= 0).any())
    return constant, asking


def classifier_to_onnx(parts: Parts, features: int) -> bytes:
    """The ONNX model of a fitted ensemble: input ``X``, output ``probability`` ``[n, 1]``."""
    graph = Graph("classifier")
    sums = [graph.trees(trees, _columns(graph, design)) for design, trees in parts.trees]
    fill = np.full(features, MISSING)
    for design, _ in parts.numbers:  # the only fields that are not steps of a linear model; to trees, missing is median
        fill[design.number_columns_] = design.medians_
    filled = graph.filled(INPUT, [fill])
    sums += [_numbers(graph, filled, features, design, slopes) for design, slopes in parts.numbers]
    if parts.steps:
        sums.append(graph.trees(balanced_trees(parts.steps), filled))
    # The constant terms of all members were summed up in float64, and are added once.
    total = graph.node("Sum", *sums, graph.constant([[parts.constant]]))
    return graph.finish(graph.node("Sigmoid", total), "probability", features)


def _question_steps(design: DesignMatrix, slopes: NDArray[np.float64]) -> list[Steps]:
    """What each field that is asked about adds to the linear model's sum."""
    steps = []
    for column in dict.fromkeys(design.asked_.tolist()):
        own = np.flatnonzero(design.asked_ == column)
        values, effects = design.values_[own], slopes[own]
        fill = float(design.fill_[own] @ effects)

        def levels(x: NDArray[np.float32], values: Any = values, effects: Any = effects, fill: float = fill) -> Any:
            return np.where(np.isnan(x), fill, (x[:, np.newaxis] >= values) @ effects)

        def categories(x: NDArray[np.float32], values: Any = values, effects: Any = effects, fill: float = fill) -> Any:
            answers = x[:, np.newaxis] == values
            return np.where(answers.any(axis=1), answers @ effects, fill)

        if design.step_[own[0]]:
            steps.append(Steps(column, _before(values), levels))
        else:
            steps.append(Steps(column, np.append(_before(values), values), categories))
    return steps


def _tree_steps(tree: Tree, position: int, design: DesignMatrix) -> Steps:
    """A tree that asks about one column of the design only, as steps of the encoded column behind it."""
    number = position - len(design.asked_)
    if number < 0:
        value = design.values_[[position]]
        return Steps(
            int(design.asked_[position]),
            np.append(_before(value), value),
            lambda x: tree.sums((x == value).astype(np.float32)),
        )
    # Keeping numbers within the training range changes no answer, as all thresholds lie within it.
    median = design.medians_[number]
    return Steps(
        int(design.number_columns_[number]),
        round_down(tree.threshold[tree.feature >= 0]),
        lambda x: tree.sums(np.where(np.isnan(x), median, x)),
    )


def _before(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The next smaller float32 of each value."""
    return np.nextafter(values, np.float32(-np.inf))


def _columns(graph: Graph, design: DesignMatrix) -> str:
    """The columns of a design for trees, within the training range or beyond it, which is the same to its trees."""
    columns = graph.filled(
        graph.node("Gather", INPUT, graph.constant(design.number_columns_, np.int64), axis=1), [design.medians_]
    )
    if not len(design.asked_):
        return columns
    asked = graph.node("Gather", INPUT, graph.constant(design.asked_, np.int64), axis=1)
    answers = graph.node("Equal", asked, graph.constant([design.values_]))
    return graph.node("Concat", graph.cast(answers), columns, axis=1)


def _numbers(graph: Graph, filled: str, features: int, design: DesignMatrix, slopes: NDArray[np.float64]) -> str:
    """The linear model's sum over the hinges, ``[n, 1]``.

    Columns are picked by products with ones and zeros: exact, and five times as fast as the operator ``Gather``.
    """
    picked = np.eye(features)[:, design.number_columns_]
    values = graph.node("MatMul", filled, graph.constant(picked))
    values = graph.node("Max", values, graph.constant([design.low_]))
    values = graph.node("Min", values, graph.constant([design.high_]))
    if design.skewed_.any():
        logarithms = graph.node("Log", graph.node("Add", values, graph.constant([[1.0]])))
        values = graph.node("Where", graph.constant([design.skewed_], np.bool_), logarithms, values)
    spread = np.eye(len(design.number_columns_))[:, design.knot_numbers_]
    hinges = graph.node("Relu", graph.node("Gemm", values, graph.constant(spread), graph.constant([-design.knots_])))
    return graph.node("MatMul", hinges, graph.constant(slopes[:, np.newaxis]))


def _forest_tree(tree: Any, share: float) -> Tree:
    return Tree(
        feature=np.where(tree.children_left < 0, -1, tree.feature),
        threshold=tree.threshold,
        left=tree.children_left,
        right=tree.children_right,
        value=share * tree.value[:, 0, 1],
    )
