"""The classifier of a use case with own features as one ONNX graph: design columns, transformer, model.

The columns of a design are written out as nodes, the graph that skl2onnx makes of the transformer is put behind them,
and the model takes what comes out. So the server needs no line of the use case's code, and no scikit-learn.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from sklearn.linear_model import LogisticRegression

from serving.scoring.runtime import open_session
from training.export.classifier import constant_and_trees
from training.export.onnx_graph import INPUT, OPSETS, Graph
from training.export.transformers import CONVERTERS, SHAPES
from training.search.design import DesignMatrix
from training.search.ensemble import StackedEnsemble
from training.search.features import FeaturesError, OwnFeatures
from training.search.space import SearchSpace


def classifier_with_own_features(ensemble: StackedEnsemble) -> bytes:
    """The ONNX model of a fitted ensemble: input ``X``, output ``probability`` ``[n, 1]``.

    Raises ``FeaturesError`` for a transformer that does not convert, ``TypeError`` for a model that is not known.
    """
    graph = Graph("classifier")
    constant, sums = ensemble.bias, []
    for member, (design, own, model) in zip(ensemble.members, ensemble.pipelines_, strict=True):
        features = _features(graph, design, own)
        if isinstance(model, LogisticRegression):
            constant += member.weight * float(model.intercept_[0])
            slopes = graph.constant(member.weight * model.coef_.T, np.float64)
            total = graph.node("MatMul", graph.cast(features, TensorProto.DOUBLE), slopes)
            sums.append(graph.cast(total))
            continue
        added, trees = constant_and_trees(model, member.weight)
        constant += added
        if trees:
            sums.append(graph.trees(trees, features))
    total = graph.node("Sum", *sums, graph.constant([[constant]]))
    return graph.finish(graph.node("Sigmoid", total), "probability", len(ensemble.space.features))


def check_convertible(space: SearchSpace, x: NDArray[np.float32], y: NDArray[np.int64], seed: int) -> None:
    """Raise ``FeaturesError`` where the own features of some rows do not convert: before a search, not behind it.

    ``x`` are encoded rows ``[n, features]``, ``y`` their outcomes.
    """
    for parameters in space.starting_points:
        design, own = space.build(parameters, seed)[:-1].fit(x, y)
        _features(Graph("features"), design, own)


def _features(graph: Graph, design: DesignMatrix, own: OwnFeatures) -> str:
    """What the model gets, float32 ``[n, features]``."""
    columns = _linear_columns(graph, design) if design.linear else _tree_columns(graph, design)
    model = _converted(own, len(design.asked_) + len(design.knots_ if design.linear else design.number_columns_))
    return graph.cast(graph.graft(model, graph.cast(columns, TensorProto.DOUBLE)))


def _converted(own: OwnFeatures, columns: int) -> onnx.ModelProto:
    """The transformer as ONNX, in float64: rounded as scikit-learn rounds, no value changes sides at a tree's cut."""
    # Imported here: it takes seconds, and only use cases with own features need it.
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType

    try:
        model: onnx.ModelProto = convert_sklearn(
            own.transformer,
            initial_types=[("columns", DoubleTensorType([None, columns]))],
            target_opset=OPSETS,
            custom_conversion_functions=CONVERTERS,
            custom_shape_calculators=SHAPES,
        )
        open_session(model.SerializeToString())
    except Exception as error:  # converters raise whatever they like
        raise FeaturesError(
            f"the transformer of features.py does not convert to ONNX in float64: {own.transformer}: {error}. Use one "
            "that does (docs/your-model.md names some). Nothing is registered"
        ) from error
    return model


def _answers(graph: Graph, design: DesignMatrix) -> tuple[str, str]:
    """What the questions are about, and their answers, float32 ``[n, questions]`` both."""
    asked = graph.node("Gather", INPUT, graph.constant(design.asked_, np.int64), axis=1)
    values = graph.constant([design.values_])
    above, equal = graph.node("GreaterOrEqual", asked, values), graph.node("Equal", asked, values)
    return asked, graph.cast(_of_either(graph, design, above, equal))


def _of_either(graph: Graph, design: DesignMatrix, step: str, category: str) -> str:
    """The one for questions about levels, the other for those about categories, bool ``[n, questions]``."""
    of_steps = graph.node("And", step, graph.constant([design.step_], np.bool_))
    return graph.node("Or", of_steps, graph.node("And", category, graph.constant([~design.step_], np.bool_)))


def _numbers(graph: Graph, design: DesignMatrix) -> str:
    """Imputed and clipped numbers, ``[n, numbers]``."""
    numbers = graph.node("Gather", INPUT, graph.constant(design.number_columns_, np.int64), axis=1)
    filled = graph.filled(numbers, [design.medians_])
    raised = graph.node("Max", filled, graph.constant([design.low_]))
    return graph.node("Min", raised, graph.constant([design.high_]))


def _tree_columns(graph: Graph, design: DesignMatrix) -> str:
    """The design matrix of a member of trees, float32 ``[n, columns]``."""
    return graph.node("Concat", _answers(graph, design)[1], _numbers(graph, design), axis=1)


def _linear_columns(graph: Graph, design: DesignMatrix) -> str:
    """The design matrix of a linear member, rounded to float32, ``[n, columns]``."""
    asked, answers = _answers(graph, design)
    level = graph.node("Not", graph.node("IsNaN", asked))
    same_field = np.equal.outer(design.asked_, design.asked_).astype(np.float32)
    shared = graph.node("MatMul", answers, graph.constant(same_field))
    category = graph.node("Greater", shared, graph.constant(0.0))
    known = _of_either(graph, design, level, category)
    filled = graph.node("Where", known, answers, graph.constant([design.fill_]))
    numbers = _bent(graph, design, _numbers(graph, design))
    spread = graph.node("Gather", numbers, graph.constant(design.knot_numbers_, np.int64), axis=1)
    hinges = graph.node("Relu", graph.node("Sub", spread, graph.constant([design.knots_])))
    columns = graph.cast(graph.node("Concat", filled, hinges, axis=1), TensorProto.DOUBLE)
    centred = graph.node("Sub", columns, graph.constant([design.center_], np.float64))
    return graph.cast(graph.node("Div", centred, graph.constant([design.scale_], np.float64)))


def _bent(graph: Graph, design: DesignMatrix, numbers: str) -> str:
    """Numbers as a linear model takes them: skewed ones as logarithm."""
    if not design.skewed_.any():
        return numbers
    skewed = graph.constant([design.skewed_], np.bool_)
    shifted = graph.node("Add", graph.node("Where", skewed, numbers, graph.constant(0.0)), graph.constant(1.0))
    logarithms = graph.cast(graph.node("Log", graph.cast(shifted, TensorProto.DOUBLE)))
    return graph.node("Where", skewed, logarithms, numbers)
