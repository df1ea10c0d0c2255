"""Converters for skl2onnx: of transformers that it does not know, or converts in float32 alone.

They compute in float64 as scikit-learn does: a value at the cut of a bin, or of a tree behind it, must not change
sides.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from scipy.linalg import block_diag
from sklearn.preprocessing import KBinsDiscretizer, SplineTransformer

from training.export.onnx_graph import OPSETS

_TYPES = {np.dtype(np.float64): TensorProto.DOUBLE, np.dtype(np.int64): TensorProto.INT64}


class _Nodes:
    """Nodes of one operator under conversion, from float64 to float64."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        self._scope, self._container, self._operator = scope, container, operator
        self._source = operator.inputs[0].full_name

    def constant(self, values: Any, dtype: type[np.generic] = np.float64) -> str:
        array = np.asarray(values, dtype)
        name = str(self._scope.get_unique_variable_name("constant"))
        self._container.add_initializer(name, _TYPES[array.dtype], array.shape, array.ravel().tolist())
        return name

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or str(self._scope.get_unique_variable_name("made"))
        name = self._scope.get_unique_operator_name(operator)
        self._container.add_node(operator, list(inputs), [output], op_version=OPSETS[""], name=name, **attributes)
        return output

    def columns(self, positions: Any) -> str:
        return self.node("Gather", self._source, self.constant(positions, np.int64), axis=1)

    def reached(self, values: str, cuts: NDArray[np.float64]) -> str:
        """1.0 where a value is at least its cut, ``[n, cuts]``; ``values`` has one column, or one for each cut."""
        above = self.node("GreaterOrEqual", values, self.constant([cuts]))
        return self.node("Cast", above, to=TensorProto.DOUBLE)

    def one_hot(self, values: str, inner: list[NDArray[np.float64]]) -> str:
        """For each array of cuts the interval that a value lies in, a column each, ``[n, intervals of all]``."""
        first, moved = zip(*map(_moves, inner), strict=True)
        reached = self.reached(values, np.concatenate(inner))
        changes = self.node("MatMul", reached, self.constant(block_diag(*moved)))
        return self.node("Add", changes, self.constant([np.concatenate(first)]))

    def finish(self, made: str) -> None:
        self.node("Identity", made, output=self._operator.outputs[0].full_name)


def _moves(cuts: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The first of ``len(cuts) + 1`` intervals, and what each cut that is reached takes from one and gives the next."""
    intervals = np.eye(len(cuts) + 1)
    return intervals[0], np.diff(intervals, axis=0)


def _same_type(operator: Any) -> None:
    """The output has the type of the input and as many columns as the transformer makes."""
    columns = len(operator.raw_operator.get_feature_names_out())
    operator.outputs[0].type = type(operator.inputs[0].type)([None, columns])


def _bins(scope: Any, operator: Any, container: Any) -> None:
    """In which bin a value lies: as number, or one column for each bin."""
    nodes, fitted = _Nodes(scope, operator, container), operator.raw_operator
    inner = [edges[1:-1] for edges in fitted.bin_edges_]
    values = nodes.columns(np.repeat(np.arange(len(inner)), [len(cuts) for cuts in inner]))
    made = nodes.one_hot(values, inner)
    if fitted.encode == "ordinal":
        numbers = [np.arange(len(cuts) + 1)[:, np.newaxis] for cuts in inner]
        made = nodes.node("MatMul", made, nodes.constant(block_diag(*numbers)))
    nodes.finish(made)


def _splines(scope: Any, operator: Any, container: Any) -> None:
    """B-splines as the polynomials that they are between two knots.

    Design columns stay within the range of the training rows, and so within the knots: there is no extrapolation.
    """
    nodes, fitted = _Nodes(scope, operator, container), operator.raw_operator
    if fitted.extrapolation == "periodic":
        raise NotImplementedError("a periodic SplineTransformer does not convert: use another extrapolation")
    blocks = []
    for position, spline in enumerate(fitted.bsplines_):
        knots = spline.t[spline.k : len(spline.t) - spline.k]
        x = nodes.columns([position])
        interval = nodes.one_hot(x, [knots[1:-1]])
        beyond = nodes.node("Sub", x, nodes.node("MatMul", interval, nodes.constant(knots[:-1, np.newaxis])))
        kept = spline.c.shape[1] - (0 if fitted.include_bias else 1)
        made = ""
        for power in range(spline.k, -1, -1):
            coefficients = spline(knots[:-1], nu=power)[:, :kept] / math.factorial(power)
            term = nodes.node("MatMul", interval, nodes.constant(coefficients))
            made = nodes.node("Add", nodes.node("Mul", made, beyond), term) if made else term
        blocks.append(made)
    nodes.finish(nodes.node("Concat", *blocks, axis=1))


CONVERTERS = {KBinsDiscretizer: _bins, SplineTransformer: _splines}
SHAPES = dict.fromkeys(CONVERTERS, _same_type)
