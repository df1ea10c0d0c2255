"""The classifier of a use case with own features, or with a model of its own, as one ONNX graph.

The columns of a design are written out as nodes, and what stands behind them follows step by step: the graph that
skl2onnx makes of the transformer, then the model, by the project's own export where that knows it and by skl2onnx
otherwise. So the server needs no line of the use case's code, and no scikit-learn.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from serving.scoring.runtime import open_session
from training.export.classifier import TREES, constant_and_trees
from training.export.onnx_graph import INPUT, OPSETS, Graph
from training.export.transformers import CONVERTERS, SHAPES
from training.search.design import DesignMatrix
from training.search.ensemble import StackedEnsemble
from training.search.features import FeaturesError, OwnFeatures
from training.search.space import SearchSpace


def classifier_in_steps(ensemble: StackedEnsemble) -> bytes:
    """The ONNX model of a fitted ensemble: input ``X``, output ``probability`` ``[n, 1]``.

    Raises ``FeaturesError`` for a step that does not convert.
    """
    graph = Graph("classifier")
    constant, sums = ensemble.bias, []
    for member, pipeline in zip(ensemble.members, ensemble.pipelines_, strict=True):
        design, *steps = [step for _, step in pipeline.steps]
        own = steps.pop(0) if isinstance(steps[0], OwnFeatures) else None
        features = _features(graph, design, own) if own else _columns(graph, design)
        *between, model = steps
        if between:
            features = _between(graph, between, features)
        if not isinstance(model, (LogisticRegression, *TREES)):
            probability = _probability(graph, model, features)
            sums.append(graph.node("Mul", probability, graph.constant([[member.weight]])))
            continue
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
        design, own = space.build(parameters, seed)[:2].fit(x, y)
        _features(Graph("features"), design, own)


def _columns(graph: Graph, design: DesignMatrix) -> str:
    """The design matrix, float32 ``[n, columns]``."""
    return _linear_columns(graph, design) if design.linear else _tree_columns(graph, design)


def _features(graph: Graph, design: DesignMatrix, own: OwnFeatures) -> str:
    """What the transformer makes of the design matrix, float32 ``[n, features]``."""
    width = len(design.asked_) + len(design.knots_ if design.linear else design.number_columns_)
    model = _converted(own.transformer, width, "the transformer of features.py")
    return graph.cast(graph.graft(model, graph.cast(_columns(graph, design), TensorProto.DOUBLE)))


def _between(graph: Graph, steps: list[Any], features: str) -> str:
    """What a search's own steps make of the features before the model gets them, float32 ``[n, columns]``."""
    pipeline = Pipeline([(f"step{number}", step) for number, step in enumerate(steps)])
    model = _converted(pipeline, steps[0].n_features_in_, "the pipeline of search.py")
    return graph.cast(graph.graft(model, graph.cast(features, TensorProto.DOUBLE)))


def _probability(graph: Graph, model: Any, features: str) -> str:
    """What a model that the project's own export does not know says of the positive outcome, float32 ``[n, 1]``."""
    converted = _converted(
        model, model.n_features_in_, "the pipeline of search.py", options={id(model): {"zipmap": False}}
    )
    # The first output is the label, the second the probabilities of both outcomes.
    both = graph.graft(converted, graph.cast(features, TensorProto.DOUBLE), output=1)
    return graph.cast(graph.node("Gather", both, graph.constant([1], np.int64), axis=1))


def _converted(fitted: Any, columns: int, whose: str, **more: Any) -> onnx.ModelProto:
    """A fitted step as ONNX, in float64: rounded as scikit-learn rounds, no value changes sides at a tree's cut."""
    # Imported here: it takes seconds, and only use cases with steps of their own need it.
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType

    try:
        model: onnx.ModelProto = convert_sklearn(
            fitted,
            initial_types=[("columns", DoubleTensorType([None, columns]))],
            target_opset=OPSETS,
            custom_conversion_functions=CONVERTERS,
            custom_shape_calculators=SHAPES,
            **more,
        )
        open_session(model.SerializeToString())
    except Exception as error:  # converters raise whatever they like
        raise FeaturesError(
            f"{whose} does not convert to ONNX in float64: {fitted}: {error}. Use one "
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
